"""A worker starts fast because it imports little, and before it is forked; tests keep it so."""

from __future__ import annotations

import subprocess
import sys
import time

from durapool import DurableContext, MemoryStore, durable_execution, run
from durapool.executors import ProcessExecutor
from durapool.pool.supervisor import WORKERS_MODULES
from durapool.worker.supervisor import LATER

FORBIDDEN = ("durapool.stores", "durapool.coordinator", "durapool.journal", "durapool.execution", "durapool.pool.pool",
             "sqlite3", "click", "rich", "numpy", "asyncio", "multiprocessing", "psutil",
             "hashlib", "pathlib", "tempfile", "subprocess", "importlib.abc",
             "dataclasses", "inspect", "logging", "traceback", "ast", "platform", "uuid", "cloudpickle",
             "durapool.pickling", "durapool.operations.batch")  # fmt: skip
SUPERVISORS_MODULES = ("durapool.worker.supervisor", *WORKERS_MODULES)


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded by this statement."""
    code = f"import sys; before = set(sys.modules); {statement}; print('\\n'.join(set(sys.modules) - before))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_a_worker_imports_no_store_no_coordinator_and_nothing_heavy():
    loaded = modules_after(f"import {', '.join(SUPERVISORS_MODULES)}")
    assert not {name for name in loaded for bad in FORBIDDEN if name == bad or name.startswith(bad + ".")}


BRANCH = """
import sys
from durapool import MemoryStore, ProcessExecutor, durable_execution, run

@durable_execution
def handler(event, context):
    # it uses no global, so it needs no cloudpickle
    return context.parallel([lambda ctx: ctx.step(lambda _: list(__import__("sys").modules))]).get_results()[0]

executor = ProcessExecutor(workers=1, start_method="forkserver", preload=("durapool.pausing",))
found = run(handler, id="modules", store=MemoryStore(), executor=executor)
"""


def test_a_forked_worker_finds_all_that_a_branch_with_a_step_needs():
    program = f"{BRANCH}print('\\n'.join(found))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    late = set(done.stdout.split()) - modules_after(f"import {', '.join(SUPERVISORS_MODULES)}")
    assert {name for name in late if "durapool" in name} == set()


def test_later_workers_find_what_the_first_one_did_not_wait_for():
    @durable_execution
    def handler(_event: object, context: DurableContext) -> list[str]:
        return context.parallel([lambda _: list(sys.modules)]).get_results()[0]

    executor = ProcessExecutor(workers=1, start_method="forkserver", max_branches_per_worker=1)
    deadline = time.monotonic() + 30
    while not {*LATER, "cloudpickle", "dataclasses"} <= set(run(handler, store=MemoryStore(), executor=executor)):
        assert time.monotonic() < deadline


def test_the_package_itself_imports_lazily():
    loaded = modules_after("import durapool")
    assert {name for name in loaded if name.startswith("durapool")} == {"durapool"}
