// The slider board: one slider a channel, grouped by region; each change is played at once and held.

import { make, the } from "./dom.js";

const EVERY = 100; // ms between two messages while a slider is dragged
const REGIONS = [
  ["Brows", /^Brow/],
  ["Eyes and lids", /^Eye/],
  ["Cheeks, nose, tongue", /^(Cheek|Nose|Tongue)/],
  ["Jaw", /^Jaw/],
  ["Mouth", /^Mouth/],
  ["Head", /^Head/],
  ["Eye angles", /^(Left|Right)Eye/],
];

export class Board {
  /** `play(pose, held)` shows a pose: held until the next one, or released. */
  constructor(play) {
    this.play = play;
    this.sliders = new Map();
    this.timer = null;
    the("reset").onclick = () => this.reset();
  }

  /** Build the sliders for the channels of `welcome`. */
  build(channels) {
    if (this.sliders.size) return;
    for (const [title, pattern] of REGIONS) {
      const own = channels.filter(({ name }) => pattern.test(name));
      const sliders = own.map((channel) => this.slider(channel));
      const summary = make("summary", { textContent: `${title} (${own.length})` });
      const group = make("details", { open: title === "Brows" }, summary);
      group.append(make("div", { className: "sliders" }, ...sliders));
      the("board").append(group);
    }
  }

  slider({ name, low, high }) {
    const output = make("output", { textContent: "0" });
    const input = make("input", { type: "range", min: low, max: high, step: 0.01, value: 0, name });
    input.oninput = () => {
      output.textContent = Number(input.value).toFixed(2);
      this.changed();
    };
    this.sliders.set(name, { input, output });
    return make("label", {}, make("span", { textContent: name }), input, output);
  }

  /** Play what the sliders say, at most once every EVERY ms, the last change included. */
  changed() {
    if (this.timer !== null) {
      this.again = true;
      return;
    }
    this.again = false;
    this.play(this.pose(), true);
    this.timer = setTimeout(() => {
      this.timer = null;
      if (this.again) this.changed();
    }, EVERY);
  }

  pose() {
    const pose = {};
    for (const [name, { input }] of this.sliders) if (Number(input.value)) pose[name] = Number(input.value);
    return pose;
  }

  reset() {
    this.again = false;
    for (const { input, output } of this.sliders.values()) {
      input.value = 0;
      output.textContent = "0";
    }
    this.play({}, false);
  }
}
