// The bars on their lanes: painting what is visible of them, and finding the one under the pointer.

import { byId, duration, element, percent } from "./text.js";
import { bars, barName, barOf, children, data, isBatch, kindOf, laneStart, operations, statusOf } from "./data.js";
import { view } from "./axis.js";
import { blank, colour, fittedText, stripes } from "./painting.js";
import { paintCrosshair, paintPauses } from "./curves.js";
import { GUTTER, LANES, STATE, barColour, hueName, lanesCanvas, line, scroller, stage, timeOf, xOf } from "./stage.js";

const LANE_HEIGHT = LANES > 40 ? 16 : LANES > 16 ? 20 : 26;

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

export function paintLanes(marks) {
  const whole = Math.max(LANES, 1) * LANE_HEIGHT + 4;
  byId("lanes-size").style.height = `${whole}px`;
  const height = Math.min(whole, 560);
  const pen = blank(lanesCanvas, stage.width, height);
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
    const x1 = Math.min(Math.max(xOf(bars.ended[bar]), x0 + 1), stage.width + 4);
    if (x1 - reached < 0.5 && bars.state[bar] !== STATE.failed) continue; // would be painted over the last one
    paintBar(pen, bar, x0, boxTop, Math.max(x1 - x0 - (x1 - x0 > 4 ? 0.8 : 0), 0.8), boxHeight);
    reached = x1;
  }
}

function paintBar(pen, bar, x, y, w, h) {
  const operation = bars.operation[bar];
  const state = bars.state[bar];
  const ended = state === STATE.succeeded || state === STATE.failed;
  pen.globalAlpha = stage.app.bright && !stage.app.bright[operation] ? 0.13 : 1;
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
  if (operation === stage.app.selected) {
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
    const x1 = Math.min(xOf(Math.min(operations.ended[step], operations.ended[branch])), stage.width);
    if (x1 - x0 < 1.5) continue;
    pen.fillStyle = statusOf(step) === "FAILED" ? colour("bad") : colour("bar-text");
    pen.fillRect(x0 + 1.5, bottom - 5, x1 - x0 - 2.5, 2.5);
  }
  pen.globalAlpha = before;
}

export function barAt(x, y) {
  const lane = Math.floor((y + scroller.scrollTop) / LANE_HEIGHT);
  if (lane < 0 || lane >= LANES || x < GUTTER) return -1;
  const [time, slack] = [timeOf(x), ((view.ended - view.began) / (stage.width - GUTTER)) * 2.5];
  let [best, distance] = [-1, slack];
  for (let bar = firstAfter(lane, time - slack); bar < laneStart[lane + 1] && bars.began[bar] <= time + slack; bar += 1) {
    const away = Math.max(bars.began[bar] - time, time - bars.ended[bar], 0);
    if (away < distance || (away === 0 && best < 0)) [best, distance] = [bar, away];
    if (away === 0) break;
  }
  return best;
}

export function barLines(bar) {
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

/** Scroll to the lane of an operation's bar, if it has one. */
export function scrollToLane(operation) {
  const bar = barOf[operation];
  if (bar >= 0) scroller.scrollTop = bars.lane[bar] * LANE_HEIGHT - 200;
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
