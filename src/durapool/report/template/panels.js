// Everything on the page that is text: the numbers, the tables, the errors, the details of one operation.

import { byId, bytes, clock, count, duration, element, moment, percent } from "./text.js";
import { children, data, isBatch, isBranch, kindOf, lengthOf, operations, size, statusOf, statusText, toneOf } from "./data.js";
import { realTime } from "./axis.js";

const { execution } = data;
const MOST = 25; // rows of a table; what is left out is said

function tile(what, value, ...more) {
  return element("div", { className: "tile" }, element("div", { className: "what" }, what), element("div", { className: "value" }, value), element("div", { className: "more" }, ...more));
}

export function fillHead() {
  byId("execution-id").textContent = execution.id;
  byId("handler").textContent = execution.handler.split("/").slice(-2).join("/");
  byId("handler").title = execution.handler;
  const pill = byId("status");
  pill.textContent = statusText(execution.status);
  pill.dataset.tone = toneOf(execution.status);
  if (!execution.ended) {
    const note = byId("note");
    note.hidden = false;
    note.textContent =
      `This execution has not ended: it still runs, waits, or was stopped on the way. ` +
      `The page shows what was recorded until ${moment(execution.lastAt)}; it was made at ${moment(execution.madeAt)}.`;
  } else if (execution.error >= 0) {
    const note = byId("note");
    note.hidden = false;
    note.textContent = `The execution failed. ${data.errors[execution.error].join(": ")}`;
  }
  byId("footer").textContent =
    `${count(execution.records, "record")}, made by durapool at ${moment(execution.madeAt)}. The page holds names and errors of the execution, but no inputs and no results. ` +
    `CPU and memory were measured where branches ran, once for each run: curves spread a run's CPU evenly over its time.`;
}

export function fillTiles() {
  const branches = Object.values(execution.branches).reduce((sum, each) => sum + each, 0);
  const rest = Object.entries(execution.branches).filter(([state]) => state !== "succeeded");
  const kept = data.invocations.reduce((best, each) => (each.spared > best.spared ? each : best), { spared: 0, taken: 0 });
  const took = execution.lastAt - execution.at;
  const tiles = [
    tile("Time", duration(execution.active), took > execution.active * 1.01 + 0.5 ? `at work, of ${duration(took)} since ${moment(execution.at)}` : `since ${moment(execution.at)}`),
    tile(
      "Branches",
      branches.toLocaleString("en-US"),
      ...(rest.length
        ? rest.flatMap(([state, number], place) => [place ? ", " : "", element("span", { className: state === "failed" ? "bad" : "" }, `${number.toLocaleString("en-US")} ${state}`)])
        : [branches ? "all succeeded" : "no parallel and no map"]),
    ),
    execution.used === null
      ? tile("CPUs used", "not measured", "by the durapool that recorded it")
      : tile("CPUs used", percent(execution.used), `of ${count(execution.cpus, "CPU")}${execution.cpusRecorded ? "" : " of this machine"}, ${duration(execution.cpu)} of CPU time`),
    execution.peakMemory === null ? null : tile("Peak memory", bytes(execution.peakMemory), "of all its processes together"),
    tile("Steps", execution.steps.toLocaleString("en-US"), execution.retries ? count(execution.retries, "retry", "retries") : "none tried again"),
    kept.taken
      ? tile("Not done again", duration(kept.spared), `${count(kept.taken, "result")} taken from the record`)
      : tile("Invocations", String(data.invocations.length), "nothing had to be replayed"),
  ];
  byId("tiles").replaceChildren(...tiles.filter((each) => each !== null));
}

export function fillAdvice() {
  const most = data.advice.slice(0, 6);
  byId("advice").hidden = !most.length;
  byId("advice").querySelector("ul").replaceChildren(...most.map((text) => element("li", {}, text)));
}

/** A table; a cell is text, an element, or [text, class]. Rows are [operation or -1, cells]. */
function table(head, rows) {
  const cell = (tag, content) => {
    const [inside, className] = Array.isArray(content) ? content : [content, ""];
    return element(tag, { className }, inside);
  };
  const body = rows.map(([operation, cells]) =>
    element("tr", operation < 0 ? {} : { dataset: { operation } }, ...cells.map((content) => cell("td", content))),
  );
  return element("table", {}, element("thead", {}, element("tr", {}, ...head.map((content) => cell("th", content)))), element("tbody", {}, ...body));
}

function meter(part, tone) {
  if (part === null) return element("span", { className: "soft" }, "not measured");
  const filled = element("b");
  filled.style.width = `${Math.min(part, 1) * 100}%`;
  return element("span", { className: "meter", dataset: { tone } }, element("i", {}, filled), percent(part));
}

const number = (text) => [text, "number"];

export function fillBatches() {
  const shown = [...data.batches].sort((a, b) => b.seconds - a.seconds).slice(0, MOST).sort((a, b) => a.operation - b.operation);
  byId("batches").hidden = !shown.length;
  const rows = shown.map((batch) => {
    const bad = (batch.counts.FAILED ?? 0) + (batch.counts.TIMED_OUT ?? 0);
    const cpuPart = batch.cpu === null || !batch.lanes || !batch.seconds ? null : batch.cpu / (batch.seconds * Math.min(batch.lanes, execution.cpus));
    return [
      batch.operation,
      [
        [operations.name[batch.operation], "name"],
        number(batch.total.toLocaleString("en-US")),
        bad ? [element("span", { className: "pill", dataset: { tone: "bad" } }, bad.toLocaleString("en-US")), "number"] : number("0"),
        number(duration(batch.seconds)),
        number(String(batch.lanes)),
        meter(batch.busy, "plain"),
        meter(cpuPart, "ok"),
        number(duration(batch.median)),
        number(duration(batch.longest)),
        number(batch.lanes > 1 ? duration(batch.tail) : ""),
      ],
    ];
  });
  const head = ["Batch", number("Branches"), number("Failed"), number("Time"), number("Workers"), "Workers busy", "Their CPUs used", number("Median branch"), number("Longest"), number("Half idle at the end")];
  byId("batches").querySelector("div").replaceChildren(table(head, rows), ...leftOut(data.batches.length - shown.length, "shorter batch", "shorter batches"));
}

function leftOut(many, one, more) {
  return many > 0 ? [element("p", { className: "hint" }, `and ${count(many, one, more)}`)] : [];
}

export function fillSlowest() {
  const branches = [];
  for (let operation = 1; operation < size; operation += 1) if (isBranch(operation)) branches.push(operation);
  branches.sort((a, b) => lengthOf(b) - lengthOf(a));
  const most = branches.length ? Math.max(lengthOf(branches[0]), 1e-9) : 1;
  const rows = branches.slice(0, 12).map((operation) => {
    const filled = element("b");
    filled.style.width = `${(lengthOf(operation) / most) * 100}%`;
    const tone = toneOf(statusOf(operation));
    const bar = element("span", { className: "length", dataset: { tone: tone === "ok" ? "plain" : tone } }, element("i", {}, filled));
    const cpu = operations.cpu[operation];
    return [
      operation,
      [
        [operations.name[operation], "name"],
        [bar, "length-cell"],
        number(duration(lengthOf(operation))),
        number(cpu === null ? "" : `${percent(cpu / Math.max(lengthOf(operation), 1e-9))}`),
        number(operations.rss[operation] === null ? "" : bytes(operations.rss[operation])),
      ],
    ];
  });
  const content = rows.length ? table(["Branch", "", number("Time"), number("CPU"), number("Peak memory")], rows) : element("p", { className: "soft" }, "There were no branches.");
  byId("slowest").querySelector("div").replaceChildren(content);
}

function chips(list, select) {
  const shown = list.slice(0, 12).map((operation) => element("button", { type: "button", onclick: () => select(operation) }, pathOf(operation)));
  return element("div", { className: "chips" }, ...shown, list.length > 12 ? element("span", { className: "soft" }, `and ${(list.length - 12).toLocaleString("en-US")} more`) : null);
}

/** The name, with that of the branch around it. */
function pathOf(operation) {
  for (let above = operation; above > 0; above = operations.parent[above]) {
    if (isBranch(above)) return above === operation ? operations.name[operation] : `${operations.name[above]} / ${operations.name[operation]}`;
  }
  return operations.name[operation];
}

export function fillErrors(select) {
  const shown = data.groups.slice(0, MOST).map((group, place) => {
    const times = [group.operations.length ? `${group.operations.length.toLocaleString("en-US")} failed` : "", group.retried.length ? `${group.retried.length.toLocaleString("en-US")} tried again` : ""];
    return element(
      "details",
      { className: "group", open: place === 0 },
      element("summary", {}, element("span", { className: "type" }, group.type), element("span", { className: "message", title: group.message }, group.message), element("span", { className: "times" }, times.filter(Boolean).join(", "))),
      element("pre", {}, `${group.trace ? `${group.trace}\n` : ""}${group.type}: ${group.message}`),
      chips([...new Set([...group.operations, ...group.retried])], select),
    );
  });
  const none = element("p", { className: "soft" }, execution.ended ? "None: nothing failed." : "None so far.");
  byId("errors").querySelector("div").replaceChildren(...(shown.length ? shown : [none]), ...leftOut(data.groups.length - shown.length, "other kind", "other kinds"));
}

export function fillInvocations() {
  const said = { finished: "to the end", suspended: "suspended", crashed: "crashed", killed: "killed", open: "not ended" };
  const tone = { finished: "ok", suspended: "plain", crashed: "bad", killed: "bad", open: "warn" };
  const rows = data.invocations.slice(0, 2 * MOST).map((each, place) => [
    -1,
    [
      number(String(place + 1)),
      moment(each.at),
      number(duration(each.seconds)),
      element("span", { className: "pill", dataset: { tone: tone[each.end] } }, said[each.end]),
      number(each.ended.toLocaleString("en-US")),
      number(each.taken.toLocaleString("en-US")),
      number(each.taken ? duration(each.spared) : ""),
    ],
  ]);
  const head = [number("#"), "Began", number("Took"), "Went", number("Ran"), number("Replayed"), number("Time spared")];
  const text = "Steps and branches that ended in each pass through the handler, and those whose results it took from the record.";
  byId("invocations").querySelector("div").replaceChildren(table(head, rows), ...leftOut(data.invocations.length - rows.length, "more"), element("p", { className: "hint" }, text));
}

/** Show what is known of one operation. */
export function showDetails(operation, { select, reveal, close }) {
  const panel = byId("details");
  const status = statusOf(operation);
  const facts = [
    ["Kind", kindOf(operation)],
    operations.branch[operation] < 0 ? null : ["Index", String(operations.branch[operation])],
    ["Began", `${moment(realTime(operations.began[operation]))}`],
    ["Ended", status === "STARTED" || status === "PENDING" ? "not yet" : clock(realTime(operations.ended[operation]), 3)],
    ["Took", duration(lengthOf(operation))],
    operations.cpu[operation] === null ? null : ["CPU", `${duration(operations.cpu[operation])} (${percent(operations.cpu[operation] / Math.max(lengthOf(operation), 1e-9))})`],
    operations.rss[operation] === null ? null : ["Peak memory", `${bytes(operations.rss[operation])}, of its process by then`],
    operations.where[operation] === null ? null : ["Where", whereText(operations.where[operation])],
    ["Operation id", operations.id[operation]],
  ];
  const list = element("dl", {}, ...facts.filter((fact) => fact !== null).flatMap(([what, value]) => [element("dt", {}, what), element("dd", {}, value)]));
  panel.replaceChildren(
    element("button", { type: "button", className: "close", onclick: close, title: "Esc" }, "Close"),
    element("span", { className: "pill", dataset: { tone: toneOf(status) } }, statusText(status)),
    element("h2", {}, operations.name[operation]),
    element("button", { type: "button", onclick: () => reveal(operation) }, "Show on the timeline"),
    list,
    ...errorOf(operation),
    ...attemptsOf(operation),
    ...belowOf(operation, select),
    ...aboveOf(operation, select),
  );
  panel.hidden = false;
}

const whereText = ([pid, thread]) => (thread === null ? `process ${pid}` : `thread ${thread} of process ${pid}`);

function errorOf(operation) {
  const place = operations.error[operation];
  if (place < 0) return [];
  const [type, message] = data.errors[place];
  const group = data.groups.find((each) => each.operations.includes(operation) || each.retried.includes(operation));
  const trace = group && group.type === type ? `${group.trace}\n` : "";
  return [element("h3", {}, "Error"), element("pre", { className: "bad" }, `${trace}${type}: ${message}`)];
}

function attemptsOf(operation) {
  const tries = operations.tries[operation];
  if (!tries) return [];
  const rows = tries.map(([began, ended, error], place) => [
    -1,
    [number(String(place + 1)), ended === null ? "never ended" : duration(ended - began), error < 0 ? (ended === null ? "interrupted" : "succeeded") : [data.errors[error].join(": "), "name bad"]],
  ]);
  return [element("h3", {}, "Attempts"), table([number("#"), "Took", "Came to"], rows)];
}

function belowOf(operation, select) {
  const below = children[operation];
  if (!below.length) return [];
  const list = below.slice(0, MOST);
  const rows = list.map((each) => [each, [[operations.name[each], "name"], statusText(statusOf(each)), number(duration(lengthOf(each)))]]);
  const made = table(["Name", "Status", number("Time")], rows);
  made.addEventListener("click", (event) => {
    const found = event.target.closest("tr[data-operation]");
    if (found) select(Number(found.dataset.operation));
  });
  return [element("h3", {}, isBatch(operation) ? "Branches" : "Operations in it"), made, ...leftOut(below.length - list.length, "more")];
}

function aboveOf(operation, select) {
  const above = operations.parent[operation];
  return above < 0 ? [] : [element("h3", {}, "Part of"), chips([above], select)];
}
