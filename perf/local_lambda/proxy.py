"""Stands between the functions and the service: it sees every call, and can fail or lose some.

The rule in force decides about each call before it goes on. A call that is lost has reached the service, and its answer
does not come back: what a connection that breaks at the worst moment does.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from perf.local_lambda.service import HOST

_PATH = re.compile(r"/2025-12-01/durable-executions/(?P<arn>[^/]+)/(?P<api>checkpoint|state)")


@dataclass(frozen=True)
class Forward:
    """Pass the call on, and the answer back."""


@dataclass(frozen=True)
class Answer:
    """Answer in the service's place."""

    status: int
    error: str
    message: str = "injected"
    header: str = ""  # "Name: value"


@dataclass(frozen=True)
class Drop:
    """Break the connection before the service has heard of it."""


@dataclass(frozen=True)
class Lose:
    """Pass the call on, then do something, then break the connection without an answer."""

    then: Callable[[], object] = lambda: None


Action = Forward | Answer | Drop | Lose


@dataclass(frozen=True)
class Call:
    """One call of the service's API by a function."""

    api: str  # "checkpoint" or "state"
    arn: str
    number: int  # among the calls for this execution, from 0
    body: dict[str, Any]
    size: int

    @property
    def updates(self) -> list[dict[str, Any]]:
        """The updates of a checkpoint."""
        return list(self.body.get("Updates") or ())


Rule = Callable[[Call], Action]


def forward(_call: Call) -> Action:
    """The rule that lets all pass."""
    return Forward()


@dataclass
class Proxy:
    """A reverse proxy on loopback."""

    rule: Rule = forward
    target: str = ""  # the service's URL
    calls: list[Call] = field(default_factory=list)
    passed: list[Call] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._server = _Server((HOST, 0), _Request)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="proxy")
        self._thread.start()

    @property
    def url(self) -> str:
        """What functions take for the service."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    def seen(self, path: str, body: bytes) -> tuple[Call, Action]:
        """Note a call, and decide about it."""
        match = _PATH.match(path)
        arn = unquote(match["arn"]) if match else ""
        with self._lock:
            number = sum(call.arn == arn for call in self.calls)
            call = Call(match["api"] if match else "", arn, number, json.loads(body) if body else {}, len(body))
            self.calls.append(call)
        return call, self.rule(call)

    def of(self, arn: str) -> list[Call]:
        """All calls for an execution."""
        with self._lock:
            return [call for call in self.calls if call.arn == arn]

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    proxy: Proxy


class _Request(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        call, action = self.server.proxy.seen(self.path, body)
        match action:
            case Forward():
                self._forward(call, body)
            case Answer():
                self._answer(action)
            case Drop():
                pass
            case Lose(then):
                self._sent_on(call, body)
                then()
        self.close_connection = True

    def _sent_on(self, call: Call, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection(str(urlsplit(self.server.proxy.target).netloc), timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        try:
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            answer = response.status, response.getheaders(), response.read()
        finally:
            connection.close()
        if answer[0] < 300:
            self.server.proxy.passed.append(call)
        return answer

    def _forward(self, call: Call, body: bytes) -> None:
        try:
            status, headers, content = self._sent_on(call, body)
        except (HTTPException, OSError):
            return  # the service is gone: so is this connection
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, answer: Answer) -> None:
        content = json.dumps({"message": answer.message, "Type": "Injected"}).encode()
        self.send_response(answer.status)
        self.send_header("X-Amzn-ErrorType", answer.error)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if answer.header:
            name, _, value = answer.header.partition(": ")
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # the name is the base class's
        """Say nothing."""
