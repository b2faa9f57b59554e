"""The process executor needs no POSIX semaphore and no /dev/shm: it runs where `sem_open` does not work."""

from __future__ import annotations

import os
import sys
import textwrap

import pytest
from program_tools import START_METHODS, run_program

from serverless import SHADOWS, SITE, WHY_NOT, shadowed

PROGRAM = """
import errno, multiprocessing

def without_semaphores():
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:
        return error.errno == errno.ENOSYS
    return False

def without_shared_memory():
    from multiprocessing import shared_memory
    try:
        shared_memory.SharedMemory(create=True, size=1 << 20)
    except OSError:
        return True
    return False

def leaf(ctx, item, index, inputs):
    return item

def branch(ctx, item, index, inputs):
    large = ctx.step(lambda _: bytes(3 << 20))
    inner = ctx.map(range(3), leaf).get_results()
    return [without_semaphores(), without_shared_memory(), len(large), inner]

@durable_execution(executor=ProcessExecutor(workers=2, start_method=METHOD))
def handler(event, context):
    results = context.map(range(4), branch).get_results()
    lost = context.parallel(
        [lambda ctx: os._exit(7), lambda ctx: "stays"],
        config=ParallelConfig(completion_config=CompletionConfig.all_completed()),
    )
    return [results, lost.failed_results[0].type, lost.successful_results]

here = [without_semaphores(), without_shared_memory()]
print([here, durapool.run(handler, id="job", store="journal.db")])
"""


@pytest.mark.skipif(bool(WHY_NOT), reason=f"mount namespaces are not allowed here: {WHY_NOT}")
@pytest.mark.parametrize("start_method", START_METHODS)
@pytest.mark.parametrize("shadow", SHADOWS)
def test_batches_run_without_semaphores_and_shared_memory(shadow, start_method, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(SITE))
    done = run_program(
        tmp_path,
        PROGRAM,
        start_method,
        command=[*shadowed(shadow), sys.executable],
        environment={"PYTHONPATH": str(tmp_path)},
    )
    broken = [True, True]
    branch = [*broken, 3 << 20, [0, 1, 2]]
    assert done.stdout.strip() == repr([broken, [[branch] * 4, "WorkerLostError", ["stays"]]])
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path).count("journal.db") == 1


@pytest.mark.parametrize("start_method", START_METHODS)
def test_batches_run_without_semaphores(start_method, tmp_path):
    """The part that needs no namespace, so that it is never skipped."""
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(SITE))
    source = PROGRAM.replace("without_shared_memory()]", "True]").replace("without_shared_memory(), len", "True, len")
    done = run_program(tmp_path, source, start_method, environment={"PYTHONPATH": str(tmp_path)})
    branch = [True, True, 3 << 20, [0, 1, 2]]
    assert done.stdout.strip() == repr([[True, True], [[branch] * 4, "WorkerLostError", ["stays"]]])
