"""The handlers of the benchmark `lambda_service` under AWS's own SDK, with no more changed than where it comes from."""

from __future__ import annotations

from aws_durable_execution_sdk_python import durable_execution

from perf.benchmarks.cpu import handler
from perf.benchmarks.lambda_service import count_steps

sdk_parallel = durable_execution(handler.__wrapped__)
sdk_small_steps = durable_execution(count_steps)
