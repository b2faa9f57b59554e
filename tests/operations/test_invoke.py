"""`context.invoke` in a local run: functions that are registered."""

from __future__ import annotations

import pytest

import durapool
from durapool import Duration, InvokeError, MemoryStore, durable_execution, register_function
from durapool.invokable import bare_name


@durable_execution
def doubled(event, context):
    context.wait(Duration.from_seconds(1))
    return context.step(lambda _: event["n"] * 2, name="double")


def failing(event, context):
    raise KeyError("no such price")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr("durapool.invokable._functions", {})
    register_function("doubled", doubled)
    register_function("failing", failing)


@pytest.mark.parametrize("executor", ["thread", "process:1"])
def test_a_registered_handler_is_part_of_the_execution(executor):
    store = MemoryStore()

    @durable_execution(executor=executor)
    def handler(event, context):
        here = context.invoke("arn:aws:lambda:eu-west-1:123456789012:function:doubled:7", {"n": 2}, name="ask")
        return [here, *context.parallel([lambda ctx: ctx.invoke("doubled:live", {"n": 3})]).get_results()]

    assert durapool.run(handler, id="one", store=store) == [4, 6]
    assert durapool.run(handler, id="one", store=store) == [4, 6]


def test_a_function_that_fails_raises_an_invoke_error_with_its_cause():
    @durable_execution
    def handler(event, context):
        with pytest.raises(InvokeError) as caught:
            context.invoke("failing", None)
        return [caught.value.error_type, type(caught.value.__cause__).__name__]

    assert durapool.run(handler, id="one", store=MemoryStore()) == ["KeyError", "KeyError"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("price", "price"),
        ("price:7", "price"),
        ("arn:aws:lambda:eu-west-1:123456789012:function:price", "price"),
        ("arn:aws:lambda:eu-west-1:123456789012:function:price:live", "price"),
        ("123456789012:function:price", "price"),
    ],
)
def test_the_name_is_found_in_every_form(given, name):
    assert bare_name(given) == name
