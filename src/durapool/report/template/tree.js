// The tree of operations: only the rows in sight are in the document, however many there are.

import { byId, count, duration, element, marked, percent } from "./text.js";
import { children, isBatch, kindOf, lengthOf, operations, size, statusOf, statusText, toneOf } from "./data.js";
import { total } from "./axis.js";

const ROW = 28; // pixels, as in report.css
const box = byId("tree");
const inner = byId("tree-size");
const open = new Uint8Array(size);
let rows = []; // operations, from top to bottom
let depths = [];
let app = null;
let pending = false;

/** List what is open; with a search what matches, and what encloses it. */
export function listRows() {
  rows = [];
  depths = [];
  const { bright } = app;
  const todo = [[0, 0]];
  while (todo.length) {
    const [operation, depth] = todo.pop();
    rows.push(operation);
    depths.push(depth);
    if (!bright && !open[operation]) continue;
    const below = children[operation];
    for (let place = below.length - 1; place >= 0; place -= 1) {
      if (!bright || bright[below[place]]) todo.push([below[place], depth + 1]);
    }
  }
  inner.style.height = `${rows.length * ROW}px`;
  inner.dataset.rows = rows.length;
  repaintTree();
}

/** Show the rows that are in sight now. */
export function repaintTree() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 4);
    const last = Math.min(rows.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + 4);
    const shown = [];
    for (let place = first; place < last; place += 1) shown.push(row(place));
    inner.replaceChildren(...shown);
    const selected = rows.indexOf(app.selected);
    if (selected >= first && selected < last) box.setAttribute("aria-activedescendant", `row-${app.selected}`);
    else box.removeAttribute("aria-activedescendant");
  });
}

function row(place) {
  const operation = rows[place];
  const below = children[operation].length;
  const status = statusOf(operation);
  const isOpen = Boolean(app.bright || open[operation]);
  const twist = element("span", { className: "twist" }, below ? (isOpen ? "▾" : "▸") : "");
  const name = element("b", {}, ...marked(operations.name[operation], app.words));
  const label = element("span", { className: "label", title: operations.name[operation] }, twist, name);
  label.style.paddingLeft = `${depths[place] * 16}px`;
  const attempts = operations.attempts[operation];
  const cpu = operations.cpu[operation];
  const seconds = lengthOf(operation);
  const when = element("i");
  when.style.left = `${(operations.began[operation] / total) * 100}%`;
  when.style.width = `${(seconds / total) * 100}%`;
  const made = element(
    "div",
    { className: operation === app.selected ? "row selected" : "row", id: `row-${operation}`, role: "treeitem", dataset: { operation, tone: toneOf(status) } },
    label,
    element("span", { className: "soft" }, isBatch(operation) ? `${kindOf(operation)}, ${count(below, "branch", "branches")}` : kindOf(operation)),
    element("span", { className: "state" }, statusText(status)),
    element("span", { className: "number" }, attempts > 1 ? `${attempts}` : ""),
    element("span", { className: "number" }, duration(seconds)),
    element("span", { className: "number soft" }, cpu === null ? "" : percent(cpu / Math.max(seconds, 1e-9))),
    element("span", { className: "when" }, when),
  );
  made.style.top = `${place * ROW}px`;
  made.setAttribute("aria-level", depths[place] + 1);
  if (below) made.setAttribute("aria-expanded", isOpen);
  return made;
}

function toggle(operation) {
  if (app.bright || !children[operation].length) return;
  open[operation] = open[operation] ? 0 : 1;
  listRows();
}

/** Open what encloses an operation, and scroll to it. */
export function revealRow(operation) {
  if (!app.bright) {
    let opened = false;
    for (let above = operations.parent[operation]; above >= 0; above = operations.parent[above]) {
      opened ||= !open[above];
      open[above] = 1;
    }
    if (opened) listRows();
  }
  const place = rows.indexOf(operation);
  if (place < 0) return;
  const top = place * ROW;
  if (top < box.scrollTop || top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top - box.clientHeight / 2;
  repaintTree();
}

function onKey(event) {
  const place = rows.indexOf(app.selected);
  const current = place < 0 ? rows[0] : rows[place];
  const go = (to) => app.select(rows[Math.min(Math.max(to, 0), rows.length - 1)], { quiet: true });
  const actions = {
    ArrowDown: () => go(place + 1),
    ArrowUp: () => go(place - 1),
    Home: () => go(0),
    End: () => go(rows.length - 1),
    PageDown: () => go(place + 14),
    PageUp: () => go(place - 14),
    ArrowRight: () => (open[current] ? go(place + 1) : toggle(current)),
    ArrowLeft: () => (open[current] && !app.bright ? toggle(current) : go(rows.indexOf(operations.parent[current]))),
    Enter: () => app.select(current),
    " ": () => toggle(current),
  };
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in actions)) return;
  event.preventDefault();
  actions[event.key]();
}

/** Open all, or all but the first two levels closed. */
export function openAll(all) {
  for (let operation = 0; operation < size; operation += 1) open[operation] = all || operation === 0 ? 1 : 0;
  listRows();
}

export function startTree(owner) {
  app = owner;
  open[0] = 1;
  if (children[0].length === 1) open[children[0][0]] = 1;
  box.addEventListener("scroll", repaintTree);
  box.addEventListener("keydown", onKey);
  box.addEventListener("click", (event) => {
    const found = event.target.closest(".row");
    if (!found) return;
    const operation = Number(found.dataset.operation);
    if (event.target.closest(".twist") || event.detail === 2) toggle(operation);
    else app.select(operation);
  });
  byId("expand").addEventListener("click", () => openAll(true));
  byId("collapse").addEventListener("click", () => openAll(false));
  new ResizeObserver(repaintTree).observe(box);
  listRows();
}
