// The data of the page: columns, and what is worked out of them once.

export const data = JSON.parse(document.getElementById("data").textContent);
export const operations = data.operations;
export const bars = data.bars;
export const size = operations.id.length;

const BRANCH_KINDS = new Set(["ParallelBranch", "MapIteration"]);
const BATCH_KINDS = new Set(["Parallel", "Map"]);

const kindIs = (kinds) => operations.kinds.map((kind) => kinds.has(kind));
const branchKinds = kindIs(BRANCH_KINDS);
const batchKinds = kindIs(BATCH_KINDS);

export const isBranch = (operation) => branchKinds[operations.kind[operation]];
export const isBatch = (operation) => batchKinds[operations.kind[operation]];
export const kindOf = (operation) => operations.kinds[operations.kind[operation]];
export const statusOf = (operation) => operations.statuses[operations.status[operation]];
export const lengthOf = (operation) => operations.ended[operation] - operations.began[operation];

/** The operations below each one: branches by index, others in order of start. */
export const children = Array.from({ length: size }, () => []);
for (let operation = 1; operation < size; operation += 1) children[operations.parent[operation]].push(operation);
for (const below of children) {
  if (below.length > 1) below.sort((a, b) => operations.branch[a] - operations.branch[b] || a - b);
}

/** The bar of the last run of each operation; -1 for those that have none of their own. */
export const barOf = new Int32Array(size).fill(-1);
const EARLIER = bars.states.indexOf("earlier");
for (let bar = 0; bar < bars.operation.length; bar += 1) {
  if (bars.state[bar] !== EARLIER && bars.branch[bar] < 0) barOf[bars.operation[bar]] = bar;
}

/** The first bar of each lane; the last entry is the number of bars. */
export const laneStart = new Int32Array(data.lanes.length + 1).fill(bars.lane.length);
for (let bar = bars.lane.length - 1; bar >= 0; bar -= 1) laneStart[bars.lane[bar]] = bar;
for (let lane = data.lanes.length - 1; lane >= 0; lane -= 1) {
  laneStart[lane] = Math.min(laneStart[lane], laneStart[lane + 1]);
}

/** The operation that a bar is drawn for, or around: of a FLAT branch, its batch. */
export function batchOf(operation) {
  const parent = operations.parent[operation];
  return parent >= 0 && isBatch(parent) ? parent : -1;
}

export function barName(bar) {
  const operation = bars.operation[bar];
  if (bars.branch[bar] < 0) return operations.name[operation];
  return `${operations.name[operations.parent[operation]]} ${bars.branch[bar]}`;
}

/** How a status looks: the tones of report.css. */
export function toneOf(status) {
  if (status === "SUCCEEDED") return "ok";
  if (status === "FAILED" || status === "TIMED_OUT") return "bad";
  if (status === "CUT OFF" || status === "CANCELLED" || status === "STOPPED") return "warn";
  return "plain";
}

export function statusText(status) {
  return status.toLowerCase().replace("_", " ").replace("started", "not ended");
}

/** One colour for each name of a batch. */
const hues = new Map();
for (let operation = 1; operation < size; operation += 1) {
  if (isBatch(operation) && !hues.has(operations.name[operation])) hues.set(operations.name[operation], hues.size % 8);
}
export const batchNames = [...hues.keys()];
export const hueOf = (batch) => hues.get(operations.name[batch]) ?? 0;

let haystacks = null;

/** Which operations match all words, as a byte for each; null for no words. */
export function search(words) {
  if (!words.length) return null;
  haystacks ??= Array.from({ length: size }, (_, operation) => {
    const error = operations.error[operation];
    const parts = [operations.name[operation], kindOf(operation), statusOf(operation), operations.id[operation]];
    if (error >= 0) parts.push(...data.errors[error]);
    return parts.join("\n").toLowerCase();
  });
  return Uint8Array.from(haystacks, (text) => (words.every((word) => text.includes(word)) ? 1 : 0));
}
