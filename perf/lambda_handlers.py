"""The handlers of the benchmark `lambda_service` under AWS's own SDK, with no more changed than where it comes from."""

from __future__ import annotations

from typing import Any

from aws_durable_execution_sdk_python import durable_execution

from perf.benchmarks.cpu import handler
from perf.benchmarks.lambda_service import count_steps

parallel: Any = handler.__wrapped__  # says that it takes a context of durapool's
sdk_parallel = durable_execution(parallel)
sdk_small_steps = durable_execution(count_steps)
