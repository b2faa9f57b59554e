"""The exit codes of the command line: stated here once, shown by ``durapool --help``."""

from __future__ import annotations

from enum import IntEnum

from durapool.exceptions import (
    DurableExecutionsError,
    DurableOperationError,
    ExecutionAlreadyRunningError,
    ExecutionError,
    ExecutionFailedError,
    ExecutionStoppedError,
    InvocationError,
    PoolError,
    StoreError,
)


class ExitCode(IntEnum):
    """What the process ends with. Above 128: 128 and the number of the signal, as shells count."""

    OK = 0
    HANDLER_FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    BUG = 70
    HANGUP = 129
    INTERRUPTED = 130
    CLOSED_PIPE = 141
    TERMINATED = 143


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.HANDLER_FAILED: "the handler failed, or the execution was stopped",
    ExitCode.USAGE: "wrong usage or bad input; nothing was run",
    ExitCode.UNAVAILABLE: "the store or the workers have trouble, or the execution runs elsewhere",
    ExitCode.BUG: "an error in durapool itself",
    ExitCode.HANGUP: "stopped by SIGHUP",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C",
    ExitCode.CLOSED_PIPE: "the reader of the output went away",
    ExitCode.TERMINATED: "stopped by SIGTERM",
}


def exit_code_of(error: DurableExecutionsError) -> ExitCode:
    """The exit code for an error that reached the command line."""
    match error:
        case ExecutionFailedError() | ExecutionStoppedError() | ExecutionError() | InvocationError():
            return ExitCode.HANDLER_FAILED
        case DurableOperationError():
            return ExitCode.HANDLER_FAILED
        case StoreError() | ExecutionAlreadyRunningError() | PoolError():
            return ExitCode.UNAVAILABLE
        case _:
            return ExitCode.USAGE
