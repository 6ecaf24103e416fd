// Elements and texts. Text is only ever set as text, so nothing that a customer wrote is read as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = id => document.getElementById(id);

/** An element with these attributes, and with children that are elements or texts. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in a drawing. */
export function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

/** Sets a text, if it is another one: a screen reader says again what is set again. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/gu;

/** What ends a line or a column in a text that has several lines. */
const LAYOUT = ["\n", "\t"];

/** A text from outside, with a name in place of each character that would be invisible or turn the text around it. */
export function visible(text, hasLines = false) {
  const name = character => {
    if (hasLines && LAYOUT.includes(character)) return character;
    const code = character.codePointAt(0);
    return code < 0x20 ? String.fromCodePoint(0x2400 + code) : `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
  };
  return String(text).replace(INVISIBLE, name);
}

/** A text from outside that does not turn its neighbours around, and is cut to a few lines: its title is the whole. */
export function foreign(text, longest = 300) {
  const shown = visible(text);
  const cut = shown.length > longest ? `${shown.slice(0, longest)}…` : shown;
  return element("bdi", { class: "long", title: shown.length > longest ? shown.slice(0, 2000) : null }, cut);
}

/** The time of day, with the date if it is another day. */
export function time(rfc3339) {
  if (!rfc3339) return "";
  const at = new Date(rfc3339);
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? at.toLocaleTimeString() : at.toLocaleString();
}

export const count = number => Number(number).toLocaleString("en-US");

export const calls = number => (number === 1 ? "1 call" : `${count(number)} calls`);

export const tries = number => (number === 1 ? "1 try" : `${count(number)} tries`);

/** A duration in its largest unit. */
export function duration(seconds) {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}
