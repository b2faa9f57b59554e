"""A program: one execution environment. It takes invocations from a pipe, one at a time, and runs the handler.

    python -m perf.local_lambda.environment DESCRIPTOR MODULE:ATTRIBUTE

As on Lambda, an environment is kept for the next invocation, the handler runs in the main thread, its argument and its
result are JSON, and what it raises is answered as errorType, errorMessage and stackTrace.
"""

from __future__ import annotations

import json
import sys
import traceback
from functools import reduce
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from perf.local_lambda.invocations import Answer, Invocation, Raised, Ready, Returned


def found(name: str) -> Any:
    """The handler "module:attribute"."""
    module, _, attribute = name.partition(":")
    return reduce(getattr, attribute.split("."), import_module(module))


def answer(invocation: Invocation) -> Answer:
    """Run the handler once."""
    try:
        result = found(invocation.handler)(json.loads(invocation.event), invocation.context)
        return Returned(json.dumps(result).encode())
    except Exception as error:  # noqa: BLE001  # Lambda answers with whatever a handler raises
        lines = traceback.format_exception(error)
        sys.stderr.write("".join(lines))
        described = {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": lines}
        return Raised(json.dumps(described).encode())


def main() -> None:
    """Import the handler, say so, and run until the endpoint closes the pipe."""
    pipe = Connection(int(sys.argv[1]))
    found(sys.argv[2])
    pipe.send(Ready())
    while True:
        try:
            invocation = pipe.recv()
        except EOFError:
            return
        pipe.send(answer(invocation))


if __name__ == "__main__":
    main()
