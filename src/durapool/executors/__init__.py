"""Where branches run: what users write in ``executor=``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from durapool.exceptions import ValidationError
from durapool.values import dataclass

_SIZE = r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?"  # compiled when the first size is given as text
_FACTORS = {"k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}
START_METHODS = ("forkserver", "spawn", "fork")


@dataclass(frozen=True)
class ThreadExecutor:
    """Branches run on threads of this process: cheap, shared memory, one GIL.

    Args:
        max_threads: at most so many threads a batch, started on demand.

    Raises:
        ValidationError: not a whole number of at least 1.

    Example:
        >>> config = ParallelConfig(executor=ThreadExecutor(max_threads=8))
        >>> context.parallel([first, second], config=config).success_count
        2
    """

    max_threads: int = 1000

    def __post_init__(self) -> None:
        if isinstance(self.max_threads, bool) or not isinstance(self.max_threads, int) or self.max_threads < 1:
            raise ValidationError(f"max_threads must be a whole number of at least 1, not {self.max_threads!r}")


@dataclass(frozen=True)
class ProcessExecutor:
    """Branches run in worker processes: all cores, isolated, and one that dies takes only its branch along.

    Workers follow this process: working directory, sys.path, environment, levels of loggers and filters of warnings
    are what they were here when the batch began. What a branch says comes here: log records to the handlers of this
    process, once, with `durapool_execution`, `durapool_branch` and `durapool_worker` as attributes; warnings as if
    they had been issued here, each once a batch; stdout and stderr to `sys.stdout` and `sys.stderr`, in whole lines.

    Thread counts of BLAS and OpenMP are set in workers (CPUs by workers) unless the environment has them. A library
    that this process has loaded already keeps its count under start_method="fork".

    coverage.py measures in workers as in any subprocess, with `parallel = true` and either `patch = subprocess` in its
    configuration or COVERAGE_PROCESS_START and a .pth file; under start_method="fork", `parallel = true` is enough.
    Workers that end by themselves save what they measured; workers that are killed (lost, over a limit, a decided
    batch's) do not.

    Args:
        workers: how many; None for the CPUs that this process may use (affinity and cgroup quota counted).
        start_method: "forkserver", "spawn" or "fork"; None for the best that the platform has.
        initializer: called once in each worker before its first branch.
        preload: names of modules that workers find imported.
        timeout: seconds that a branch may run; over it, BranchTimeoutError.
        memory_limit: bytes, or text such as "2GiB", for a worker and its descendants; over it, BranchMemoryError.
        max_branches_per_worker: replace a worker after so many branches.
        cancel_running: stop running branches as soon as the batch is decided.
        retry_lost: how often a branch whose worker died runs again, from its checkpoints.

    Raises:
        ValidationError: a value out of range.

    Example:
        >>> executor = ProcessExecutor(workers=2, timeout=600, memory_limit="2GiB", retry_lost=1)
        >>> context.parallel([first, second], config=ParallelConfig(executor=executor)).get_results()
        ['first', 'second']
    """

    workers: int | None = None
    start_method: str | None = None
    initializer: Callable[[], Any] | None = None
    preload: tuple[str, ...] = ()
    timeout: float | None = None
    memory_limit: int | str | None = None
    max_branches_per_worker: int | None = None
    cancel_running: bool = True
    retry_lost: int = 0

    def __post_init__(self) -> None:
        for name, value in (("workers", self.workers), ("max_branches_per_worker", self.max_branches_per_worker)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValidationError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.start_method is not None and self.start_method not in START_METHODS:
            raise ValidationError(f"start_method must be one of {', '.join(START_METHODS)}, not {self.start_method!r}")
        if self.timeout is not None and (not isinstance(self.timeout, (int, float)) or not self.timeout > 0):
            raise ValidationError(f"timeout must be above 0 seconds, not {self.timeout!r}")
        if isinstance(self.retry_lost, bool) or not isinstance(self.retry_lost, int) or self.retry_lost < 0:
            raise ValidationError(f"retry_lost must be a whole number of at least 0, not {self.retry_lost!r}")
        if self.initializer is not None and not callable(self.initializer):
            raise ValidationError(f"initializer must be callable, not {self.initializer!r}")
        if isinstance(self.preload, str) or not all(isinstance(name, str) for name in self.preload):
            raise ValidationError(f"preload must be a list of module names, not {self.preload!r}")
        object.__setattr__(self, "preload", tuple(self.preload))
        object.__setattr__(self, "memory_limit", parse_size(self.memory_limit))


ExecutorSpec = str | ThreadExecutor | ProcessExecutor
"""What ``executor=`` takes: "thread", "process", "process:8" (workers), or an executor object."""


def parse_size(value: int | str | None) -> int | None:
    """Bytes of a number or of text such as "512MB" or "2GiB".

    Raises:
        ValidationError: not a size above 0.
    """
    if value is None:
        return None
    if isinstance(value, str):
        match = re.fullmatch(_SIZE, value.strip(), re.IGNORECASE)
        if match is None:
            raise ValidationError(f'a size is a number of bytes or text such as "2GiB", not {value!r}')
        unit = (match[2] or "").lower()
        value = int(float(match[1]) * (_FACTORS | _BINARY).get(unit, 1))
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValidationError(f"a size must be above 0 bytes, not {value!r}")
    return value


def parse_executor(spec: ExecutorSpec) -> ThreadExecutor | ProcessExecutor:
    """The executor object that a spec names.

    Raises:
        ValidationError: not a spec.

    Example:
        >>> parse_executor("process:8").workers
        8
    """
    match spec:
        case ThreadExecutor() | ProcessExecutor():
            return spec
        case "thread":
            return ThreadExecutor()
        case "process":
            return ProcessExecutor()
        case str() if spec.startswith("process:") and spec[8:].isdecimal():
            return ProcessExecutor(workers=int(spec[8:]))
        case _:
            raise ValidationError(
                f'executor must be "thread", "process", "process:N" or an executor object, not {spec!r}'
            )
