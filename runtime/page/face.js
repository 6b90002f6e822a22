// The drawn face: reads face.json and fills a pose's polygons on a canvas, by the rules that runtime/face.py states.

const SAMPLES = 8; // straight lines between two points of a curve
const CIRCLE = 24; // corners of a circle
const RINGS = 8; // discs of which a glow is made
const HEAD = ["HeadYaw", "HeadPitch", "HeadRoll"];

// --- reading and mirroring

const other = (name) =>
  name.endsWith("L") ? `${name.slice(0, -1)}R` : name.endsWith("R") ? `${name.slice(0, -1)}L` : name;

const partner = (channel) =>
  channel.includes("Left")
    ? channel.replace("Left", "Right")
    : channel.includes("Right")
      ? channel.replace("Right", "Left")
      : channel;

/** The mirrored channels of a key, and the sign that it takes. */
function mirroredKey(key) {
  const channels = key.split("&");
  const turned = channels.filter((name) => /^(Head|LeftEye|RightEye)(Yaw|Roll)$/.test(name));
  return [channels.map(partner).join("&"), turned.length % 2 ? -1 : 1];
}

function mirroredWeights(weights) {
  if (typeof weights !== "object") return weights;
  const found = {};
  for (const [key, value] of Object.entries(weights)) {
    const [name, sign] = key ? mirroredKey(key) : ["", 1];
    found[name] = sign * value;
  }
  return found;
}

function mirroredPath(path) {
  const turn = mirroredWeights(path.turn ?? {});
  for (const key of Object.keys(turn)) turn[key] = -turn[key];
  return {
    ...path,
    name: other(path.name),
    points: path.points?.map(other),
    circle: path.circle && other(path.circle),
    spokes: path.spokes && other(path.spokes),
    glow: path.glow && other(path.glow),
    angles: path.angles?.map((angle) => 180 - angle),
    turn,
    opacity: mirroredWeights(path.opacity ?? 1),
    clip: path.clip && other(path.clip),
  };
}

/** A path given by its left half continues with the mirrored half, back to where it began. */
function whole(path) {
  if (!path.half) return path;
  const back = path.half.filter((name) => other(name) !== name).map(other).reverse();
  return { ...path, points: [...path.half, ...back] };
}

function allMoves(given) {
  const found = {};
  for (const [key, moves] of Object.entries(given)) {
    const [name, sign] = mirroredKey(key);
    const mirrored = {};
    for (const [point, [x, y, z]] of Object.entries(moves)) mirrored[other(point)] = [-sign * x, sign * y, sign * z];
    if (name === key) {
      found[key] = { ...mirrored, ...moves };
    } else {
      found[key] = moves;
      found[name] = mirrored;
    }
  }
  return found;
}

/** The geometry of face.json, mirrored. */
export function readFace(file) {
  const points = {};
  for (const [name, values] of Object.entries(file.points)) {
    points[name] = values;
    if (name.endsWith("L")) points[other(name)] = [-values[0], ...values.slice(1)];
  }
  const moves = Object.entries(allMoves(file.moves)).map(([key, by]) => [key.split("&"), Object.entries(by)]);
  const order = file.order.flatMap(([a, b, share]) =>
    a.endsWith("L") ? [[a, b, share], [other(a), other(b), share]] : [[a, b, share]],
  );
  const paths = file.paths.flatMap((path) =>
    path.name.endsWith("L") ? [whole(path), mirroredPath(path)] : [whole(path)],
  );
  const named = Object.fromEntries(paths.map((path) => [path.name, path]));
  return { ...file, points, moves, order, paths, named };
}

// --- evaluating

/** What to fill, in this order: outline [[x, y], ...] in view units, colour, opacity, clip outline or null. */
export function patches(face, values) {
  const at = (channel) => values[channel] ?? 0;
  const term = (key) => (key ? Math.min(...key.split("&").map(at)) : 1);
  const placed = place(face, at);
  const angles = HEAD.map((name) => face.turn * Math.tanh(at(name) / face.turn));
  const outlines = new Map();

  const weigh = (weights) => {
    if (typeof weights !== "object") return weights;
    let sum = 0;
    for (const [key, weight] of Object.entries(weights)) sum += term(key) * weight;
    return Math.min(1, Math.max(0, sum));
  };
  const around = (centre, offsets) => {
    const [x, y, z] = placed[centre];
    return offsets.map(([dx, dy]) => project(face, angles, [x + dx, y + dy, z], face.points[centre]));
  };
  const circle = (centre, [rx, ry], scale) =>
    around(
      centre,
      Array.from({ length: CIRCLE }, (_, i) => {
        const angle = (2 * Math.PI * i) / CIRCLE;
        return [scale * rx * Math.cos(angle), scale * ry * Math.sin(angle)];
      }),
    );
  const outline = (path) => {
    if (path.circle) return circle(path.circle, path.radius, 1);
    let line = outlines.get(path.name);
    if (!line) {
      const bare = path.points.map((name) => name.replace("!", ""));
      const corners = path.points.map((name) => name.startsWith("!"));
      line = curve(
        bare.map((name) => project(face, angles, placed[name], face.points[name])),
        corners,
        path.closed ?? true,
      );
      outlines.set(path.name, line);
    }
    return line;
  };
  const spokes = (path) => {
    let turn = 0;
    for (const [key, weight] of Object.entries(path.turn ?? {})) turn += term(key) * weight;
    return path.angles.map((degrees) => {
      const angle = (degrees * Math.PI) / 180 + turn;
      const ends = path.radius.map((r) => [r * Math.cos(angle), r * Math.sin(angle)]);
      return band(face, around(path.spokes, ends), path.width);
    });
  };

  const found = [];
  for (const path of face.paths) {
    const opacity = weigh(path.opacity ?? 1);
    if (opacity <= 0.002 || !(path.fill || path.stroke)) continue;
    const clip = path.clip ? outline(face.named[path.clip]) : null;
    if (path.glow) {
      for (let ring = 1; ring <= RINGS; ring++) {
        const disc = circle(path.glow, path.radius, ring / RINGS);
        found.push({ outline: disc, colour: path.fill, opacity: opacity / RINGS, clip });
      }
    } else if (path.spokes) {
      for (const line of spokes(path)) found.push({ outline: line, colour: path.stroke, opacity, clip });
    } else {
      const line = outline(path);
      if (path.fill) found.push({ outline: line, colour: path.fill, opacity, clip });
      if (path.stroke) {
        const run = (path.closed ?? true) ? [...line, line[0]] : line;
        found.push({ outline: band(face, run, path.width), colour: path.stroke, opacity, clip });
      }
    }
  }
  return found;
}

/** Points moved by their channels, then kept in order. */
function place(face, at) {
  const placed = {};
  for (const [name, [x, y, z]] of Object.entries(face.points)) placed[name] = [x, y, z];
  for (const [channels, by] of face.moves) {
    const weight = Math.min(...channels.map(at));
    if (!weight) continue;
    for (const [name, [x, y, z]] of by) {
      const point = placed[name];
      point[0] += weight * x;
      point[1] += weight * y;
      point[2] += weight * z;
    }
  }
  for (const [upper, lower, share] of face.order) {
    const a = placed[upper];
    const b = placed[lower];
    if (a[1] > b[1]) a[1] = b[1] = b[1] + share * (a[1] - b[1]);
  }
  return placed;
}

/** A point turned with the head, seen from the camera, in view units. */
function project(face, angles, point, [, , , turned = 1, rolled = 1]) {
  const [yaw, pitch, roll] = [angles[0] * turned, angles[1] * turned, angles[2] * rolled];
  let x = point[0] - face.pivot[0];
  let y = point[1] - face.pivot[1];
  let z = point[2] - face.pivot[2];
  [x, z] = [x * Math.cos(yaw) + z * Math.sin(yaw), z * Math.cos(yaw) - x * Math.sin(yaw)];
  [y, z] = [y * Math.cos(pitch) - z * Math.sin(pitch), z * Math.cos(pitch) + y * Math.sin(pitch)];
  [x, y] = [x * Math.cos(roll) - y * Math.sin(roll), x * Math.sin(roll) + y * Math.cos(roll)];
  const scale = face.camera / (face.camera - z);
  const [left, top, size] = face.view;
  return [(face.pivot[0] + x * scale - left) / size, (face.pivot[1] + y * scale - top) / size];
}

/** A smooth line through points; closed ones do not repeat their first point. */
function curve(points, corners, closed) {
  const n = points.length;
  const found = [];
  for (let i = 0; i < (closed ? n : n - 1); i++) {
    const j = (i + 1) % n;
    const [a, b] = [points[i], points[j]];
    const before = (closed || i > 0) && !corners[i] ? points[(i + n - 1) % n] : a;
    const after = (closed || j < n - 1) && !corners[j] ? points[(j + 1) % n] : b;
    for (let k = 0; k < SAMPLES; k++) {
      const s = k / SAMPLES;
      const h = s * s * (3 - 2 * s);
      const into = (s * (1 - s) ** 2) / 2;
      const out = (s * s * (1 - s)) / 2;
      found.push([0, 1].map((c) => a[c] * (1 - h) + b[c] * h + (b[c] - before[c]) * into - (after[c] - a[c]) * out));
    }
  }
  if (!closed) found.push(points[n - 1]);
  return found;
}

/** The outline of a stroke: along one edge and back along the other. */
function band(face, line, [first, middle, last]) {
  const n = line.length;
  const edge = [];
  const back = [];
  for (let i = 0; i < n; i++) {
    const a = line[Math.max(i - 1, 0)];
    const b = line[Math.min(i + 1, n - 1)];
    const length = Math.max(Math.hypot(b[0] - a[0], b[1] - a[1]), 1e-9);
    const t = i / (n - 1);
    const width = first * (1 - t) * (1 - 2 * t) + middle * 4 * t * (1 - t) + last * t * (2 * t - 1);
    const half = width / face.view[2] / 2 / length;
    const [nx, ny] = [-(b[1] - a[1]) * half, (b[0] - a[0]) * half];
    edge.push([line[i][0] + nx, line[i][1] + ny]);
    back.push([line[i][0] - nx, line[i][1] - ny]);
  }
  return [...edge, ...back.reverse()];
}

// --- drawing

function trace(context, outline, size) {
  context.beginPath();
  for (const [x, y] of outline) context.lineTo(x * size, y * size);
  context.closePath();
}

/** Draws the face over the whole of a square canvas; `values` maps channel names to numbers. */
export function drawFace(canvas, face, values, theme) {
  const context = canvas.getContext("2d");
  const palette = face.palette[theme];
  const size = canvas.width;
  context.fillStyle = palette.background;
  context.fillRect(0, 0, size, size);
  for (const { outline, colour, opacity, clip } of patches(face, values)) {
    if (clip) {
      context.save();
      trace(context, clip, size);
      context.clip();
    }
    context.globalAlpha = opacity;
    context.fillStyle = palette[colour];
    trace(context, outline, size);
    context.fill();
    if (clip) context.restore();
  }
  context.globalAlpha = 1;
}
