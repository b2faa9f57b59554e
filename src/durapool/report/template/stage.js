// What the parts of the timeline share: where things are, who owns the page, and how a time becomes a pixel.

import { byId } from "./text.js";
import { bars, batchOf, data, hueOf, isBatch } from "./data.js";
import { view } from "./axis.js";
import { colour } from "./painting.js";

export const GUTTER = 92; // pixels for the labels on the left
export const LANES = data.lanes.length;
export const STATE = Object.fromEntries(bars.states.map((name, place) => [name, place]));

export const timeline = byId("timeline");
export const overview = byId("overview");
export const curvesCanvas = byId("curves");
export const lanesCanvas = byId("lanes");
export const scroller = byId("lanes-scroll");

export const stage = {
  app: null, // see startTimeline
  width: 0, // CSS pixels of all three canvases
  pointer: null, // {x, y, canvas} in CSS pixels of that canvas
};

export const xOf = (time) => GUTTER + ((time - view.began) / (view.ended - view.began)) * (stage.width - GUTTER);
export const timeOf = (x) => view.began + ((x - GUTTER) / (stage.width - GUTTER)) * (view.ended - view.began);

export function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

/** The variable of report.css with the colour of a bar: its batch's, whatever its state. */
export function hueName(bar) {
  const operation = bars.operation[bar];
  const batch = isBatch(operation) ? operation : batchOf(operation);
  return batch < 0 ? "step" : `hue-${hueOf(batch)}`;
}

export function barColour(bar) {
  return colour(bars.state[bar] === STATE.failed ? "bad" : hueName(bar));
}
