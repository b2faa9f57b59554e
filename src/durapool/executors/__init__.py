"""Where branches run: what users write in ``executor=``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
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
        if self.start_method is not None and self.start_method not in START_METHODS:
            raise ValidationError(f"start_method must be one of {', '.join(START_METHODS)}, not {self.start_method!r}")
        _check_workers(self)


@dataclass(frozen=True)
class _Cluster:
    """What executors on clusters have in common; see `DaskExecutor`."""

    address: Any = None
    workers: int | None = None
    resources: Mapping[str, Any] | None = None
    initializer: Callable[[], Any] | None = None
    preload: tuple[str, ...] = ()
    timeout: float | None = None
    memory_limit: int | str | None = None
    max_branches_per_worker: int | None = None
    cancel_running: bool = True
    retry_lost: int = 1  # nodes come and go

    def __post_init__(self) -> None:
        if isinstance(self.address, str) and not self.address.strip():
            raise ValidationError("address must not be empty: leave it out for a cluster on this machine")
        if self.resources is not None:
            object.__setattr__(self, "resources", _checked_resources(self.resources))
        _check_workers(self)

    def __hash__(self) -> int:
        return hash((type(self), self.workers, self.timeout, self.retry_lost))

    def __reduce__(self) -> tuple[Any, ...]:
        """A connection stays here: what goes to a worker has the address alone."""
        state = dict(vars(self))
        if not isinstance(self.address, (str, type(None))):
            state["address"] = str(self.address)
        return _rebuilt, (type(self), state)


class DaskExecutor(_Cluster):
    """Branches run in worker processes on a Dask cluster; needs `pip install "durapool[dask]"`.

    Each worker process holds a slot of the cluster (a thread of a Dask worker, and the resources asked for) while it
    has something to run. All else is as with `ProcessExecutor`: isolation, limits, logs, prints, nested batches.

    Args:
        address: of the scheduler, such as "tcp://10.0.0.1:8786", or a `distributed.Client`; None to start a cluster on
            this machine, which ends with this program.
        workers: at most so many slots at once; None for as many as the cluster has.
        resources: what each branch needs of the resources that Dask workers were started with, in Dask's words:
            {"GPU": 1, "MEMORY": 10e9}.
        initializer: called once in each worker process before its first branch.
        preload: names of modules that worker processes find imported.
        timeout: seconds that a branch may run; over it, BranchTimeoutError.
        memory_limit: bytes, or text such as "2GiB", for a worker process and its descendants; over it,
            BranchMemoryError.
        max_branches_per_worker: replace a worker process after so many branches.
        cancel_running: stop running branches as soon as the batch is decided.
        retry_lost: how often a branch whose worker process or node was lost runs again elsewhere, from its checkpoints;
            0 to let it fail.

    Raises:
        ValidationError: a value out of range.

    Example:
        >>> config = ParallelConfig(executor=DaskExecutor("tcp://10.0.0.1:8786", workers=100, resources={"GPU": 1}))
        >>> config.executor.workers
        100
    """


class RayExecutor(_Cluster):
    """Branches run in worker processes on a Ray cluster; needs `pip install "durapool[ray]"`.

    Each worker process holds a slot of the cluster (the resources asked for) while it has something to run. All else
    is as with `ProcessExecutor`: isolation, limits, logs, prints, nested batches.

    Args:
        address: as `ray.init` takes it: "auto", "ray://10.0.0.1:10001", "10.0.0.1:6379"; None for the cluster that this
            program is connected to, or that RAY_ADDRESS names, or else one on this machine, which ends with this
            program.
        workers: at most so many slots at once; None for as many as the cluster has.
        resources: what each branch needs, in Ray's words: {"num_cpus": 1, "num_gpus": 1, "memory": 2e9, "resources":
            {"licence": 1}}; None for one CPU.
        initializer: called once in each worker process before its first branch.
        preload: names of modules that worker processes find imported.
        timeout: seconds that a branch may run; over it, BranchTimeoutError.
        memory_limit: bytes, or text such as "2GiB", for a worker process and its descendants; over it,
            BranchMemoryError.
        max_branches_per_worker: replace a worker process after so many branches.
        cancel_running: stop running branches as soon as the batch is decided.
        retry_lost: how often a branch whose worker process or node was lost runs again elsewhere, from its checkpoints;
            0 to let it fail.

    Raises:
        ValidationError: a value out of range.

    Example:
        >>> config = ParallelConfig(executor=RayExecutor("auto", resources={"num_cpus": 2}))
        >>> config.executor.resources
        {'num_cpus': 2}
    """


ClusterExecutor = DaskExecutor | RayExecutor
PooledExecutor = ProcessExecutor | ClusterExecutor
"""Those whose branches run in worker processes."""

ExecutorSpec = str | ThreadExecutor | PooledExecutor
"""What ``executor=`` takes: "thread", "process", "process:8" (workers), "dask", "dask:tcp://host:8786" (scheduler),
"ray", "ray:auto" (as `ray.init` takes it), or an executor object."""


def _check_workers(executor: PooledExecutor | _Cluster) -> None:
    """What all executors with worker processes have in common."""
    counts = (("workers", executor.workers), ("max_branches_per_worker", executor.max_branches_per_worker))
    for name, value in counts:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValidationError(f"{name} must be a whole number of at least 1, not {value!r}")
    timeout, retry_lost, preload = executor.timeout, executor.retry_lost, executor.preload
    if timeout is not None and (not isinstance(timeout, (int, float)) or not timeout > 0):
        raise ValidationError(f"timeout must be above 0 seconds, not {timeout!r}")
    if isinstance(retry_lost, bool) or not isinstance(retry_lost, int) or retry_lost < 0:
        raise ValidationError(f"retry_lost must be a whole number of at least 0, not {retry_lost!r}")
    if executor.initializer is not None and not callable(executor.initializer):
        raise ValidationError(f"initializer must be callable, not {executor.initializer!r}")
    if isinstance(preload, str) or not all(isinstance(name, str) for name in preload):
        raise ValidationError(f"preload must be a list of module names, not {preload!r}")
    object.__setattr__(executor, "preload", tuple(preload))
    object.__setattr__(executor, "memory_limit", parse_size(executor.memory_limit))


def _checked_resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    """A copy, nested as Ray has it."""
    if not isinstance(resources, Mapping) or not all(isinstance(name, str) for name in resources):
        raise ValidationError(f'resources must map names to amounts, such as {{"GPU": 1}}, not {resources!r}')
    found: dict[str, Any] = {}
    for name, amount in resources.items():
        if isinstance(amount, Mapping):
            found[name] = _checked_resources(amount)
        elif isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < float("inf"):
            raise ValidationError(f"the amount of resource {name!r} must be a number of at least 0, not {amount!r}")
        else:
            found[name] = amount
    return found


def _rebuilt(kind: type[_Cluster], state: dict[str, Any]) -> _Cluster:
    made = kind.__new__(kind)
    vars(made).update(state)
    return made


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


def parse_executor(spec: ExecutorSpec) -> ThreadExecutor | PooledExecutor:
    """The executor object that a spec names.

    Raises:
        ValidationError: not a spec, or its extra is not installed.

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
        case DaskExecutor():
            return _with_extra(spec, "distributed", "dask")
        case RayExecutor():
            return _with_extra(spec, "ray", "ray")
        case "dask":
            return parse_executor(DaskExecutor())
        case "ray":
            return parse_executor(RayExecutor())
        case str() if spec.startswith("dask:") and spec[5:].strip():
            return parse_executor(DaskExecutor(spec[5:].strip()))
        case str() if spec.startswith("ray:") and spec[4:].strip():
            return parse_executor(RayExecutor(spec[4:].strip()))
        case _:
            raise ValidationError(
                'executor must be "thread", "process", "process:N", "dask", "dask:ADDRESS", "ray", "ray:ADDRESS" or an '
                f"executor object, not {spec!r}"
            )


def _with_extra(executor: ClusterExecutor, module: str, extra: str) -> ClusterExecutor:
    if find_spec(module) is None:
        raise ValidationError(
            f"{type(executor).__name__} needs the package {module}, which is not installed: "
            f'pip install "durapool[{extra}]"'
        )
    return executor
