// The overview to choose a span in, the ruler, and CPU and memory over time.

import { bytes, duration } from "./text.js";
import { bars, data, laneStart } from "./data.js";
import { total, view } from "./axis.js";
import { blank, colour, stripes } from "./painting.js";
import { GUTTER, LANES, STATE, barColour, curvesCanvas, line, overview, stage, timeOf, xOf } from "./stage.js";

const RULER = 24;
const CPU_HEIGHT = 84;
const MEMORY_TOP = RULER + CPU_HEIGHT + 14;
const MEMORY_HEIGHT = 40;
const CURVES_HEIGHT = MEMORY_TOP + MEMORY_HEIGHT + 10;
const OVERVIEW_HEIGHT = 40;
const BIN_COUNT = data.curves.memory.length;
const CPU_TOP = Math.max(data.execution.cpus, ...data.curves.branches.map((value, bin) => value + data.curves.handler[bin])) * 1.12;
const MEMORY_MOST = Math.max(...data.curves.memory, 1) * 1.15;

let overviewPicture = null;

/** After a change of the theme or of the size. */
export function forgetOverview() {
  overviewPicture = null;
}

export function paintOverview() {
  const pen = blank(overview, stage.width, OVERVIEW_HEIGHT);
  overviewPicture ??= drawnOverview();
  pen.drawImage(overviewPicture, 0, 0, stage.width, OVERVIEW_HEIGHT);
  const at = (time) => GUTTER + (time / total) * (stage.width - GUTTER);
  const [x0, x1] = [at(view.began), at(view.ended)];
  pen.fillStyle = colour("card");
  pen.globalAlpha = 0.7;
  pen.fillRect(GUTTER, 0, x0 - GUTTER, OVERVIEW_HEIGHT);
  pen.fillRect(x1, 0, stage.width - x1, OVERVIEW_HEIGHT);
  pen.globalAlpha = 1;
  pen.strokeStyle = colour(view.ended - view.began < total * 0.999 ? "accent" : "line");
  pen.strokeRect(x0 + 0.5, 0.5, Math.max(x1 - x0 - 1, 2), OVERVIEW_HEIGHT - 1);
}

function drawnOverview() {
  const canvas = document.createElement("canvas");
  const pen = blank(canvas, stage.width, OVERVIEW_HEIGHT);
  pen.fillStyle = colour("sunken");
  pen.fillRect(GUTTER, 0, stage.width - GUTTER, OVERVIEW_HEIGHT);
  const each = (OVERVIEW_HEIGHT - 6) / Math.max(LANES, 1);
  for (let lane = 0; lane < LANES; lane += 1) {
    let reached = -1;
    for (let bar = laneStart[lane]; bar < laneStart[lane + 1]; bar += 1) {
      const x0 = GUTTER + (bars.began[bar] / total) * (stage.width - GUTTER);
      const x1 = Math.max(GUTTER + (bars.ended[bar] / total) * (stage.width - GUTTER), x0 + 0.6);
      if (x1 - reached < 0.4 && bars.state[bar] !== STATE.failed) continue;
      pen.fillStyle = barColour(bar);
      pen.fillRect(x0, 3 + lane * each, x1 - x0, Math.max(each - 0.6, 0.8));
      reached = x1;
    }
  }
  return canvas;
}

/** Everything on the canvas above the lanes. */
export function paintCurves(marks) {
  const pen = blank(curvesCanvas, stage.width, CURVES_HEIGHT);
  paintRuler(pen, marks);
  paintCpu(pen);
  paintMemory(pen);
}

function paintRuler(pen, marks) {
  pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = "middle";
  pen.strokeStyle = colour("line");
  const labels = paintPauses(pen, CURVES_HEIGHT, true);
  pen.fillStyle = colour("soft");
  for (const [time, text] of marks) {
    const x = Math.round(xOf(time)) + 0.5;
    const end = x + 4 + pen.measureText(text).width;
    line(pen, x, RULER - 5, x, CURVES_HEIGHT);
    if (end < stage.width && labels.every(([from, to]) => end < from || x > to)) pen.fillText(text, x + 4, 11);
  }
  paintCrosshair(pen, CURVES_HEIGHT);
}

/** Stripes where time was folded; the stretches that their labels take. */
export function paintPauses(pen, height, labelled) {
  const labels = [];
  for (const [at, long, seconds] of data.pauses) {
    const [x0, x1] = [Math.max(xOf(at), GUTTER), xOf(at + long)];
    if (x1 < GUTTER || x0 > stage.width) continue;
    pen.fillStyle = stripes(pen, "strong-line");
    pen.fillRect(x0, labelled ? RULER : 0, x1 - x0, height);
    if (!labelled) continue;
    const text = `paused ${duration(seconds)}`;
    const room = pen.measureText(text).width;
    const x = Math.min(Math.max((x0 + x1 - room) / 2, GUTTER), stage.width - room - 4);
    pen.fillStyle = colour("warn");
    if (labels.every(([from, to]) => x + room < from || x > to)) pen.fillText(text, x, 11);
    labels.push([x - 4, x + room + 8]);
  }
  return labels;
}

export function paintCrosshair(pen, height) {
  if (!stage.pointer || stage.pointer.canvas === overview || stage.pointer.x < GUTTER) return;
  pen.strokeStyle = colour("strong-line");
  line(pen, Math.round(stage.pointer.x) + 0.5, 0, Math.round(stage.pointer.x) + 0.5, height);
}

function summed(values) {
  const sums = new Float64Array(values.length + 1);
  values.forEach((value, bin) => {
    sums[bin + 1] = sums[bin] + value;
  });
  return sums;
}

const sums = { branches: summed(data.curves.branches), handler: summed(data.curves.handler) };

/** The mean of a curve over a stretch of time, the bins at its edges in part. */
export function mean(curve, began, ended) {
  const until = (time) => {
    const place = Math.min(Math.max((time / total) * BIN_COUNT, 0), BIN_COUNT);
    const bin = Math.min(Math.floor(place), BIN_COUNT - 1);
    return sums[curve][bin] + (place - bin) * data.curves[curve][bin];
  };
  return (until(ended) - until(began)) / (((ended - began) / total) * BIN_COUNT);
}

export function memoryAt(began, ended) {
  const first = Math.min(Math.max(Math.floor((began / total) * BIN_COUNT), 0), BIN_COUNT - 1);
  const last = Math.min(Math.max(Math.ceil((ended / total) * BIN_COUNT), first + 1), BIN_COUNT);
  let most = 0;
  for (let bin = first; bin < last; bin += 1) most = Math.max(most, data.curves.memory[bin]);
  return most;
}

/** Fill below a curve that `value` gives for each column of pixels; `floor` is what it stands on. */
function area(pen, bottom, value, floor) {
  pen.beginPath();
  for (let x = GUTTER; x <= stage.width; x += 1) pen.lineTo(x, bottom - value(x));
  for (let x = stage.width; x >= GUTTER; x -= 1) pen.lineTo(x, bottom - floor(x));
  pen.closePath();
  pen.fill();
}

function paintCpu(pen) {
  const [bottom, scale] = [RULER + CPU_HEIGHT, (CPU_HEIGHT - 2) / CPU_TOP];
  const column = (curve) => Float64Array.from({ length: stage.width + 2 }, (_, x) => mean(curve, timeOf(x), timeOf(x + 1)) * scale);
  const [handler, branches] = [column("handler"), column("branches")];
  pen.globalAlpha = 0.75;
  pen.fillStyle = colour("handler");
  area(pen, bottom, (x) => handler[x], () => 0);
  pen.fillStyle = colour("cpu");
  area(pen, bottom, (x) => handler[x] + branches[x], (x) => handler[x]);
  pen.globalAlpha = 1;
  const y = Math.round(bottom - data.execution.cpus * scale) + 0.5;
  pen.strokeStyle = colour("soft");
  pen.setLineDash([4, 4]);
  line(pen, GUTTER, y, stage.width, y);
  pen.setLineDash([]);
  axisLabel(pen, "CPUs in use", bottom, [[data.execution.cpus, y], [0, bottom]], RULER + CPU_HEIGHT / 2);
}

function paintMemory(pen) {
  const [bottom, scale] = [MEMORY_TOP + MEMORY_HEIGHT, (MEMORY_HEIGHT - 2) / MEMORY_MOST];
  const values = Float64Array.from({ length: stage.width + 2 }, (_, x) => memoryAt(timeOf(x), timeOf(x + 1)) * scale);
  pen.globalAlpha = 0.7;
  pen.fillStyle = colour("memory");
  area(pen, bottom, (x) => values[x], () => 0);
  pen.globalAlpha = 1;
  const most = MEMORY_MOST / 1.15;
  axisLabel(pen, "Memory", bottom, most > 1 ? [[bytes(most), bottom - most * scale]] : [], MEMORY_TOP + MEMORY_HEIGHT / 2 + 6);
}

function axisLabel(pen, text, bottom, values, middle) {
  pen.strokeStyle = colour("strong-line");
  line(pen, GUTTER, bottom + 0.5, stage.width, bottom + 0.5);
  pen.fillStyle = colour("text");
  pen.textAlign = "left";
  pen.fillText(text, 0, middle);
  pen.fillStyle = colour("soft");
  pen.textAlign = "right";
  for (const [value, y] of values) pen.fillText(String(value), GUTTER - 6, Math.min(y + 3, bottom - 2));
  pen.textAlign = "left";
}
