// Keyframe text and levels: the words of vocabulary.json, in the units of docs/keyframe-text.md.

const DECIMALS = 3;
const SAME_ANGLE = 0.005; // rad: eye angles this near to those that the look shapes give count as given by them
const EYE_ANGLES = ["LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll"];

/** A number in tenths, as text carries it: at most three decimals, never "-0". */
export function tenths(value) {
  const text = (10 * value).toFixed(DECIMALS).replace(/\.?0+$/, "");
  return text === "-0" ? "0" : text;
}

/** The rows of a pose: {word, side ("", "L" or "R"), channels, value, signed}, zeros left out. */
export function rows(pose, words) {
  const found = [];
  for (const { word, left, right, signed } of words) {
    const a = pose[left] ?? 0;
    const b = right === null ? a : (pose[right] ?? 0);
    if (right === null || a === b) {
      const channels = right === null ? [left] : [left, right];
      if (channels.some((name) => name in pose)) found.push({ word, side: "", channels, value: a, signed });
    } else {
      if (left in pose) found.push({ word, side: "L", channels: [left], value: a, signed });
      if (right in pose) found.push({ word, side: "R", channels: [right], value: b, signed });
    }
  }
  return found;
}

/** The pose without eye angles that only follow its look shapes: they would not follow an edit. */
export function withoutDerivedAngles(pose, eyeRadians) {
  const at = (name) => pose[name] ?? 0;
  const derived = {
    LeftEyeYaw: eyeRadians * (at("EyeLookInLeft") - at("EyeLookOutLeft")),
    LeftEyePitch: eyeRadians * (at("EyeLookDownLeft") - at("EyeLookUpLeft")),
    LeftEyeRoll: 0,
    RightEyeYaw: eyeRadians * (at("EyeLookOutRight") - at("EyeLookInRight")),
    RightEyePitch: eyeRadians * (at("EyeLookDownRight") - at("EyeLookUpRight")),
    RightEyeRoll: 0,
  };
  if (EYE_ANGLES.some((name) => Math.abs(at(name) - derived[name]) > SAME_ANGLE)) return { ...pose };
  return Object.fromEntries(Object.entries(pose).filter(([name]) => !EYE_ANGLES.includes(name)));
}

/** One line of keyframe text. */
export function formatKeyframe(keyframe, vocabulary) {
  const parts = [tenths(keyframe.way) + (keyframe.hold ? `+${tenths(keyframe.hold)}` : "")];
  if (keyframe.easing !== vocabulary.default_easing) parts.push(keyframe.easing);
  for (const { word, side, value } of rows(keyframe.pose, vocabulary.words)) {
    if (tenths(value) !== "0") parts.push(`${word}${side}${tenths(value)}`);
  }
  const label = keyframe.label.replace(/[:\p{Cc}]/gu, " ").replace(/\s+/g, " ").replace(/^[# ]+/, "").trim();
  return `${label ? `${label}: ` : ""}${parts.join(" ")}\n`;
}
