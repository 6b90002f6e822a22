// Building elements: text goes in as text only, whatever the wire carried.

/** The element with an id. */
export const the = (id) => document.getElementById(id);

/** A new element with properties, attributes (names with "-" or "role") and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}
