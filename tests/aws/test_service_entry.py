"""A durable handler as a Lambda entry point, against the service in memory."""

from __future__ import annotations

import json
import threading
import time
from datetime import date

import pytest
from fake_service import ARN, FakeService, LambdaContext

import durapool
from durapool import (
    CallbackConfig,
    CallbackExternalError,
    CallbackSubmitterError,
    CallbackTimeoutError,
    ChildConfig,
    CompletionConfig,
    Duration,
    ExecutionError,
    InvocationError,
    InvokeError,
    MapConfig,
    NestingType,
    ParallelConfig,
    RetryDecision,
    StepConfig,
    StepError,
    StepSemantics,
    ValidationError,
    WaitForCallbackConfig,
    durable_execution,
)
from durapool.serdes import PickleSerDes
from durapool.waits import WaitForConditionConfig, WaitForConditionDecision

SECOND = Duration.from_seconds(1)


@pytest.fixture(params=["thread", "process:2"])
def executor(request):
    return request.param


def entry(service, function, executor="thread", **options):
    return durable_execution(boto3_client=service, executor=executor, **options)(function)


def test_steps_run_once_and_the_result_is_answered():
    service = FakeService(event={"n": 20})
    ran = []

    def handler(event, context):
        one = context.step(lambda _: ran.append("one") or event["n"] + 1, name="one")
        context.wait(SECOND)
        return context.step(lambda _: ran.append("two") or one * 2, name="two")

    assert service.run(entry(service, handler)) == 42
    assert ran == ["one", "two"]
    assert [operation["Name"] for operation in service.of_type("STEP")] == ["one", "two"]
    assert service.of_type("STEP")[0]["StepDetails"]["Result"] == "21"


def test_a_handler_runs_locally_too_without_a_change(store):
    service = FakeService()
    handler = entry(service, lambda event, context: context.step(lambda _: event + 1))
    assert durapool.run(handler, 1, id="local", store=store) == 2
    assert not service.calls


def test_a_wait_is_the_services_timer():
    service = FakeService()
    handler = entry(service, lambda event, context: context.wait(Duration.from_seconds(90), name="pause"))
    assert service.invoke(handler) == {"Status": "PENDING"}
    (update,) = [update for call in service.calls for update in call]
    assert update["WaitOptions"] == {"WaitSeconds": 90}
    assert service.invoke(handler) == {"Status": "PENDING"}
    service.advance(90)
    assert service.invoke(handler) == {"Status": "SUCCEEDED", "Result": "null"}


def test_a_retry_is_the_services_timer_and_attempts_are_counted():
    service = FakeService()
    attempts = []

    def flaky(step):
        attempts.append(step.attempt)
        if step.attempt < 3:
            raise RuntimeError(f"no {step.attempt}")
        return "done"

    config = StepConfig(lambda error, attempt: RetryDecision.retry(Duration.from_seconds(30)))
    handler = entry(service, lambda event, context: context.step(flaky, name="flaky", config=config))
    assert service.run(handler) == "done"
    assert attempts == [1, 2, 3]


def test_a_failure_is_answered_with_its_type_message_and_trace():
    service = FakeService()

    def handler(event, context):
        raise ValueError("no such order")

    answer = service.invoke(entry(service, handler))
    assert answer["Status"] == "FAILED"
    assert (answer["Error"]["ErrorType"], answer["Error"]["ErrorMessage"]) == ("ValueError", "no such order")
    assert "no such order" in answer["Error"]["StackTrace"][-1]


def test_an_error_of_any_size_fits():
    service = FakeService()

    def handler(event, context):
        def fail(_):
            raise ValueError("ö" * 1_000_000)

        context.step(fail, config=StepConfig(lambda error, attempt: RetryDecision.no_retry()))

    answer = service.invoke(entry(service, handler))
    assert answer["Error"]["ErrorMessage"].endswith("... (cut)")


def test_an_invocation_error_and_a_crash_are_raised_for_the_service_to_try_again():
    service = FakeService()

    def handler(event, context):
        raise InvocationError("not now")

    with pytest.raises(InvocationError, match="not now"):
        service.invoke(entry(service, handler))

    def crash(event, context):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        service.invoke(entry(service, crash))


def test_a_plain_event_says_that_durability_is_not_switched_on():
    handler = entry(FakeService(), lambda event, context: 1)
    with pytest.raises(ExecutionError, match=r"durability is not switched on for arn:aws:lambda.*DurableConfig"):
        handler({"n": 1}, LambdaContext())
    with pytest.raises(ValidationError, match=r"durapool\.run"):
        handler({"n": 1}, None)
    with pytest.raises(ExecutionError, match="no event of the durable execution service"):
        handler({"DurableExecutionArn": 1, "CheckpointToken": None}, LambdaContext())


def test_the_context_knows_the_arn():
    service = FakeService()
    handler = entry(service, lambda event, context: context.execution_context.durable_execution_arn)
    assert service.run(handler) == ARN


def test_the_context_hands_on_what_lambda_gave():
    service = FakeService()
    handler = entry(service, lambda event, context: context.lambda_context.aws_request_id)
    assert service.run(handler) == "1"


def test_steps_are_tried_again_by_default_whatever_they_raised():
    service = FakeService()

    def mistaken(step):
        if step.attempt == 1:
            raise TypeError("retried at the service, as by its own SDK")
        return step.attempt

    assert service.run(entry(service, lambda event, context: context.step(mistaken))) == 2


def test_a_failure_after_the_token_was_withdrawn_is_pending():
    service, other = FakeService(), FakeService()

    def handler(event, context):
        service.withhold_token = True
        context.step(lambda _: 1)

    def fails(event, context):
        other.withhold_token = True
        context.run_in_child_context(lambda child: child.step(lambda _: 1))

    assert entry(service, handler)(service.invocation(), LambdaContext()) == {"Status": "PENDING"}
    assert entry(other, fails)(other.invocation(), LambdaContext()) == {"Status": "PENDING"}


# --- batches


def test_a_batch_in_a_branch_works_the_same(executor):
    service = FakeService()

    def inner(ctx, item, index, inputs):
        ctx.wait(SECOND)
        return ctx.step(lambda _: item * 10)

    def outer(ctx, item, index, inputs):
        return ctx.map([item, item + 1], inner, name="inner").get_results()

    def handler(event, context):
        rows = context.map([1, 5], outer, name="outer").get_results()
        context.wait(SECOND)
        return rows

    assert service.run(entry(service, handler, executor)) == [[10, 20], [50, 60]]
    assert len(service.of_type("STEP")) == 4


def square(ctx, item, index, inputs):
    first = ctx.step(lambda _: item * item, name="square")
    ctx.wait(SECOND)
    return ctx.step(lambda _: first + 1, name="more")


@pytest.mark.parametrize("nesting", list(NestingType))
def test_branches_wait_and_go_on_and_a_finished_batch_is_read_from_the_record(executor, nesting):
    service = FakeService(event=[1, 2, 3])

    def handler(event, context):
        batch = context.map(event, square, name="squares", config=MapConfig(nesting_type=nesting))
        context.wait(SECOND)
        return [batch.get_results(), batch.completion_reason.value, batch.total_count]

    assert service.run(entry(service, handler, executor)) == [[2, 5, 10], "ALL_COMPLETED", 3]
    nested = 4 if nesting is NestingType.NESTED else 1
    assert len(service.of_type("CONTEXT")) == nested
    assert len(service.of_type("STEP")) == 6


def test_failures_and_cut_off_branches_are_the_same_after_a_replay(executor):
    service = FakeService()

    def fail(ctx):
        raise ValueError("broken")

    config = ParallelConfig(
        max_concurrency=1, completion_config=CompletionConfig(min_successful=1, tolerated_failure_count=1)
    )

    def handler(event, context):
        batch = context.parallel([fail, lambda ctx: ctx.step(lambda _: "ok"), lambda ctx: "never"], config=config)
        context.wait(SECOND)
        errors = [[error.type, error.message] for error in batch.get_errors()]
        return [batch.get_results(), errors, batch.completion_reason.value, batch.status.value, batch.submitted_count]

    expected = [["ok"], [["ValueError", "broken"]], "MIN_SUCCESSFUL_REACHED", "FAILED", 3]
    assert service.run(entry(service, handler, executor)) == expected


@pytest.mark.parametrize("nesting", list(NestingType))
def test_a_batch_above_the_payload_limit_is_rebuilt_from_its_children(executor, nesting):
    service = FakeService()
    config = ParallelConfig(nesting_type=nesting)

    def branch(ctx):
        part = ctx.step(lambda _: "x" * 200_000, name="part")
        return part + ctx.step(lambda _: "y" * 100_000, name="rest")

    def handler(event, context):
        batch = context.parallel([branch, branch], name="large", config=config)
        context.wait(SECOND)
        return [len(each) for each in batch.get_results()] + [batch.completion_reason.value]

    assert service.run(entry(service, handler, executor)) == [300_000, 300_000, "ALL_COMPLETED"]
    assert service.named("large")["ContextDetails"]["ReplayChildren"] is True
    assert len(service.named("large")["ContextDetails"]["Result"]) < 1000


def test_a_child_context_above_the_payload_limit_is_rebuilt_from_its_children():
    service = FakeService()
    ran = []

    def child(ctx):
        return ctx.step(lambda _: ran.append(1) or "x" * 200_000) * 2

    def handler(event, context):
        config = ChildConfig(summary_generator=lambda result: f"{len(result)} letters")
        text = context.run_in_child_context(child, name="large", config=config)
        context.wait(SECOND)
        return len(text)

    assert service.run(entry(service, handler)) == 400_000
    assert ran == [1]
    assert service.named("large")["ContextDetails"]["Result"] == "400000 letters"


def test_a_wait_that_ends_while_other_branches_run_is_asked_for(executor):
    service = FakeService()

    def waits(ctx):
        ctx.wait(SECOND)
        return ctx.step(lambda _: "waited")

    def works(ctx):
        end = time.monotonic() + 2
        while time.monotonic() < end:
            ctx.step(lambda _: sum(range(1_000_000)))
        return "worked"

    def handler(event, context):
        return context.parallel([waits, works]).get_results()

    answer = service.invoke(entry(service, handler, executor))
    assert answer["Status"] == "SUCCEEDED", "the wait ended in the same invocation"
    assert json.loads(answer["Result"]) == ["waited", "worked"]


def test_a_short_wait_beside_a_silent_branch_brings_an_empty_checkpoint():
    service = FakeService()
    go_on = threading.Event()

    def waits(ctx):
        ctx.wait(SECOND)
        go_on.set()

    def silent(ctx):
        assert go_on.wait(60)

    answer = service.invoke(entry(service, lambda event, context: context.parallel([waits, silent]).success_count))
    assert answer == {"Status": "SUCCEEDED", "Result": "2"}
    assert [] in service.calls


# --- callbacks, conditions, invoke


def test_a_callback_that_is_answered_while_other_branches_run_is_asked_for():
    service = FakeService()
    created, answered = threading.Event(), threading.Event()

    def waits(ctx):
        callback = ctx.create_callback()
        created.set()
        result = callback.result()
        answered.set()
        return result

    def works(ctx):
        assert created.wait(60)
        service.answer("CALLBACK", Result="yes")
        return answered.wait(60)

    config = ParallelConfig(max_concurrency=2)
    handler = entry(service, lambda event, context: context.parallel([waits, works], config=config).get_results())
    assert json.loads(service.invoke(handler)["Result"]) == ["yes", True]


def test_a_callback_has_the_services_id_and_its_result(executor):
    service = FakeService()

    def branch(ctx):
        callback = ctx.create_callback(name="approval", config=CallbackConfig(timeout=Duration.from_hours(1)))
        ctx.step(lambda _: callback.callback_id, name="send")
        return callback.result()

    handler = entry(service, lambda event, context: context.parallel([branch]).get_results(), executor)
    assert service.invoke(handler)["Status"] == "PENDING"
    callback = service.named("approval")
    assert service.named("send")["StepDetails"]["Result"] == json.dumps(callback["CallbackDetails"]["CallbackId"])
    assert service.invoke(handler)["Status"] == "PENDING"
    service.answer("CALLBACK", Result="yes")
    assert service.run(handler) == ["yes"]


@pytest.mark.parametrize(("status", "error"), [("FAILED", CallbackExternalError), ("TIMED_OUT", CallbackTimeoutError)])
def test_what_failed_in_a_wait_for_callback_is_known_after_a_replay(status, error):
    service = FakeService()

    def handler(event, context):
        try:
            context.wait_for_callback(lambda callback_id, _: None, name="approval")
        except error as failure:
            seen = [type(failure).__name__, failure.error_type, failure.message]
        context.wait(SECOND)
        return seen

    handler = entry(service, handler)
    service.invoke(handler)
    service.answer("CALLBACK", status, Error={"ErrorType": "Declined", "ErrorMessage": "no"})
    assert service.run(handler) == [error.__name__, "Declined", "no"]


def test_a_submitter_that_fails_is_known_after_a_replay():
    service = FakeService()
    config = WaitForCallbackConfig(retry_strategy=lambda error, attempt: RetryDecision.no_retry())

    def submit(callback_id, _):
        raise KeyError("mail")

    def handler(event, context):
        try:
            context.wait_for_callback(submit, config=config)
        except CallbackSubmitterError as failure:
            seen = failure.error_type
        context.wait(SECOND)
        return seen

    assert service.run(entry(service, handler)) == "KeyError"


def test_a_condition_keeps_its_state_over_invocations(executor):
    service = FakeService()

    def strategy(state, attempt):
        if state == 3:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(SECOND)

    def branch(ctx):
        config = WaitForConditionConfig(strategy, initial_state=0)
        return ctx.wait_for_condition(lambda state, check: state + 1, config, name="poll")

    handler = entry(service, lambda event, context: context.parallel([branch]).get_results(), executor)
    assert service.run(handler) == [3]


def test_invoke_goes_through_the_service(executor):
    service = FakeService()

    def branch(ctx):
        return ctx.invoke("price:live", {"n": 3}, name="ask")["price"]

    handler = entry(service, lambda event, context: context.parallel([branch]).get_results(), executor)
    assert service.invoke(handler)["Status"] == "PENDING"
    (start,) = [update for call in service.calls for update in call if update["Type"] == "CHAINED_INVOKE"]
    assert start["ChainedInvokeOptions"] == {"FunctionName": "price:live"}
    assert json.loads(start["Payload"]) == {"n": 3}
    service.answer("CHAINED_INVOKE", Result='{"price": 7}')
    assert service.run(handler) == [7]


def test_an_invoked_function_that_fails_raises_an_invoke_error():
    service = FakeService()

    def handler(event, context):
        try:
            context.invoke("price", None)
        except InvokeError as error:
            return [error.error_type, error.message]

    handler = entry(service, handler)
    service.invoke(handler)
    service.answer("CHAINED_INVOKE", "FAILED", Error={"ErrorType": "ValueError", "ErrorMessage": "no price"})
    assert service.run(handler) == ["ValueError", "no price"]


# --- values and names


def test_types_survive_and_a_set_is_refused_by_name():
    service = FakeService()

    def handler(event, context):
        day = context.step(lambda _: date(2026, 1, 2))
        context.wait(SECOND)
        try:
            context.step(lambda _: {1, 2}, name="tags")
        except StepError as error:
            return [day.isoformat(), error.error_type, error.message]

    day, kind, message = service.run(entry(service, handler))
    assert (day, kind) == ("2026-01-02", "SerDesError")
    assert "step 'tags'" in message
    assert "set" in message


def test_a_binary_serdes_of_the_users_own_is_kept_as_text():
    service = FakeService()

    def handler(event, context):
        tags = context.step(lambda _: {1, 2}, config=StepConfig(serdes=PickleSerDes()))
        context.wait(SECOND)
        return sorted(tags)

    assert service.run(entry(service, handler)) == [1, 2]


def test_any_name_works_and_is_found_again():
    service = FakeService()

    def handler(event, context):
        context.step(lambda _: 1, name="größe" * 100)
        context.run_in_child_context(lambda ctx: ctx.step(lambda _: 2, name=""), config=ChildConfig(sub_type="Mine: 1"))
        context.map([1], lambda ctx, *_: 1, config=MapConfig(item_namer=lambda item, index: "ü"))
        context.wait(SECOND)
        return context.step(lambda _: 3, name="\n")

    assert service.run(entry(service, handler)) == 3


def test_a_handler_that_has_changed_is_told_so():
    service = FakeService()
    names = iter(["before", "after"])

    def handler(event, context):
        context.step(lambda _: 1, name=next(names))
        context.wait(SECOND)

    handler = entry(service, handler)
    service.invoke(handler)
    answer = service.invoke(handler)
    assert answer["Error"]["ErrorType"] == "NonDeterministicExecutionError"


def test_a_batch_of_another_size_is_told_so():
    service = FakeService()
    sizes = iter([3, 2])

    def handler(event, context):
        context.map(list(range(next(sizes))), lambda ctx, *_: ctx.wait(SECOND))

    handler = entry(service, handler)
    service.invoke(handler)
    answer = service.invoke(handler)
    assert "a batch of 3 branches" in answer["Error"]["ErrorMessage"]


def test_a_step_with_at_most_once_semantics_does_not_run_twice_after_a_crash():
    service = FakeService()
    ran = []

    def once(_):
        ran.append(1)
        raise KeyboardInterrupt

    config = StepConfig(
        lambda error, attempt: RetryDecision.no_retry(), step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY
    )
    handler = entry(service, lambda event, context: context.step(once, config=config))
    with pytest.raises(KeyboardInterrupt):
        service.invoke(handler)
    answer = service.invoke(handler)
    assert answer["Error"]["ErrorType"] == "StepInterruptedError"
    assert ran == [1]


def test_a_large_result_is_checkpointed_and_left_out_of_the_answer():
    service = FakeService()
    handler = entry(service, lambda event, context: "x" * (7 * 1024 * 1024))
    assert service.invoke(handler) == {"Status": "SUCCEEDED", "Result": ""}
    assert len(json.loads(service.result)) == 7 * 1024 * 1024
    assert service.calls[-1][-1]["Type"] == "EXECUTION"
