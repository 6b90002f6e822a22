// Live curves: chosen channels, or those that move most, over the last seconds.

import { make, the } from "./dom.js";

const SECONDS = 5;
const MOST = 6; // curves at a time
const CHOOSE_EVERY = 700; // ms
const COLOURS = ["#1f77b4", "#d1641c", "#2e9a4c", "#c23b6b", "#8a63c9", "#9a7b22"];
const DASHES = [[], [8, 4], [2, 3], [12, 3, 2, 3], [5, 5], [1, 5]];

export class Curves {
  constructor() {
    this.frames = []; // [time in ms, values]
    this.chosen = [];
    this.chosenAt = 0;
    this.canvas = the("curves");
    the("curve-add").onchange = ({ target }) => {
      the("busiest").checked = false;
      if (target.value) this.choose([...new Set([...this.chosen, target.value])].slice(-MOST));
      target.value = "";
    };
  }

  /** The names that a curve can have. */
  build(channels) {
    this.channels = channels;
    this.index = new Map(channels.map(({ name }, i) => [name, i]));
    const names = channels.map(({ name }) => make("option", { value: name, textContent: name }));
    the("curve-add").replaceChildren(make("option", { value: "", textContent: "a channel" }), ...names);
    if (!this.chosen.length) this.choose(["BrowInnerUp", "EyeBlinkLeft", "JawOpen", "MouthSmileLeft", "HeadYaw"]);
  }

  /** Keep one frame. */
  add(now, values) {
    this.frames.push([now, values]);
    while (this.frames[0][0] < now - 1000 * SECONDS) this.frames.shift();
  }

  choose(names) {
    if (names.join() === this.chosen.join()) return;
    this.chosen = names;
    the("legend").replaceChildren(
      ...names.map((name, i) => {
        const remove = make("button", { type: "button", textContent: "×", "aria-label": `remove ${name}` });
        remove.onclick = () => {
          the("busiest").checked = false;
          this.choose(this.chosen.filter((other) => other !== name));
        };
        return make("li", {}, sample(i), ` ${name} `, make("span", { className: "value" }), remove);
      }),
    );
  }

  /** The channels with the widest range of late, while some move. */
  chooseBusiest(now) {
    const inUse = the("legend").contains(document.activeElement);
    if (!the("busiest").checked || now < this.chosenAt + CHOOSE_EVERY || inUse) return;
    this.chosenAt = now;
    const ranges = this.channels.map(({ name }, i) => {
      let [low, high] = [Infinity, -Infinity];
      for (const [, values] of this.frames) {
        low = Math.min(low, values[i]);
        high = Math.max(high, values[i]);
      }
      return [high - low, name];
    });
    const left = (name) => ranges[this.index.get(name.replace(/Right$/, "Left"))][0];
    const alike = (range, name) => name.endsWith("Right") && Math.abs(left(name) - range) < 0.02;
    const moving = ranges.filter(([range, name]) => range > 0.02 && !alike(range, name)).sort(([a], [b]) => b - a);
    if (moving.length) this.choose(moving.slice(0, MOST).map(([, name]) => name).sort());
  }

  draw(now) {
    this.chooseBusiest(now);
    const { canvas } = this;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const x = (time) => width * (1 - (now - time) / (1000 * SECONDS));
    const y = (value) => height * (0.52 - 0.45 * value);
    context.lineWidth = scale;
    context.setLineDash([]);
    context.strokeStyle = "#8886";
    for (const level of [-1, 0, 1]) line(context, [[0, y(level)], [width, y(level)]]);
    context.lineWidth = 2 * scale;
    this.chosen.forEach((name, i) => {
      const at = this.index.get(name);
      context.strokeStyle = COLOURS[i];
      context.setLineDash(DASHES[i].map((length) => length * scale));
      line(context, this.frames.map(([time, values]) => [x(time), y(values[at])]));
      const last = this.frames.at(-1);
      the("legend").children[i].querySelector(".value").textContent = last ? last[1][at].toFixed(2) : "";
    });
  }
}

function line(context, points) {
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.stroke();
}

/** A piece of a curve's line, for the legend. */
function sample(i) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const stroke = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", "0 0 28 8");
  svg.setAttribute("aria-hidden", "true");
  stroke.setAttribute("d", "M0 4H28");
  stroke.setAttribute("stroke", COLOURS[i]);
  stroke.setAttribute("stroke-width", "2.5");
  stroke.setAttribute("stroke-dasharray", DASHES[i].join(" ") || "none");
  svg.append(stroke);
  return svg;
}
