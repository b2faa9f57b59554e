"""A durable handler as a Lambda entry point, against the service in memory."""

from __future__ import annotations

from fake_service import FakeService

from durapool import durable_execution


def test_steps_run_once_and_the_result_is_answered() -> None:
    service = FakeService(event={"n": 20})

    @durable_execution(boto3_client=service)
    def handler(event, context):
        one = context.step(lambda _: event["n"] + 1, name="one")
        return context.step(lambda _: one * 2, name="two")

    assert service.run(handler) == 42
    assert [operation["Name"] for operation in service.of_type("STEP")] == ["one", "two"]
