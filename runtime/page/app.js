// The preview page: joins the link, the face, the timeline, the curves, the board and the status.

import { Board } from "./board.js";
import { Curves } from "./curves.js";
import { make, the } from "./dom.js";
import { drawFace, readFace } from "./face.js";
import { Link } from "./link.js";
import { Timeline } from "./timeline.js";

const LOG_LINES = 200;
const INTERACTIVE = 8; // priority of what is played by hand
const own = new URL(location.href);
const token = own.searchParams.get("token");
const query = token === null ? "" : `?token=${encodeURIComponent(token)}`;

const fetchJson = async (name) => (await fetch(`./${name}${query}`)).json();
const [face, vocabulary] = [readFace(await fetchJson("face.json")), await fetchJson("vocabulary.json")];

const session = Math.random().toString(36).slice(2, 8);
const sentAt = new Map(); // id of a text of ours: when it was sent, ms
let count = 0;
let channels = [];
let subject = null;
let moods = {}; // of each subject, as the runtime says
let newest = null; // the newest frame
let arrivals = []; // times of the frames of the last seconds, ms
let fpsAt = 0; // when the rate was shown, ms

const newId = (kind) => `${kind}-${session}-${++count}`;
const mode = () => new FormData(the("say")).get("mode");
const isBoard = (id) => id?.startsWith("board-");

const scheme = own.protocol === "https:" ? "wss" : "ws";
const link = new Link(`${scheme}://${own.host}/${query}`, receive, (state, pause) => {
  the("connection").className = state;
  the("connection").textContent =
    state === "open" ? "connected" : `runtime not reached, trying again in ${pause} s`;
  if (state !== "open") the("model").textContent = "-";
});
const curves = new Curves();
const timeline = new Timeline(vocabulary, (keyframes) =>
  playKeyframes(keyframes, { id: newId("page"), mode: "replace" }),
);
const board = new Board((pose, held) =>
  playKeyframes([{ pose, way: held ? 0.1 : 0.3 }], {
    id: newId("board"),
    mode: "replace",
    release: held ? "hold" : "auto",
  }),
);

function playKeyframes(keyframes, fields) {
  const sent = link.send({ type: "keyframes", subject, priority: INTERACTIVE, keyframes, ...fields });
  if (sent && !isBoard(fields.id)) sentAt.set(fields.id, performance.now());
  return sent ? fields.id : null;
}

// --- what arrives

const HANDLERS = { welcome, frame, model, status, keyframe };

function receive(message) {
  HANDLERS[message.type]?.(message);
  if (message.type !== "frame" && message.type !== "status" && !isBoard(message.id)) log(message);
  if (message.type === "accepted" && message.subject === subject && !isBoard(message.id)) {
    timeline.begin(message.id, titles.get(message.id) ?? null);
  }
}

function welcome(message) {
  ({ channels } = message);
  model({ state: message.model });
  the("subject").replaceChildren(...message.subjects.map((name) => make("option", { value: name, textContent: name })));
  the("subject-field").hidden = message.subjects.length < 2;
  if (!message.subjects.includes(subject)) [subject] = message.subjects;
  the("subject").value = subject;
  the("mood").replaceChildren(...message.moods.map((name) => make("option", { value: name, textContent: name })));
  showMood();
  curves.build(channels);
  board.build(channels);
  subscribe();
}

function subscribe() {
  link.send({ type: "subscribe", frames: true, events: "all", subjects: [subject] });
}

function model({ state }) {
  the("model").textContent = state;
}

function status({ late_ms, skipped, waiting, mood }) {
  the("late").textContent = `${late_ms.toFixed(2)} ms`;
  the("skipped").textContent = skipped;
  the("waiting").textContent = waiting;
  const changed = mood[subject] !== moods[subject];
  moods = mood;
  if (changed) showMood(); // else what was just chosen here would flicker
}

function showMood() {
  the("mood").value = moods[subject] ?? "";
}

function keyframe(message) {
  if (message.subject === subject && !isBoard(message.id)) timeline.arrive(message);
}

function frame(message) {
  if (message.subject !== subject) return;
  const now = performance.now();
  newest = message;
  arrivals.push(now);
  curves.add(now, message.values);
  if (message.key >= 0 && sentAt.has(message.id)) {
    the("latency").textContent = `${Math.round(now - sentAt.get(message.id))} ms`;
    sentAt.delete(message.id);
  }
}

/** What an event says, in one line. */
function describe({ type, id, reason, message, state, text, waiting, keyframes, field }) {
  const parts = [type, id, field, text ?? message ?? reason ?? state];
  if (type === "accepted" && waiting) parts.push(`behind ${waiting}`);
  if (type === "done") parts.push(`${keyframes} keyframes`);
  return parts.filter(Boolean).join("  ");
}

function log(message) {
  const bad = ["error", "failed", "dropped"].includes(message.type);
  const time = new Date().toLocaleTimeString();
  the("log").prepend(make("li", { className: bad ? "error" : "", textContent: `${time}  ${describe(message)}` }));
  while (the("log").children.length > LOG_LINES) the("log").lastElementChild.remove();
}

// --- what is sent

const titles = new Map(); // id of a text of ours: what it says

the("say").onsubmit = (event) => {
  event.preventDefault();
  const text = the("text").value.trim();
  if (!text) return;
  const id = newId("page");
  const fields = {
    background: the("background").value,
    emotion: the("emotion").value,
    intensity: Number(the("intensity").value),
    speech: the("spoken").checked,
  };
  titles.set(id, text);
  if (!link.send({ type: "say", text, id, subject, mode: mode(), ...fields })) return;
  sentAt.set(id, performance.now());
  the("text").value = "";
};
the("stop").onclick = () => link.send({ type: "stop", subject });
the("mood").onchange = ({ target }) => link.send({ type: "mood", subject, mood: target.value });
the("subject").onchange = ({ target }) => {
  subject = target.value;
  showMood();
  curves.frames = [];
  subscribe();
};

// --- light and dark

const dark = matchMedia("(prefers-color-scheme: dark)");
const THEMES = ["auto", "light", "dark"];
let chosen = localStorage.getItem("kff-live theme") ?? "auto";

const theme = () => (chosen === "auto" ? (dark.matches ? "dark" : "light") : chosen);

function showTheme() {
  document.documentElement.dataset.theme = theme();
  the("theme").textContent = `Theme: ${chosen}`;
}

the("theme").onclick = () => {
  chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
  localStorage.setItem("kff-live theme", chosen);
  showTheme();
};
dark.onchange = showTheme;
showTheme();

// --- drawing: once a screen refresh, the newest frame

let drawn = null; // what the face shows: [frame, theme, size]

function draw() {
  const now = performance.now();
  const canvas = the("face");
  const size = Math.round(canvas.clientWidth * Math.min(window.devicePixelRatio || 1, 2));
  if (size && (!drawn || drawn[0] !== newest || drawn[1] !== theme() || drawn[2] !== size)) {
    if (canvas.width !== size) canvas.width = canvas.height = size;
    const values = Object.fromEntries(channels.map(({ name }, i) => [name, newest?.values[i] ?? 0]));
    drawFace(canvas, face, values, theme());
    drawn = [newest, theme(), size];
    canvas.dataset.frame = newest?.frame ?? "";
  }
  if (newest) {
    timeline.mark(newest.id, newest.key);
    const label = timeline.label(newest.id, newest.key);
    if (the("acting").textContent !== label) the("acting").textContent = label;
    curves.draw(now);
  }
  if (now > fpsAt + 500) {
    fpsAt = now;
    arrivals = arrivals.filter((time) => time > now - 2000);
    const rate = (1000 * (arrivals.length - 1)) / (now - arrivals[0]);
    the("fps").textContent = arrivals.length > 1 ? `${rate.toFixed(1)} fps` : "none";
  }
  requestAnimationFrame(draw);
}

requestAnimationFrame(draw);
