"""What a branch changes in its worker and leaves behind does not hurt the branches that run there after it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest
from pool_tools import ALL
from program_tools import START_METHODS

import durapool
from durapool import ParallelConfig, durable_execution
from durapool.executors import ProcessExecutor
from durapool.stores import MemoryStore


def clears_the_path(ctx):
    sys.path.clear()


def clears_the_modules(ctx):
    sys.modules.clear()


def ignores_its_children(ctx):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def ignores_sigterm(ctx):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def blocks_signals(ctx):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])


def leaves_a_timer(ctx):
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.001)


def lowers_soft_limits(ctx):
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def lowers_hard_limits(ctx):
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def masks_modes(ctx):
    os.umask(0o777)


def goes_to_another_process_group(ctx):
    os.setpgid(0, os.getppid())


def closes_stdout(ctx):
    os.close(1)


def becomes_nobody(ctx):
    os.setuid(65534)


def goes_to_jail(ctx):
    os.chroot("/proc/self/fdinfo")


LEAVES = [
    clears_the_path,
    clears_the_modules,
    ignores_its_children,
    ignores_sigterm,
    blocks_signals,
    leaves_a_timer,
    lowers_soft_limits,
    lowers_hard_limits,
    masks_modes,
    goes_to_another_process_group,
    closes_stdout,
    *([becomes_nobody, goes_to_jail] if os.geteuid() == 0 else []),
]


@pytest.mark.parametrize("start_method", START_METHODS)
@pytest.mark.parametrize("leaves", LEAVES)
def test_the_next_branch_finds_its_worker_as_it_was(leaves, start_method, tmp_path):
    def looks(ctx):
        (tmp_path / "file").write_text("text")
        sum(range(10**6))  # CPU time, for a timer that counts it
        return {
            "path": sys.path == path,
            "exit code of a child": subprocess.run(
                [sys.executable, "-c", "raise SystemExit(7)"], check=False
            ).returncode,
            "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            "deaf": signal.getsignal(signal.SIGTERM) is signal.SIG_IGN,
            "mode": (tmp_path / "file").stat().st_mode & 0o777,
            "uid": os.geteuid(),
            "group": os.getpgid(0) == os.getpid(),
            "folder": os.path.isdir(tmp_path),
        }

    @durable_execution
    def handler(event, context):
        executor = ProcessExecutor(workers=1, start_method=start_method)
        result = context.parallel([leaves, looks], config=ParallelConfig(executor=executor, completion_config=ALL))
        result.throw_if_error()
        return result.all[1].result

    path = list(sys.path)
    umask = os.umask(0o22)
    os.umask(umask)
    assert durapool.run(handler, store=MemoryStore()) == {
        "path": True,
        "exit code of a child": 7,
        "blocked": set(),
        "deaf": False,
        "mode": 0o666 & ~umask,
        "uid": os.geteuid(),
        "group": True,
        "folder": True,
    }
