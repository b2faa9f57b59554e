// The timeline: an overview to choose a span in, CPU and memory over time, and the bars of branches on lanes.
// Everything is painted on three canvases, at most once a frame, and only what is visible.

import { bytes, clock, duration, element, byId, percent } from "./text.js";
import { bars, barName, barOf, batchNames, batchOf, children, data, hueOf, isBatch, kindOf, laneStart, operations, statusOf } from "./data.js";
import { realTime, ticks, total, view } from "./axis.js";
import { blank, colour, fittedText, stripes } from "./painting.js";

const GUTTER = 92; // pixels for the labels on the left
const RULER = 24;
const CPU_HEIGHT = 84;
const MEMORY_TOP = RULER + CPU_HEIGHT + 14;
const MEMORY_HEIGHT = 40;
const CURVES_HEIGHT = MEMORY_TOP + MEMORY_HEIGHT + 10;
const OVERVIEW_HEIGHT = 40;
const [BIN_COUNT, LANES] = [data.curves.memory.length, data.lanes.length];
const STATE = Object.fromEntries(bars.states.map((name, place) => [name, place]));
const LANE_HEIGHT = LANES > 40 ? 16 : LANES > 16 ? 20 : 26;
const CPU_TOP = Math.max(data.execution.cpus, ...data.curves.branches.map((value, bin) => value + data.curves.handler[bin])) * 1.12;
const MEMORY_MOST = Math.max(...data.curves.memory, 1) * 1.15;

const timeline = byId("timeline");
const [overview, curvesCanvas, lanesCanvas, scroller] = ["overview", "curves", "lanes", "lanes-scroll"].map(byId);
let app = null;
let width = 0;
let pending = false;
let pointer = null; // {x, y, canvas} in CSS pixels of that canvas
let overviewPicture = null;

const xOf = (time) => GUTTER + ((time - view.began) / (view.ended - view.began)) * (width - GUTTER);
const timeOf = (x) => view.began + ((x - GUTTER) / (width - GUTTER)) * (view.ended - view.began);

/** Paint in the next frame. */
export function repaint() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    paint();
  });
}

/** After a change of the theme or of the size. */
export function repaintAll() {
  overviewPicture = null;
  repaint();
}

function paint() {
  width = scroller.clientWidth;
  const pen = blank(curvesCanvas, width, CURVES_HEIGHT);
  const marks = ticks(width - GUTTER);
  paintOverview();
  paintRuler(pen, marks);
  paintCpu(pen);
  paintMemory(pen);
  paintLanes(marks);
  timeline.dataset.began = view.began;
  timeline.dataset.ended = view.ended;
}

// The overview

function paintOverview() {
  const pen = blank(overview, width, OVERVIEW_HEIGHT);
  overviewPicture ??= drawnOverview();
  pen.drawImage(overviewPicture, 0, 0, width, OVERVIEW_HEIGHT);
  const at = (time) => GUTTER + (time / total) * (width - GUTTER);
  const [x0, x1] = [at(view.began), at(view.ended)];
  pen.fillStyle = colour("card");
  pen.globalAlpha = 0.7;
  pen.fillRect(GUTTER, 0, x0 - GUTTER, OVERVIEW_HEIGHT);
  pen.fillRect(x1, 0, width - x1, OVERVIEW_HEIGHT);
  pen.globalAlpha = 1;
  pen.strokeStyle = colour(view.ended - view.began < total * 0.999 ? "accent" : "line");
  pen.strokeRect(x0 + 0.5, 0.5, Math.max(x1 - x0 - 1, 2), OVERVIEW_HEIGHT - 1);
}

function drawnOverview() {
  const canvas = document.createElement("canvas");
  const pen = blank(canvas, width, OVERVIEW_HEIGHT);
  pen.fillStyle = colour("sunken");
  pen.fillRect(GUTTER, 0, width - GUTTER, OVERVIEW_HEIGHT);
  const each = (OVERVIEW_HEIGHT - 6) / Math.max(LANES, 1);
  for (let lane = 0; lane < LANES; lane += 1) {
    let reached = -1;
    for (let bar = laneStart[lane]; bar < laneStart[lane + 1]; bar += 1) {
      const x0 = GUTTER + (bars.began[bar] / total) * (width - GUTTER);
      const x1 = Math.max(GUTTER + (bars.ended[bar] / total) * (width - GUTTER), x0 + 0.6);
      if (x1 - reached < 0.4 && bars.state[bar] !== STATE.failed) continue;
      pen.fillStyle = barColour(bar);
      pen.fillRect(x0, 3 + lane * each, x1 - x0, Math.max(each - 0.6, 0.8));
      reached = x1;
    }
  }
  return canvas;
}

// Ruler and curves

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
    if (end < width && labels.every(([from, to]) => end < from || x > to)) pen.fillText(text, x + 4, 11);
  }
  paintCrosshair(pen, CURVES_HEIGHT);
}

/** Stripes where time was folded; the stretches that their labels take. */
function paintPauses(pen, height, labelled) {
  const labels = [];
  for (const [at, long, seconds] of data.pauses) {
    const [x0, x1] = [Math.max(xOf(at), GUTTER), xOf(at + long)];
    if (x1 < GUTTER || x0 > width) continue;
    pen.fillStyle = stripes(pen, "strong-line");
    pen.fillRect(x0, labelled ? RULER : 0, x1 - x0, height);
    if (!labelled) continue;
    const text = `paused ${duration(seconds)}`;
    const room = pen.measureText(text).width;
    const x = Math.min(Math.max((x0 + x1 - room) / 2, GUTTER), width - room - 4);
    pen.fillStyle = colour("warn");
    if (labels.every(([from, to]) => x + room < from || x > to)) pen.fillText(text, x, 11);
    labels.push([x - 4, x + room + 8]);
  }
  return labels;
}

function paintCrosshair(pen, height) {
  if (!pointer || pointer.canvas === overview || pointer.x < GUTTER) return;
  pen.strokeStyle = colour("strong-line");
  line(pen, Math.round(pointer.x) + 0.5, 0, Math.round(pointer.x) + 0.5, height);
}

function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
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
function mean(curve, began, ended) {
  const until = (time) => {
    const place = Math.min(Math.max((time / total) * BIN_COUNT, 0), BIN_COUNT);
    const bin = Math.min(Math.floor(place), BIN_COUNT - 1);
    return sums[curve][bin] + (place - bin) * data.curves[curve][bin];
  };
  return (until(ended) - until(began)) / (((ended - began) / total) * BIN_COUNT);
}

function memoryAt(began, ended) {
  const first = Math.min(Math.max(Math.floor((began / total) * BIN_COUNT), 0), BIN_COUNT - 1);
  const last = Math.min(Math.max(Math.ceil((ended / total) * BIN_COUNT), first + 1), BIN_COUNT);
  let most = 0;
  for (let bin = first; bin < last; bin += 1) most = Math.max(most, data.curves.memory[bin]);
  return most;
}

/** Fill below a curve that `value` gives for each column of pixels; `floor` is what it stands on. */
function area(pen, bottom, value, floor) {
  pen.beginPath();
  for (let x = GUTTER; x <= width; x += 1) pen.lineTo(x, bottom - value(x));
  for (let x = width; x >= GUTTER; x -= 1) pen.lineTo(x, bottom - floor(x));
  pen.closePath();
  pen.fill();
}

function paintCpu(pen) {
  const [bottom, scale] = [RULER + CPU_HEIGHT, (CPU_HEIGHT - 2) / CPU_TOP];
  const column = (curve) => Float64Array.from({ length: width + 2 }, (_, x) => mean(curve, timeOf(x), timeOf(x + 1)) * scale);
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
  line(pen, GUTTER, y, width, y);
  pen.setLineDash([]);
  axisLabel(pen, "CPUs in use", bottom, [[data.execution.cpus, y], [0, bottom]], RULER + CPU_HEIGHT / 2);
}

function paintMemory(pen) {
  const [bottom, scale] = [MEMORY_TOP + MEMORY_HEIGHT, (MEMORY_HEIGHT - 2) / MEMORY_MOST];
  const values = Float64Array.from({ length: width + 2 }, (_, x) => memoryAt(timeOf(x), timeOf(x + 1)) * scale);
  pen.globalAlpha = 0.7;
  pen.fillStyle = colour("memory");
  area(pen, bottom, (x) => values[x], () => 0);
  pen.globalAlpha = 1;
  const most = MEMORY_MOST / 1.15;
  axisLabel(pen, "Memory", bottom, most > 1 ? [[bytes(most), bottom - most * scale]] : [], MEMORY_TOP + MEMORY_HEIGHT / 2 + 6);
}

function axisLabel(pen, text, bottom, values, middle) {
  pen.strokeStyle = colour("strong-line");
  line(pen, GUTTER, bottom + 0.5, width, bottom + 0.5);
  pen.fillStyle = colour("text");
  pen.textAlign = "left";
  pen.fillText(text, 0, middle);
  pen.fillStyle = colour("soft");
  pen.textAlign = "right";
  for (const [value, y] of values) pen.fillText(String(value), GUTTER - 6, Math.min(y + 3, bottom - 2));
  pen.textAlign = "left";
}

// Lanes

function barColour(bar) {
  if (bars.state[bar] === STATE.failed) return colour("bad");
  const operation = bars.operation[bar];
  if (isBatch(operation)) return colour(`hue-${hueOf(operation)}`);
  const batch = batchOf(operation);
  return colour(batch < 0 ? "step" : `hue-${hueOf(batch)}`);
}

function hueName(bar) {
  const operation = bars.operation[bar];
  const batch = isBatch(operation) ? operation : batchOf(operation);
  return batch < 0 ? "step" : `hue-${hueOf(batch)}`;
}

/** The first bar of a lane that ends after this time. */
function firstAfter(lane, time) {
  let [low, high] = [laneStart[lane], laneStart[lane + 1]];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (bars.ended[middle] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

function paintLanes(marks) {
  const whole = Math.max(LANES, 1) * LANE_HEIGHT + 4;
  byId("lanes-size").style.height = `${whole}px`;
  const height = Math.min(whole, 560);
  const pen = blank(lanesCanvas, width, height);
  const top = scroller.scrollTop;
  pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = "middle";
  pen.strokeStyle = colour("line");
  for (const [time] of marks) line(pen, Math.round(xOf(time)) + 0.5, 0, Math.round(xOf(time)) + 0.5, height);
  paintPauses(pen, height, false);
  const first = Math.max(0, Math.floor(top / LANE_HEIGHT));
  const last = Math.min(LANES, Math.ceil((top + height) / LANE_HEIGHT));
  for (let lane = first; lane < last; lane += 1) paintLane(pen, lane, lane * LANE_HEIGHT - top);
  pen.clearRect(0, 0, GUTTER - 1, height);
  pen.fillStyle = colour("soft");
  for (let lane = first; lane < last; lane += 1) {
    pen.fillText(data.lanes[lane][0], 0, lane * LANE_HEIGHT - top + LANE_HEIGHT / 2 + 1, GUTTER - 8);
  }
  paintCrosshair(pen, height);
}

function paintLane(pen, lane, y) {
  const end = laneStart[lane + 1];
  const [boxTop, boxHeight] = [y + 2, LANE_HEIGHT - 4];
  let reached = -Infinity;
  for (let bar = firstAfter(lane, view.began); bar < end && bars.began[bar] <= view.ended; bar += 1) {
    const x0 = Math.max(xOf(bars.began[bar]), GUTTER - 4);
    const x1 = Math.min(Math.max(xOf(bars.ended[bar]), x0 + 1), width + 4);
    if (x1 - reached < 0.5 && bars.state[bar] !== STATE.failed) continue; // would be painted over the last one
    paintBar(pen, bar, x0, boxTop, Math.max(x1 - x0 - (x1 - x0 > 4 ? 0.8 : 0), 0.8), boxHeight);
    reached = x1;
  }
}

function paintBar(pen, bar, x, y, w, h) {
  const operation = bars.operation[bar];
  const state = bars.state[bar];
  const ended = state === STATE.succeeded || state === STATE.failed;
  pen.globalAlpha = app.bright && !app.bright[operation] ? 0.13 : 1;
  pen.fillStyle = ended ? barColour(bar) : stripes(pen, hueName(bar));
  if (isBatch(operation) && ended) pen.globalAlpha *= 0.3; // it only encloses: its branches are what ran
  if (w > 5) {
    pen.beginPath();
    pen.roundRect(x, y, w, h, 3);
    pen.fill();
  } else {
    pen.fillRect(x, y, w, h);
  }
  if (w > 40) {
    if (bars.branch[bar] < 0 && !isBatch(operation)) paintSteps(pen, operation, y + h);
    if (isBatch(operation) && ended) pen.globalAlpha /= 0.3;
    pen.fillStyle = ended && !isBatch(operation) ? colour("bar-text") : colour("text");
    fittedText(pen, barName(bar), x + 6, y + h / 2 + 0.5 - (h > 18 ? 1 : 0), w - 10);
  }
  if (operation === app.selected) {
    pen.globalAlpha = 1;
    pen.strokeStyle = colour("text");
    pen.lineWidth = 2;
    pen.strokeRect(x, y, w, h);
    pen.lineWidth = 1;
  }
}

/** The steps of a branch as a strip along the bottom of its bar. */
function paintSteps(pen, branch, bottom) {
  const before = pen.globalAlpha;
  pen.globalAlpha = before * 0.55;
  for (const step of children[branch]) {
    const x0 = Math.max(xOf(Math.max(operations.began[step], operations.began[branch])), GUTTER);
    const x1 = Math.min(xOf(Math.min(operations.ended[step], operations.ended[branch])), width);
    if (x1 - x0 < 1.5) continue;
    pen.fillStyle = statusOf(step) === "FAILED" ? colour("bad") : colour("bar-text");
    pen.fillRect(x0 + 1.5, bottom - 5, x1 - x0 - 2.5, 2.5);
  }
  pen.globalAlpha = before;
}

// What is under the pointer

function barAt(x, y) {
  const lane = Math.floor((y + scroller.scrollTop) / LANE_HEIGHT);
  if (lane < 0 || lane >= LANES || x < GUTTER) return -1;
  const [time, slack] = [timeOf(x), ((view.ended - view.began) / (width - GUTTER)) * 2.5];
  let [best, distance] = [-1, slack];
  for (let bar = firstAfter(lane, time - slack); bar < laneStart[lane + 1] && bars.began[bar] <= time + slack; bar += 1) {
    const away = Math.max(bars.began[bar] - time, time - bars.ended[bar], 0);
    if (away < distance || (away === 0 && best < 0)) [best, distance] = [bar, away];
    if (away === 0) break;
  }
  return best;
}

function tooltipFor(hover) {
  if (hover.canvas === lanesCanvas) {
    const bar = barAt(hover.x, hover.y);
    return bar < 0 ? null : barLines(bar);
  }
  if (hover.canvas === curvesCanvas && hover.x >= GUTTER) {
    const [a, b] = [timeOf(hover.x), timeOf(hover.x + 1)];
    const memory = memoryAt(a, b);
    return [
      element("b", {}, clock(realTime(a), view.ended - view.began < 20 ? 3 : 0)),
      element("div", {}, `branches use ${mean("branches", a, b).toFixed(2)} CPUs, the handler ${mean("handler", a, b).toFixed(2)}`),
      memory ? element("div", {}, `${bytes(memory)} in the processes at work`) : null,
    ];
  }
  return null;
}

function barLines(bar) {
  const operation = bars.operation[bar];
  const state = bars.states[bars.state[bar]];
  const seconds = bars.ended[bar] - bars.began[bar];
  const lines = [element("b", {}, barName(bar))];
  const said = { earlier: "an earlier run, taken up again later", running: "has not ended", "cut off": "cut off: its batch was decided without it" };
  lines.push(element("div", {}, `${said[state] ?? state} · ${duration(seconds)}`));
  if (bars.branch[bar] < 0 && state !== "earlier" && operations.cpu[operation] !== null) {
    const cpu = operations.cpu[operation];
    lines.push(element("div", { className: "soft" }, `CPU ${duration(cpu)} (${percent(cpu / Math.max(seconds, 1e-9))})`));
  }
  if (isBatch(operation)) lines.push(element("div", { className: "soft" }, kindOf(operation)));
  const error = operations.error[operation];
  if (error >= 0) lines.push(element("div", { className: "bad" }, `${data.errors[error][0]}: ${data.errors[error][1].slice(0, 200)}`));
  return lines;
}

function showTooltip(event) {
  const tooltip = byId("tooltip");
  const lines = pointer && !dragging ? tooltipFor(pointer) : null;
  tooltip.hidden = lines === null;
  if (lines === null) return;
  tooltip.replaceChildren(...lines.filter((each) => each !== null));
  const box = tooltip.getBoundingClientRect();
  tooltip.style.left = `${Math.max(8, Math.min(event.clientX + 14, window.innerWidth - box.width - 8))}px`;
  tooltip.style.top = `${event.clientY + 18 + box.height > window.innerHeight ? event.clientY - box.height - 12 : event.clientY + 18}px`;
}

// Moving about

let dragging = null; // {x, moved, canvas, from}

function onDown(event) {
  if (event.button !== 0) return;
  const { offsetX: x, currentTarget: canvas } = event;
  canvas.setPointerCapture(event.pointerId);
  dragging = { x, canvas, moved: false, from: x, pressed: event.pointerId };
}

function onMove(event) {
  const canvas = event.currentTarget;
  pointer = { x: event.offsetX, y: event.offsetY, canvas };
  if (dragging && Math.abs(event.offsetX - dragging.from) > 3) dragging.moved = true;
  if (dragging?.moved) {
    timeline.classList.add("dragging");
    if (canvas === overview) {
      const at = (x) => (Math.min(Math.max(x - GUTTER, 0), width - GUTTER) / (width - GUTTER)) * total;
      view.show(Math.min(at(dragging.from), at(event.offsetX)), Math.max(at(dragging.from), at(event.offsetX)));
    } else {
      view.move(((dragging.x - event.offsetX) / (width - GUTTER)) * (view.ended - view.began));
      dragging.x = event.offsetX;
    }
  }
  showTooltip(event);
  repaint();
}

function onUp(event) {
  const [moved, canvas] = [dragging?.moved, event.currentTarget];
  dragging = null;
  timeline.classList.remove("dragging");
  if (moved) return;
  if (canvas === overview) {
    const span = view.ended - view.began;
    const middle = ((event.offsetX - GUTTER) / (width - GUTTER)) * total;
    view.glide(...clamped(middle - span / 2, span));
  } else if (canvas === lanesCanvas) {
    const bar = barAt(event.offsetX, event.offsetY);
    if (bar >= 0) app.select(bars.operation[bar]);
  }
}

function clamped(began, span) {
  const from = Math.min(Math.max(began, 0), total - span);
  return [from, from + span];
}

function onWheel(event) {
  const unit = event.deltaMode === 1 ? 16 : 1;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    view.zoom(Math.exp(Math.min(Math.max(event.deltaY * unit, -120), 120) * 0.004), timeOf(Math.max(event.offsetX, GUTTER)));
  } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
    event.preventDefault();
    const pixels = (event.shiftKey && !event.deltaX ? event.deltaY : event.deltaX) * unit;
    view.move((pixels / (width - GUTTER)) * (view.ended - view.began));
  }
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const span = view.ended - view.began;
  const middle = view.began + span / 2;
  const actions = {
    ArrowLeft: () => view.move(-span * 0.15),
    ArrowRight: () => view.move(span * 0.15),
    "+": () => view.zoom(0.7, middle),
    "=": () => view.zoom(0.7, middle),
    "-": () => view.zoom(1 / 0.7, middle),
    0: () => view.fit(),
  };
  const action = actions[event.key];
  if (action === undefined) return;
  event.preventDefault();
  action();
}

/** Zoom to an operation, and scroll to its lane. */
export function reveal(operation) {
  const bar = barOf[operation];
  if (bar >= 0) scroller.scrollTop = bars.lane[bar] * LANE_HEIGHT - 200;
  view.around(operations.began[operation], operations.ended[operation]);
}

/** Where the bar of an operation is on the screen, in CSS pixels of the window; null if it has none. For the console. */
export function boxOf(operation) {
  const bar = barOf[operation];
  if (bar < 0) return null;
  const box = lanesCanvas.getBoundingClientRect();
  const [x0, x1] = [xOf(bars.began[bar]), xOf(bars.ended[bar])];
  const top = box.top + bars.lane[bar] * LANE_HEIGHT - scroller.scrollTop + 2;
  return { left: box.left + x0, top, width: x1 - x0, height: LANE_HEIGHT - 4 };
}

function fillLegend() {
  const entry = (name, text) => {
    const swatch = element("i");
    swatch.style.setProperty("--tone", `var(--${name})`);
    return element("span", {}, swatch, text);
  };
  const entries = batchNames.slice(0, 6).map((name, place) => entry(`hue-${place % 8}`, name));
  if (batchNames.length > 6) entries.push(element("span", {}, `and ${batchNames.length - 6} more`));
  if (bars.state.includes(STATE.failed)) entries.push(entry("bad", "failed"));
  if (data.curves.handler.some((value) => value > 0)) entries.push(entry("handler", "the handler's own CPU"));
  byId("legend").replaceChildren(...entries);
}

/** Start to draw. `owner` holds `selected`, `bright` (operations to show at full strength, or null) and `select`. */
export function startTimeline(owner) {
  app = owner;
  fillLegend();
  view.listeners.push(repaint);
  for (const canvas of [overview, curvesCanvas, lanesCanvas]) {
    canvas.addEventListener("pointerdown", onDown);
    canvas.addEventListener("pointermove", onMove);
    canvas.addEventListener("pointerup", onUp);
    canvas.addEventListener("pointercancel", onUp);
    canvas.addEventListener("pointerleave", (event) => {
      pointer = null;
      showTooltip(event);
      repaint();
    });
    canvas.addEventListener("wheel", onWheel, { passive: false });
  }
  lanesCanvas.addEventListener("dblclick", (event) => {
    const bar = barAt(event.offsetX, event.offsetY);
    if (bar >= 0) view.around(bars.began[bar], bars.ended[bar]);
    else view.fit();
  });
  timeline.addEventListener("keydown", onKey);
  scroller.addEventListener("scroll", repaint);
  new ResizeObserver(repaintAll).observe(timeline);
  byId("zoom-in").addEventListener("click", () => glideBy(0.5));
  byId("zoom-out").addEventListener("click", () => glideBy(2));
  byId("zoom-fit").addEventListener("click", () => view.fit());
}

function glideBy(factor) {
  const [span, middle] = [view.ended - view.began, (view.began + view.ended) / 2];
  view.glide(...clamped(middle - Math.min(span * factor, total) / 2, Math.min(span * factor, total)));
}

