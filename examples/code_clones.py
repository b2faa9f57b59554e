"""Near-duplicate functions in every Python file of a directory tree: a CPU-bound job that survives a kill.

    list files -> scan chunk 0..n (read, sign) -> compare bands 0..m (candidates, confirm) -> summary

Each function becomes a set of shingles (hashes of runs of normalised tokens). MinHash makes a short signature of each
set, banding puts likely twins into the same bucket, and the exact Jaccard similarity confirms them. Everything is
pure Python and every hash is stable (crc32, blake2b), so the result is the same on threads and on processes, in one
go or after any number of kills.

    durapool run examples/code_clones.py:handler --executor process
    python examples/code_clones.py PATH --executor process --id my-run
"""

from __future__ import annotations

import argparse
import ast
import json
import keyword
import os
import sys
import sysconfig
import tokenize
import warnings
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import Any
from zlib import crc32

import durapool
from durapool import DurableContext, durable_execution
from durapool.config import MapConfig

CHUNK = 24  # files a branch
SHINGLE = 7  # tokens a shingle
MIN_TOKENS = 60  # shorter functions look alike without being copies
SIMILAR = 0.85  # Jaccard similarity from which two functions are clones
BANDS, ROWS = 16, 8  # 128 hashes: a pair at SIMILAR meets in some band with probability 0.994
BANDS_A_BRANCH = 4
KEY = 8  # bytes of a band's key
PRIME = (1 << 31) - 1
TOP = 10  # pairs shown
SCANNED = "<scanned>"  # the file name that warnings about scanned source carry

Function = tuple[str, bytes]
"""Where a function stands ("path:line name"), and its shingles: sorted uint32 values, packed."""

Pair = tuple[int, int]
"""Positions of two functions in the list of all, the lower first."""


def _coefficient(index: int, which: str) -> int:
    return int.from_bytes(blake2b(f"{which}{index}".encode(), digest_size=8).digest(), "big") % (PRIME - 1) + 1


HASHES = tuple((_coefficient(i, "a"), _coefficient(i, "b")) for i in range(BANDS * ROWS))
"""The MinHash family: x -> (a * x + b) mod PRIME."""


@durable_execution
def handler(event: dict[str, Any] | None, context: DurableContext) -> dict[str, Any]:
    """Find clones. Event keys, all optional:

    root: the directory (default: the standard library of this Python); chunk: files a branch; limit: look at only
    so many files, spread evenly; log: a file to which every step that runs appends one line (for tests and demos).
    """
    event = event or {}
    root: str = event.get("root") or sysconfig.get_paths()["stdlib"]
    log: str | None = event.get("log")
    files = context.step(lambda _: list_files(root, event.get("limit"), log), name="list")
    branches = -(-len(files) // int(event.get("chunk") or CHUNK))
    chunks = [files[i::branches] for i in range(branches)]  # dealt out, so that big packages are spread

    scanned = context.map(
        chunks,
        lambda ctx, paths, index, _: scan(ctx, root, paths, f"scan-{index}", log),
        name="scan",
        config=MapConfig(item_namer=lambda _, index: f"scan-{index}"),
    )
    scanned.throw_if_error()
    signed = sorted(entry for part in scanned.get_results() for entry in part["functions"])
    functions: list[Function] = [(label, shingles) for label, shingles, _ in signed]
    keys = {shingles: key for _, shingles, key in signed}
    distinct = sorted(keys)  # exact copies share their shingles, so they are compared as one
    all_keys = [keys[shingles] for shingles in distinct]

    compared = context.map(
        [list(range(first, first + BANDS_A_BRANCH)) for first in range(0, BANDS, BANDS_A_BRANCH)],
        lambda ctx, bands, index, _: compare(ctx, bands, all_keys, distinct, f"compare-{index}", log),
        name="compare",
        config=MapConfig(item_namer=lambda _, index: f"compare-{index}"),
    )
    compared.throw_if_error()
    pairs = [pair for part in compared.get_results() for pair in part]
    counts = {
        "files": len(files),
        "skipped_files": sum(part["skipped"] for part in scanned.get_results()),
        "functions": len(functions),
    }
    found = context.step(lambda _: summarise(functions, distinct, pairs, log), name="summary")
    return counts | found


def scan(ctx: DurableContext, root: str, paths: Sequence[str], branch: str, log: str | None) -> dict[str, Any]:
    """One branch of the first map: the functions of some files, each with its shingles and band keys."""
    functions, skipped = ctx.step(lambda _: read_functions(root, paths, f"{branch}/read", log), name="read")
    keys = ctx.step(lambda _: sign(functions, f"{branch}/sign", log), name="sign")
    signed = [(label, shingles, key) for (label, shingles), key in zip(functions, keys, strict=True)]
    return {"functions": signed, "skipped": skipped}


def compare(
    ctx: DurableContext,
    bands: Sequence[int],
    keys: Sequence[bytes],
    shingles: Sequence[bytes],
    branch: str,
    log: str | None,
) -> list[tuple[int, int, float]]:
    """One branch of the second map: the pairs that first meet in one of these bands, confirmed."""
    candidates = ctx.step(lambda _: find_candidates(bands, keys, f"{branch}/candidates", log), name="candidates")
    return ctx.step(lambda _: confirm(candidates, shingles, f"{branch}/confirm", log), name="confirm")


def list_files(root: str, limit: int | None, log: str | None) -> list[str]:
    """The .py files below `root`, relative and sorted, without installed packages; at most `limit`, spread evenly."""
    note(log, "main/list")
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in ("site-packages", "dist-packages", "__pycache__")]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names if name.endswith(".py")]
    found.sort()
    if limit is None or limit >= len(found):
        return found
    return [found[i * len(found) // limit] for i in range(limit)]


def read_functions(root: str, paths: Sequence[str], step: str, log: str | None) -> tuple[list[Function], int]:
    """The functions of these files that are long enough, and how many files could not be parsed."""
    note(log, step)
    warnings.filterwarnings("ignore", module=SCANNED)  # odd escapes in the scanned files are not our warnings
    functions: list[Function] = []
    skipped = 0
    for path in paths:
        try:
            with tokenize.open(os.path.join(root, path)) as file:
                functions += functions_of(file.read(), path)
        except (SyntaxError, ValueError, RecursionError, tokenize.TokenError, OSError):
            skipped += 1  # test data that is wrong on purpose, mostly
    return functions, skipped


def functions_of(source: str, path: str) -> list[Function]:
    """The shingles of each outermost function or method of one file."""
    found: list[Function] = []
    tokens = list(significant_tokens(source))
    position = 0
    for node in outer_functions(ast.parse(source, SCANNED)):
        end = node.end_lineno or node.lineno
        while position < len(tokens) and tokens[position][0] < node.lineno:
            position += 1
        start = position
        while position < len(tokens) and tokens[position][0] <= end:
            position += 1
        if position - start >= MIN_TOKENS:
            words = [word for _, word in tokens[start:position]]
            found.append((f"{path}:{node.lineno} {node.name}", shingles_of(words)))
    return found


def outer_functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions and methods in the order of the source; what is defined inside a function belongs to it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        else:
            yield from outer_functions(node)


def significant_tokens(source: str) -> Iterator[tuple[int, str]]:
    """(line, word) of the tokens that make the code. Names and literals are levelled; attributes keep their name."""
    ignored = (
        tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    )  # fmt: skip
    lines = iter(source.splitlines(keepends=True))
    previous = ""
    for kind, text, (line, _), _, _ in tokenize.generate_tokens(lambda: next(lines, "")):
        if kind in ignored:
            continue
        if kind == tokenize.NAME:
            word = text if previous == "." or keyword.iskeyword(text) else "v"
        elif kind == tokenize.OP:
            word = text
        else:
            word = tokenize.tok_name[kind]
        previous = text
        yield line, word


def shingles_of(words: Sequence[str]) -> bytes:
    """The set of hashes of all runs of SHINGLE words, packed."""
    runs = (" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1))
    return array("I", sorted({crc32(run.encode()) for run in runs})).tobytes()


def unpacked(shingles: bytes) -> array[int]:
    """The hashes in a packed set."""
    values = array("I")
    values.frombytes(shingles)
    return values


def sign(functions: Sequence[Function], step: str, log: str | None) -> list[bytes]:
    """The band keys of each function, one after the other in one bytes object."""
    note(log, step)
    return [band_keys(minhash(unpacked(shingles))) for _, shingles in functions]


def minhash(shingles: Sequence[int]) -> array[int]:
    """The least value of each hash over the set; two sets agree in each place with their Jaccard similarity."""
    return array("I", [min([(a * x + b) % PRIME for x in shingles]) for a, b in HASHES])


def band_keys(signature: array[int]) -> bytes:
    """A short hash of each band of ROWS values."""
    bands = (signature[i : i + ROWS].tobytes() for i in range(0, BANDS * ROWS, ROWS))
    return b"".join(blake2b(band, digest_size=KEY).digest() for band in bands)


def find_candidates(bands: Sequence[int], keys: Sequence[bytes], step: str, log: str | None) -> list[Pair]:
    """The pairs that share a bucket in one of `bands` and in no band before it, so that no pair comes twice."""
    note(log, step)
    found: list[Pair] = []
    for band in bands:
        place = slice(band * KEY, (band + 1) * KEY)
        buckets: defaultdict[bytes, list[int]] = defaultdict(list)
        for index, key in enumerate(keys):
            buckets[key[place]].append(index)
        for members in buckets.values():
            found += [pair for pair in combinations(members, 2) if not met_before(band, keys[pair[0]], keys[pair[1]])]
    return sorted(found)


def met_before(band: int, left: bytes, right: bytes) -> bool:
    """Whether two functions share a bucket in a band below `band`."""
    return any(left[i : i + KEY] == right[i : i + KEY] for i in range(0, band * KEY, KEY))


def confirm(
    candidates: Sequence[Pair], shingles: Sequence[bytes], step: str, log: str | None
) -> list[tuple[int, int, float]]:
    """The candidates that are clones, with their exact Jaccard similarity."""
    note(log, step)
    sets = {index: frozenset(unpacked(shingles[index])) for pair in candidates for index in pair}
    found = []
    for low, high in candidates:
        shared = len(sets[low] & sets[high])
        similarity = shared / (len(sets[low]) + len(sets[high]) - shared)
        if similarity >= SIMILAR:
            found.append((low, high, similarity))
    return found


def summarise(
    functions: Sequence[Function],
    distinct: Sequence[bytes],
    pairs: Sequence[tuple[int, int, float]],
    log: str | None,
) -> dict[str, Any]:
    """The groups of clones (connected by pairs), and the pairs with the most code in common."""
    note(log, "main/summary")
    copies: defaultdict[bytes, list[str]] = defaultdict(list)
    for label, shingles in functions:
        copies[shingles].append(label)
    leader = list(range(len(distinct)))
    for low, high, _ in sorted(pairs):
        leader[root_of(leader, high)] = root_of(leader, low)
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for index, shingles in enumerate(distinct):
        groups[root_of(leader, index)] += copies[shingles]
    clones = [sorted(group) for group in groups.values() if len(group) > 1]

    ranked = [(len(shingles), 1.0, copies[shingles][:2]) for shingles in distinct if len(copies[shingles]) > 1]
    for low, high, similarity in pairs:
        labels = sorted((copies[distinct[low]][0], copies[distinct[high]][0]))
        ranked.append((len(distinct[low]), similarity, labels))
    ranked.sort(key=lambda entry: (-entry[0] * entry[1], entry[2]))
    return {
        "clone_groups": len(clones),
        "cloned_functions": sum(map(len, clones)),
        "largest_group": min(clones, key=lambda group: (-len(group), group))[:TOP] if clones else [],
        "top_pairs": [{"similarity": round(part, 4), "functions": names} for _, part, names in ranked[:TOP]],
    }


def root_of(leader: list[int], index: int) -> int:
    """The representative of a group in a union-find forest."""
    while leader[index] != index:
        leader[index] = leader[leader[index]]
        index = leader[index]
    return index


def note(log: str | None, step: str) -> None:
    """Append "<branch>/<step> <pid>" in one write, so that lines of several processes never mix."""
    if log is None:
        return
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{step} {os.getpid()}\n".encode())
    finally:
        os.close(descriptor)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Find near-duplicate functions below a directory.")
    parser.add_argument("root", nargs="?", help="default: the standard library of this Python")
    parser.add_argument("--chunk", type=int, default=CHUNK, help="files a branch (default %(default)s)")
    parser.add_argument("--limit", type=int, help="look at only so many files, spread evenly")
    parser.add_argument("--log", help="append a line for each step that runs to this file")
    parser.add_argument("--executor", help='"thread", "process" or "process:N"')
    parser.add_argument("--id", help="the id of the run: give the same one again to resume")
    parser.add_argument("--store", help="the store's file (default .durapool/journal.db)")
    options = parser.parse_args(arguments)
    root = None if options.root is None else str(Path(options.root).resolve())
    event = {"root": root, "chunk": options.chunk, "limit": options.limit, "log": options.log}
    result = durapool.run(handler, event, id=options.id, store=options.store, executor=options.executor)
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
