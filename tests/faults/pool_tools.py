"""Short ways to run a batch and to look into its pool, for the tests of what once broke."""

from __future__ import annotations

import os
import time

import psutil

import durapool
from durapool import CompletionConfig, ParallelConfig, durable_execution
from durapool.pool import registry
from durapool.stores import MemoryStore

ALL = CompletionConfig.all_completed()
FIRST = CompletionConfig.first_successful()


def the_pool():
    [running] = registry._pools.values()
    return running


def supervisor() -> psutil.Process:
    return psutil.Process(the_pool().pool._workforce.link._process.pid)


def run_batch(branches, executor="process:2", completion=ALL):
    """Each branch's result, or the type of its error."""

    @durable_execution
    def handler(event, context):
        result = context.parallel(branches, config=ParallelConfig(executor=executor, completion_config=completion))
        return [item.error.type if item.error else item.result for item in result.all]

    return durapool.run(handler, store=MemoryStore())


def wait_until(condition, seconds=10.0):
    """Until what another process does has come to pass; the time is only for a test that fails."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()
