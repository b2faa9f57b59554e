// The timeline: it paints its three canvases at most once a frame, and moves the visible span.

import { byId, bytes, clock, element } from "./text.js";
import { bars, batchNames, data, operations } from "./data.js";
import { realTime, ticks, total, view } from "./axis.js";
import { GUTTER, STATE, curvesCanvas, lanesCanvas, overview, scroller, stage, timeOf, timeline } from "./stage.js";
import { forgetOverview, mean, memoryAt, paintCurves, paintOverview } from "./curves.js";
import { barAt, barLines, paintLanes, scrollToLane } from "./lanes.js";

let pending = false;

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
  forgetOverview();
  repaint();
}

function paint() {
  stage.width = scroller.clientWidth;
  const marks = ticks(stage.width - GUTTER);
  paintOverview();
  paintCurves(marks);
  paintLanes(marks);
  timeline.dataset.began = view.began;
  timeline.dataset.ended = view.ended;
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

function showTooltip(event) {
  const tooltip = byId("tooltip");
  const lines = stage.pointer && !dragging ? tooltipFor(stage.pointer) : null;
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
  stage.pointer = { x: event.offsetX, y: event.offsetY, canvas };
  if (dragging && Math.abs(event.offsetX - dragging.from) > 3) dragging.moved = true;
  if (dragging?.moved) {
    timeline.classList.add("dragging");
    if (canvas === overview) {
      const at = (x) => (Math.min(Math.max(x - GUTTER, 0), stage.width - GUTTER) / (stage.width - GUTTER)) * total;
      view.show(Math.min(at(dragging.from), at(event.offsetX)), Math.max(at(dragging.from), at(event.offsetX)));
    } else {
      view.move(((dragging.x - event.offsetX) / (stage.width - GUTTER)) * (view.ended - view.began));
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
    const middle = ((event.offsetX - GUTTER) / (stage.width - GUTTER)) * total;
    view.glide(...clamped(middle - span / 2, span));
  } else if (canvas === lanesCanvas) {
    const bar = barAt(event.offsetX, event.offsetY);
    if (bar >= 0) stage.app.select(bars.operation[bar]);
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
    view.move((pixels / (stage.width - GUTTER)) * (view.ended - view.began));
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
  scrollToLane(operation);
  view.around(operations.began[operation], operations.ended[operation]);
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
  stage.app = owner;
  fillLegend();
  view.listeners.push(repaint);
  for (const canvas of [overview, curvesCanvas, lanesCanvas]) {
    canvas.addEventListener("pointerdown", onDown);
    canvas.addEventListener("pointermove", onMove);
    canvas.addEventListener("pointerup", onUp);
    canvas.addEventListener("pointercancel", onUp);
    canvas.addEventListener("pointerleave", (event) => {
      stage.pointer = null;
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
