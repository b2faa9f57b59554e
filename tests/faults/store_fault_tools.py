"""What the tests of failing stores share: a job that keeps a ledger, and a check of what a rerun makes of it."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import psutil

import durapool
from durapool import durable_execution
from durapool.exceptions import StoreError
from durapool.executors import ProcessExecutor
from durapool.records import Action

ITEMS, STEPS = 8, 3
RESULT = [[item * 10 + step for step in range(STEPS)] for item in range(ITEMS)]


class Ledger:
    """Lines that processes append, each in one write.

    "began" when the body of a step starts, "acknowledged" when its branch has gone on past it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, what: str, *about: object) -> None:
        with self.path.open("a") as file:
            file.write(" ".join(map(str, [what, *about])) + "\n")

    def counts(self, what: str) -> Counter[str]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return Counter(line.partition(" ")[2] for line in lines if line.startswith(what))


def handler_for(ledger: Ledger, workers: int = 2, disturb=lambda item, step: None):
    """A map of ITEMS branches with STEPS steps each; `disturb` is called in a branch ahead of each step."""

    def branch(ctx, item, index, inputs):
        results = []
        for number in range(STEPS):
            disturb(item, number)

            def body(_, number=number):
                ledger.note("began", item, number)
                return item * 10 + number

            results.append(ctx.step(body, name=f"step-{item}-{number}"))
            ledger.note("acknowledged", item, number)
        return results

    @durable_execution(executor=ProcessExecutor(workers=workers))
    def handler(event, context):
        result = context.map(range(ITEMS), branch)
        result.throw_if_error()
        return result.get_results()

    return handler


def recorded_steps(store) -> set[str]:
    """The names of the steps whose results are in the store."""
    updates = [record.update for record in store.read("x")]
    return {u.name for u in updates if u.name and u.name.startswith("step-") and u.action is Action.SUCCEED}


def check_rerun(ledger: Ledger, store, kept: set[str]) -> None:
    """What was acknowledged is recorded, and a run on a sound store ends right without a recorded step run again."""
    assert {f"step-{about.replace(' ', '-')}" for about in ledger.counts("acknowledged")} <= kept
    before = ledger.counts("began")
    assert durapool.run(handler_for(ledger), id="x", store=store) == RESULT
    after = ledger.counts("began")
    again = {f"step-{about.replace(' ', '-')}" for about in after if after[about] != before[about]}
    assert not again & kept
    assert again | kept == {f"step-{item}-{step}" for item in range(ITEMS) for step in range(STEPS)}


def assert_gone(pids) -> None:
    """Processes that were killed before the run ended; the kernel may still be clearing them away."""
    for pid in pids:
        try:
            psutil.Process(pid).wait(2)
        except psutil.NoSuchProcess:
            pass


class FailingStore:
    """A store that fails at the first write, counted from 1, for which `fails` is true, and ever after."""

    def __init__(self, store, fails) -> None:
        self._store, self._fails, self._writes, self._broken = store, fails, 0, False

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    def write(self, execution_id, records) -> None:
        self._writes += 1
        self._broken = self._broken or self._fails(self._writes)
        if self._broken:
            raise StoreError("the disk is on fire: fetch water")
        self._store.write(execution_id, records)


def hangs_last(ledger: Ledger):
    """One branch of two begins, tells its pid, and never ends by itself."""

    def disturb(item: int, step: int) -> None:
        if item == 1 and not ledger.counts("hangs"):
            ledger.note("hangs", os.getpid())
            signal.pause()
        if item == 0:
            while not ledger.counts("hangs"):
                os.sched_yield()

    return disturb
