"""A program: AWS's local service on a free port, which it prints. It ends when its standard input does.

AWS's own command (`dex-local-runner start-server`) waits 5 s before it calls a function again that has died, and wants
to be given a port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

HOST = "127.0.0.1"
REGION = "us-west-2"


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lambda-endpoint", required=True)
    parser.add_argument("--skip-time", action="store_true", help="waits and retries are due at once")
    parser.add_argument("--page-bytes", type=int, help="the most that an invocation is given of the state")
    parser.add_argument("--page-items", type=int, default=1000, help="the most operations in a page of the state")
    parser.add_argument("--functions", default="{}", help="those that may be invoked by others, as JSON")
    parser.add_argument("--retry-after", type=float, default=0.05, help="seconds until a function that died is called")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # it logs failures of functions, which tests want

    testing = "aws_durable_execution_sdk_python_testing"
    runner, server = import_module(f"{testing}.runner"), import_module(f"{testing}.web.server")
    executor = import_module(f"{testing}.executor").Executor
    executor.RETRY_BACKOFF_SECONDS = options.retry_after
    executor.MAX_STATE_PAGE_MAX_ITEMS = options.page_items
    let_wake_ups_finish(executor)
    config = runner.WebRunnerConfig(
        web_service=server.WebServiceConfig(host=HOST, port=0, log_level=logging.ERROR),
        lambda_endpoint=options.lambda_endpoint,
        local_runner_region=REGION,
        skip_time=options.skip_time,
        max_invocation_page_bytes=options.page_bytes,
        function_configs=import_module(f"{testing}.child_dispatcher").FunctionConfigs.from_dict(
            json.loads(options.functions)
        ),
    )
    server.WebServer.request_queue_size = 128  # of 5, a burst of calls meets refused connections
    with runner.WebRunner(config) as running:
        print(running._server.server_address[1], flush=True)  # the runner tells its port to nobody
        threading.Thread(target=_end_with_stdin, daemon=True).start()
        running.serve_forever()


def let_wake_ups_finish(executor: Any) -> None:
    """Make wake-ups that have begun go on to their end.

    The service (1.4) arms the next wake-up after each invocation and cancels the one before. Where that has just
    completed a wait or a retry, and has not called the function yet, nobody ever calls it: the execution stands still.
    """
    original = executor._fire_due_and_invoke_handler

    def build(self: Any, arn: str) -> Callable[[], Awaitable[None]]:
        wake_up = original(self, arn)

        async def begun() -> None:
            await asyncio.shield(wake_up())

        return begun

    executor._fire_due_and_invoke_handler = build


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
