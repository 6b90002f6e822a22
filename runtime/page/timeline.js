// The editable timeline: keyframes as they arrive, one card each; edits are played again through `keyframes`.

import { make, the } from "./dom.js";
import { formatKeyframe, rows, tenths, withoutDerivedAngles } from "./text.js";

const KEPT = 20; // texts
const MAX_SECONDS = 12;
const NEW = "new keyframes";

export class Timeline {
  /** `play(keyframes)` plays them and returns the id under which frames will say so. */
  constructor(vocabulary, play) {
    this.vocabulary = vocabulary;
    this.play = play;
    this.entries = new Map(); // id of a text: {id, title, keyframes, edited}
    this.replays = new Map(); // id of a replay: the entry it plays
    this.entry = null;
    this.current = [null, -1];
    the("utterances").onchange = ({ target }) => this.show(this.entries.get(target.value) ?? null);
    the("play").onclick = () => this.playAgain();
    the("add-keyframe").onclick = () => this.addKeyframe();
    the("copy-text").onclick = () => this.copy(this.text());
    the("copy-json").onclick = () => this.copy(this.json());
    this.render();
  }

  keyframes() {
    return this.entry?.keyframes ?? [];
  }

  text() {
    return `# kff 1\n${this.keyframes().map((keyframe) => formatKeyframe(keyframe, this.vocabulary)).join("")}`;
  }

  json() {
    return JSON.stringify({ type: "keyframes", keyframes: this.keyframes() }, null, 1);
  }

  // --- what arrives

  /** A text was accepted; `title` is what it says where this page sent it, else null. */
  begin(id, title) {
    if (this.replays.has(id)) return;
    this.entries.set(id, { id, title: title ?? id, own: title !== null, keyframes: [], edited: false });
    for (const old of this.entries.values()) {
      if (this.entries.size <= KEPT) break;
      if (old !== this.entry) this.entries.delete(old.id);
    }
    this.list();
  }

  /** A keyframe was parsed. */
  arrive({ id, index, keyframe }) {
    if (this.replays.has(id)) return;
    if (!this.entries.has(id)) this.begin(id, null);
    const entry = this.entries.get(id);
    const { way = 0.4, hold = 0, easing = this.vocabulary.default_easing, label = "", pose = {} } = keyframe;
    const own = withoutDerivedAngles(pose, this.vocabulary.eye_radians);
    entry.keyframes[index] = { label, way, hold, easing, pose: own };
    if (this.entry === entry) {
      if (!entry.edited) this.render();
    } else if (entry.own || !this.entry?.edited) {
      this.show(entry);
    }
  }

  /** The face travels to or holds key `key` of text `id`. */
  mark(id, key) {
    const own = this.replays.get(id) ?? this.entries.get(id);
    const now = own && own === this.entry ? key : -1;
    if (this.current[0] === this.entry && this.current[1] === now) return;
    this.current = [this.entry, now];
    for (const element of document.querySelectorAll("#axis [data-key], #keyframes > li")) {
      element.classList.toggle("current", Number(element.dataset.key) === now);
    }
  }

  /** The label of a key, for those who cannot see the face. */
  label(id, key) {
    return (this.replays.get(id) ?? this.entries.get(id))?.keyframes[key]?.label ?? "";
  }

  // --- what is edited

  edited() {
    if (this.entry) this.entry.edited = true;
    this.drawAxis();
    this.list();
  }

  playAgain() {
    if (!this.keyframes().length) return;
    const id = this.play(this.keyframes());
    if (id) this.replays.set(id, this.entry);
  }

  addKeyframe() {
    if (!this.entry) {
      this.begin(NEW, NEW);
      this.entry = this.entries.get(NEW);
    }
    this.entry.keyframes.push({ label: "", way: 0.4, hold: 0.4, easing: this.vocabulary.default_easing, pose: {} });
    this.edited();
    this.render();
    the("keyframes").lastElementChild.querySelector("input").focus();
  }

  async copy(text) {
    the("copy-out").value = text;
    the("copy-out").hidden = false;
    try {
      await navigator.clipboard.writeText(text);
      the("copied").textContent = "copied";
    } catch {
      the("copy-out").select(); // without https the browser leaves copying to the person
      the("copied").textContent = "press Ctrl+C";
    }
  }

  // --- drawing it

  show(entry) {
    this.entry = entry;
    this.render();
    this.list();
  }

  list() {
    const title = (entry) => `${entry.title.slice(0, 60)}${entry.edited ? " (edited)" : ""}`;
    const newestFirst = [...this.entries.values()].reverse();
    const options = newestFirst.map((entry) => make("option", { value: entry.id, textContent: title(entry) }));
    if (!options.length) options.push(make("option", { value: "", textContent: "no text yet" }));
    the("utterances").replaceChildren(...options);
    if (this.entry) the("utterances").value = this.entry.id;
  }

  render() {
    the("keyframes").replaceChildren(...this.keyframes().map((keyframe, i) => this.card(keyframe, i)));
    this.drawAxis();
    this.current = [null, -1];
    the("copy-out").hidden = true;
    the("copied").textContent = "";
    for (const id of ["play", "copy-text", "copy-json"]) the(id).disabled = !this.keyframes().length;
  }

  /** Ways hatched, holds solid, as wide as they are long. */
  drawAxis() {
    const parts = this.keyframes().flatMap(({ label, way, hold }, i) => {
      const part = (kind, seconds, text) => {
        const element = make("span", { className: kind, textContent: text, "data-key": i });
        element.style.flex = `${seconds} 1 0`;
        return element;
      };
      return hold > 0 ? [part("way", way, ""), part("hold", hold, label)] : [part("way", Math.max(way, 0.02), label)];
    });
    the("axis").replaceChildren(...parts);
  }

  card(keyframe, i) {
    const card = make("li", { "data-key": i });
    const again = () => card.replaceWith(this.card(keyframe, i));
    const named = { placeholder: "label", "aria-label": `label of keyframe ${i + 1}` };
    const text = make("input", { type: "text", value: keyframe.label, maxLength: 60, ...named });
    text.oninput = () => {
      keyframe.label = text.value;
      this.edited();
    };
    const remove = make("button", { type: "button", textContent: "×", "aria-label": `remove keyframe ${i + 1}` });
    remove.onclick = () => {
      this.entry.keyframes.splice(i, 1);
      this.edited();
      this.render();
      the("add-keyframe").focus();
    };
    card.append(make("div", { className: "card-head" }, text, remove));
    const times = [this.seconds(keyframe, "way"), this.seconds(keyframe, "hold"), this.easing(keyframe)];
    card.append(make("div", { className: "row" }, ...times));
    for (const row of rows(keyframe.pose, this.vocabulary.words)) card.append(this.level(keyframe, row, again));
    card.append(this.adder(keyframe, i));
    return card;
  }

  seconds(keyframe, field) {
    const value = Number(keyframe[field].toFixed(3));
    const input = make("input", { type: "number", min: 0, max: MAX_SECONDS, step: 0.1, value });
    input.oninput = () => {
      const seconds = Number(input.value);
      if (input.value === "" || seconds < 0 || seconds > MAX_SECONDS) return;
      keyframe[field] = seconds;
      this.edited();
    };
    return make("label", {}, `${field} `, input, " s");
  }

  easing(keyframe) {
    const options = this.vocabulary.easings.map((name) => make("option", { value: name, textContent: name }));
    const select = make("select", { "aria-label": "easing" }, ...options);
    select.value = keyframe.easing;
    select.onchange = () => {
      keyframe.easing = select.value;
      this.edited();
    };
    return select;
  }

  /** One row: a word's level from 0 to 10, -10 to 10 for rotations. */
  level(keyframe, { word, side, channels, value, signed }, again) {
    const name = side ? `${word} ${side}` : word;
    const output = make("output", { textContent: tenths(value) });
    const range = { type: "range", min: signed ? -10 : 0, max: 10, step: 0.1, value: 10 * value };
    const slider = make("input", { ...range, "aria-label": `${name}, level` });
    slider.oninput = () => {
      for (const channel of channels) keyframe.pose[channel] = Number(slider.value) / 10;
      output.textContent = tenths(Number(slider.value) / 10);
      this.edited();
    };
    const remove = make("button", { type: "button", textContent: "×", "aria-label": `remove ${name}` });
    remove.onclick = () => {
      for (const channel of channels) delete keyframe.pose[channel];
      this.edited();
      again();
    };
    const row = make("div", { className: "level" }, make("span", { textContent: name }), slider, output, remove);
    row.dataset.word = word + side;
    return row;
  }

  adder(keyframe, i) {
    const sided = (word) => [word, `${word} L`, `${word} R`];
    const options = this.vocabulary.words.flatMap(({ word, right }) => (right === null ? [word] : sided(word)));
    const select = make("select", { "aria-label": `add a channel to keyframe ${i + 1}` });
    select.append(make("option", { value: "", textContent: "add a channel" }));
    select.append(...options.map((name) => make("option", { value: name, textContent: name })));
    select.onchange = () => {
      const [word, side] = select.value.split(" ");
      const { left, right } = this.vocabulary.words.find((name) => name.word === word);
      const both = right === null ? [left] : [left, right];
      for (const channel of side === "L" ? [left] : side === "R" ? [right] : both) keyframe.pose[channel] = 0.5;
      this.edited();
      const card = this.card(keyframe, i);
      document.querySelector(`#keyframes > li[data-key="${i}"]`).replaceWith(card);
      (card.querySelector(`[data-word="${word}${side ?? ""}"] input`) ?? card.querySelector("select")).focus();
    };
    return select;
  }
}
