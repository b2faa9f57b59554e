"""The Lambda Invoke API on loopback, as AWS's local service calls it.

Each invocation gets an environment of its kind that is idle, or a new one. An environment that ends during an
invocation, or is killed at the deadline, answers as on Lambda: with a function error, and the next invocation gets
another environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Pipe
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

from perf.harness import ROOT
from perf.local_lambda.invocations import Answer, Ended, Invocation, LambdaContext, Outcome, Raised, Ready, Returned
from perf.local_lambda.service import HOST, REGION

ACCOUNT = "123456789012"
PROGRAM = "perf.local_lambda.environment"
START = 60.0  # seconds that an environment may take to import its handler


def ignore(_name: str, _event: bytes) -> None:
    """What the endpoint tells of invocations where nobody asks."""


@dataclass(frozen=True)
class Function:
    """How a function is configured.

    Attributes:
        handler: "module:attribute".
        variables: added to the environment's variables.
        command: what runs the interpreter, if something has to be done before it.
        timeout: seconds until an invocation is killed.
    """

    handler: str
    variables: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
    timeout: float = 60.0

    @property
    def kind(self) -> tuple[object, ...]:
        """Functions of one kind share environments, which spares the tests the start of many."""
        return (self.variables, self.command)


class Environment:
    """A process that runs handlers."""

    def __init__(self, function: Function, variables: Mapping[str, str], log: Path) -> None:
        self._pipe, theirs = Pipe()
        self.kind = function.kind
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(
                [*function.command, sys.executable, "-m", PROGRAM, str(theirs.fileno()), function.handler],
                cwd=ROOT,
                env={**os.environ, **variables, **dict(function.variables)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def started(self) -> bool:
        """Whether it has imported its handler. To be asked once."""
        try:
            return self._pipe.poll(START) and isinstance(self._pipe.recv(), Ready)
        except (EOFError, OSError):  # the import failed
            return False

    @property
    def pid(self) -> int:
        """The process that runs the handler."""
        return self._process.pid

    def run(self, invocation: Invocation) -> Outcome:
        """The handler's answer. What gives none in time is killed."""
        try:
            self._pipe.send(invocation)
            left = invocation.context.deadline - time.time()
            outcome: Outcome = self._pipe.recv() if self._pipe.poll(max(0.0, left)) else Ended()
        except (EOFError, OSError):  # the process has ended
            outcome = Ended()
        if isinstance(outcome, Ended):
            self.kill()
        return outcome

    def kill(self) -> None:
        """End it at once."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def dismiss(self) -> None:
        """Let it end as an idle one: the process sees the end of its pipe."""
        self._pipe.close()

    def wait(self) -> None:
        """Wait for the end of one that is dismissed."""
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass
class Endpoint:
    """Serves functions by name. `functions` may grow while it runs; `seen` is told each invocation of the service.

    `answered` is set after each; whoever waits for it clears it.
    """

    log: Path
    variables: dict[str, str] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    seen: Callable[[str, bytes], object] = ignore
    answered: threading.Event = field(default_factory=threading.Event)
    _idle: list[Environment] = field(default_factory=list)
    _busy: list[Environment] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._server = _Server((HOST, 0), _Request)
        self._server.endpoint = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="endpoint")
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the service finds it."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    @property
    def busy(self) -> list[Environment]:
        """Environments that run a handler now."""
        with self._lock:
            return list(self._busy)

    @property
    def idle(self) -> list[Environment]:
        """Environments that wait for their next invocation."""
        with self._lock:
            return list(self._idle)

    def invoke(self, name: str, event: bytes) -> Answer:
        """Run a function once."""
        function = self.functions[name]
        environment = self._taken(function)
        context = LambdaContext(
            aws_request_id=str(uuid4()),
            function_name=name,
            invoked_function_arn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}",
            deadline=time.time() + function.timeout,
        )
        outcome = environment.run(Invocation(function.handler, event, context))
        with self._lock:
            self._busy.remove(environment)
            if not isinstance(outcome, Ended):
                self._idle.append(environment)
        return _ended(context) if isinstance(outcome, Ended) else outcome

    def _taken(self, function: Function) -> Environment:
        with self._lock:
            fitting = [environment for environment in self._idle if environment.kind == function.kind]
            for environment in fitting[-1:]:
                self._idle.remove(environment)
                self._busy.append(environment)
                return environment
        environment = Environment(function, self.variables, self.log)
        environment.started()  # where it has not, running something in it says so
        with self._lock:
            self._busy.append(environment)
        return environment

    def close(self) -> None:
        """Stop serving, and end all environments."""
        self._server.shutdown()
        for environment in self.busy:
            environment.kill()
        self._server.server_close()
        self._thread.join()
        for environment in self.idle:
            environment.dismiss()
        for environment in self.idle:
            environment.wait()


def _ended(context: LambdaContext) -> Raised:
    """What Lambda answers for an environment that gave no answer."""
    kind, message = (
        ("Sandbox.Timedout", "Task timed out")
        if time.time() >= context.deadline
        else ("Runtime.ExitError", "Runtime exited with error: signal: killed")
    )
    described = {"errorType": kind, "errorMessage": f"RequestId: {context.aws_request_id} Error: {message}"}
    return Raised(json.dumps(described).encode())


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    endpoint: Endpoint


class _Request(BaseHTTPRequestHandler):
    """POST /2015-03-31/functions/NAME/invocations."""

    server: _Server

    def do_POST(self) -> None:
        event = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = unquote(self.path.split("/")[3]).partition(":")[0]
        if name not in self.server.endpoint.functions:
            self._answer(404, b'{"Type": "User", "Message": "Function not found"}', "ResourceNotFoundException")
            return
        self.server.endpoint.seen(name, event)
        match self.server.endpoint.invoke(name, event):
            case Returned(payload):
                self._answer(200, payload)
            case Raised(payload):
                self._answer(200, payload, function_error="Unhandled")
        self.server.endpoint.answered.set()

    def _answer(self, status: int, payload: bytes, error: str = "", function_error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("x-amzn-RequestId", str(uuid4()))
        if error:
            self.send_header("X-Amzn-ErrorType", error)
        if function_error:
            self.send_header("X-Amz-Function-Error", function_error)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *arguments: object) -> None:  # the name is the base class's
        """Say nothing."""
