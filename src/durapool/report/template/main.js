// The page put together: search, selection, the theme.

import { byId, count } from "./text.js";
import { operations, search, size } from "./data.js";
import { view } from "./axis.js";
import { forgetColours } from "./painting.js";
import { boxOf } from "./lanes.js";
import { repaint, repaintAll, reveal, startTimeline } from "./timeline.js";
import { listRows, openAll, repaintTree, revealRow, startTree } from "./tree.js";
import { fillAdvice, fillBatches, fillErrors, fillHead, fillInvocations, fillSlowest, fillTiles, showDetails } from "./panels.js";

const app = {
  selected: -1,
  words: [], // of the search, in small letters
  bright: null, // a byte for each operation: it matches, or something below it does; null without a search
  found: [], // operations that match
  place: -1, // of the present one in `found`

  /** Mark an operation everywhere; its details are shown unless `quiet`. */
  select(operation, { quiet = false } = {}) {
    app.selected = operation;
    revealRow(operation);
    repaint();
    if (quiet && byId("details").hidden) return;
    showDetails(operation, { select: app.select, reveal, close: app.deselect });
  },
  deselect() {
    app.selected = -1;
    byId("details").hidden = true;
    repaint();
    repaintTree();
  },
  search(text) {
    app.words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const matching = search(app.words);
    app.found = [];
    app.place = -1;
    app.bright = matching && Uint8Array.from(matching);
    for (let operation = size - 1; app.bright && operation > 0; operation -= 1) {
      if (matching[operation]) app.found.push(operation);
      if (app.bright[operation]) app.bright[operations.parent[operation]] = 1;
    }
    app.found.reverse();
    byId("matches").textContent = app.bright ? count(app.found.length, "match", "matches") : "";
    byId("tree").scrollTop = 0;
    listRows();
    repaint();
  },
  /** Go to the next match, or to the one before. */
  next(step) {
    if (!app.found.length) return;
    app.place = (app.place + step + app.found.length) % app.found.length;
    byId("matches").textContent = `${app.place + 1} of ${app.found.length.toLocaleString("en-US")}`;
    app.select(app.found[app.place], { quiet: true });
    reveal(app.selected);
  },
};

function startSearch() {
  const field = byId("search");
  field.addEventListener("input", () => app.search(field.value));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") app.next(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") {
      field.value = "";
      app.search("");
      field.blur();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLInputElement) return;
    if (event.key === "/") {
      event.preventDefault();
      field.focus();
    } else if (event.key === "Escape") {
      app.deselect();
    }
  });
}

const THEME = "durapool-report-theme";

function startTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    forgetColours();
    repaintAll();
  };
  dark.addEventListener("change", () => apply(""));
  apply(remembered());
  byId("theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
    const theme = now === "dark" ? "light" : "dark";
    apply(theme);
    try {
      localStorage.setItem(THEME, theme);
    } catch {
      // a page from a disk may keep nothing: the theme then lasts as long as the page
    }
  });
}

function remembered() {
  try {
    return localStorage.getItem(THEME) ?? "";
  } catch {
    return "";
  }
}

fillHead();
fillTiles();
fillAdvice();
fillBatches();
fillSlowest();
fillErrors(app.select);
fillInvocations();
startTimeline(app);
startTree(app);
startSearch();
startTheme();
for (const id of ["batches", "slowest"]) {
  byId(id).addEventListener("click", (event) => {
    const found = event.target.closest("tr[data-operation]");
    if (!found) return;
    app.select(Number(found.dataset.operation));
    reveal(app.selected);
  });
}

/** For the console, and for tests. */
globalThis.durapoolReport = { app, boxOf, openAll, operations, reveal, view };
