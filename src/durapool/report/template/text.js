// Text for people, and elements made of text: nothing here ever reads markup.

/** A span of time: "12 ms", "3.2 s", "4 min 05 s", "2 h 03 min". */
export function duration(seconds) {
  const s = Math.max(0, seconds);
  const two = (n) => String(n).padStart(2, "0");
  if (s > 0 && s < 0.0000995) return `${(s * 1e6).toFixed(0)} µs`;
  if (s < 0.00995) return `${(s * 1000).toFixed(s ? 1 : 0)} ms`;
  if (s < 0.9995) return `${(s * 1000).toFixed(0)} ms`;
  if (s < 59.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

/** A size in memory: "512 B", "18.1 MB". */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = count;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(unit && value < 99.95 ? 1 : 0)} ${units[unit]}`;
}

export function percent(part) {
  return `${(part * 100).toFixed(part > 0 && part < 0.0995 ? 1 : 0)} %`;
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en-US")} ${number === 1 ? one : many}`;
}

/** Epoch seconds as local time; `digits` of the second's fraction. */
export function clock(at, digits = 0) {
  const date = new Date(at * 1000);
  const two = (n) => String(n).padStart(2, "0");
  const fraction = digits ? (at - Math.floor(at)).toFixed(digits).slice(1) : "";
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${fraction}`;
}

export function moment(at) {
  const date = new Date(at * 1000);
  const two = (n) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(at)}`;
}

/** An element with properties and children; strings become text. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "dataset") Object.assign(made.dataset, value);
    else if (name.startsWith("aria-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** The text as children, with the places that match a search marked. */
export function marked(text, words) {
  const lower = text.toLowerCase();
  let at = -1;
  let found = "";
  for (const word of words) {
    at = lower.indexOf(word);
    found = word;
    if (at >= 0) break;
  }
  if (at < 0 || lower.length !== text.length) return [text];
  const mark = element("mark", {}, text.slice(at, at + found.length));
  return [text.slice(0, at), mark, text.slice(at + found.length)];
}

export function byId(id) {
  return document.getElementById(id);
}
