// The time axis: what span is visible, and how it moves. Times are seconds on the folded axis.

import { data } from "./data.js";

export const total = data.axis.at(-1)[0] || 1e-3;
const NARROWEST = Math.max(total * 1e-7, 1e-6);

/** Epoch seconds of a place on the axis. */
export function realTime(x) {
  const corners = data.axis;
  let place = 0;
  while (place < corners.length - 2 && corners[place + 1][0] <= x) place += 1;
  const [[x0, t0], [x1, t1]] = [corners[place], corners[place + 1]];
  return x1 > x0 ? t0 + ((Math.min(Math.max(x, x0), x1) - x0) / (x1 - x0)) * (t1 - t0) : t0;
}

/** The visible span. Whoever draws it subscribes. */
export const view = {
  began: 0,
  ended: total,
  listeners: [],
  animation: 0,

  show(began, ended) {
    const span = Math.min(Math.max(ended - began, NARROWEST), total);
    const middle = (began + ended) / 2;
    this.began = Math.min(Math.max(middle - span / 2, 0), total - span);
    this.ended = this.began + span;
    for (const listener of this.listeners) listener();
  },
  /** Show so much more or less of the time, with what is at `x` kept in its place. */
  zoom(factor, x) {
    cancelAnimationFrame(this.animation);
    const span = Math.min(Math.max((this.ended - this.began) * factor, NARROWEST), total);
    const part = (x - this.began) / (this.ended - this.began);
    const began = Math.min(Math.max(x - part * span, 0), total - span);
    this.show(began, began + span);
  },
  move(seconds) {
    cancelAnimationFrame(this.animation);
    const span = this.ended - this.began;
    const began = Math.min(Math.max(this.began + seconds, 0), total - span);
    this.show(began, began + span);
  },
  /** Move there in a few frames, unless the reader prefers no motion. */
  glide(began, ended) {
    cancelAnimationFrame(this.animation);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.show(began, ended);
      return;
    }
    const from = [this.began, this.ended];
    const start = performance.now();
    const step = (now) => {
      const part = Math.min(Math.max((now - start) / 180, 0), 1);
      const eased = 1 - (1 - part) ** 3;
      this.show(from[0] + (began - from[0]) * eased, from[1] + (ended - from[1]) * eased);
      if (part < 1) this.animation = requestAnimationFrame(step);
    };
    this.animation = requestAnimationFrame(step);
  },
  fit() {
    this.glide(0, total);
  },
  /** Show a stretch with some room around it. */
  around(began, ended) {
    const room = Math.max((ended - began) * 0.75, NARROWEST);
    this.glide(began - room, ended + room);
  },
};

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

function tickStep(seconds) {
  if (seconds > 1) return STEPS.find((step) => step >= seconds) ?? 604800 * Math.ceil(seconds / 604800);
  const power = 10 ** Math.floor(Math.log10(seconds));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= seconds * 0.999);
}

/** Ticks in the visible span: [place, text]. With pauses they tell the time of day, else the time since the start. */
export function ticks(pixels) {
  const step = tickStep((view.ended - view.began) / Math.max(pixels / 110, 1));
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  const found = [];
  for (let place = 0; place + 1 < data.axis.length; place += 2) {
    const [[x0, t0], [x1]] = [data.axis[place], data.axis[place + 1]];
    const [from, to] = [Math.max(x0, view.began), Math.min(x1, view.ended)];
    if (from > to) continue;
    const origin = data.pauses.length ? new Date(data.axis[0][1] * 1000).setHours(0, 0, 0, 0) / 1000 : t0;
    for (let n = Math.ceil((t0 + from - x0 - origin) / step - 1e-6); ; n += 1) {
      const at = origin + n * step;
      const x = x0 + (at - t0);
      if (x > to) break;
      found.push([x, data.pauses.length ? clockTick(at, digits) : elapsed(n * step, digits)]);
    }
  }
  return found;
}

function clockTick(at, digits) {
  const date = new Date(at * 1000 + 1e-4);
  const two = (n) => String(n).padStart(2, "0");
  const seconds = digits ? (Math.round((at % 60) * 10 ** digits) / 10 ** digits).toFixed(digits).padStart(3 + digits, "0") : two(date.getSeconds());
  return `${two(date.getHours())}:${two(date.getMinutes())}:${seconds}`;
}

function elapsed(seconds, digits) {
  if (seconds < 60) return digits > 3 ? `${(seconds * 1000).toFixed(digits - 3)} ms` : `${seconds.toFixed(digits)} s`;
  const two = (n) => String(n).padStart(2, "0");
  const rest = (seconds % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  const minutes = Math.floor(seconds / 60 + 1e-9);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}`;
}
