"""What the service does to us: throttling, lost answers, stale tokens, pages that fail, and the function's deadline."""

from __future__ import annotations

import json
import threading
import time

import pytest
from fake_service import ARN, FakeService, LambdaContext, invalid, refusal

from durapool import Duration, RetryDecision, StepConfig, durable_execution
from durapool.aws import LambdaStore, ServiceError
from durapool.exceptions import StoreError, ValidationError

SECOND = Duration.from_seconds(1)


@pytest.fixture(autouse=True)
def without_delays(monkeypatch):
    monkeypatch.setattr("durapool.aws.client.FIRST_DELAY", 0.0)


def failing(*errors):
    """Raises the errors, one each time it is called (nothing for a None); then nothing."""
    left = list(errors)

    def fail():
        error = left.pop(0) if left else None
        if error is not None:
            raise error

    return fail


def three_steps(service, executor="thread"):
    @durable_execution(boto3_client=service, executor=executor)
    def handler(event, context):
        return [context.step(lambda _, n=n: n, name=f"step {n}") for n in range(3)]

    return handler


class ReadTimeoutError(OSError):
    pass


PASSING = [
    refusal(429, "TooManyRequestsException", headers={"retry-after": "0"}),
    refusal(500, "ServiceException"),
    refusal(503, "ServiceUnavailable"),
    ReadTimeoutError("timed out"),
    ConnectionResetError("gone"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__ + str(getattr(error, "response", "")))
def test_what_may_pass_is_tried_again_with_the_same_client_token(error):
    service = FakeService()
    service.before = failing(error, error)
    assert service.run(three_steps(service)) == [0, 1, 2]
    assert service.tokens[0] == service.tokens[1] == service.tokens[2] != service.tokens[3]
    assert service.tries == len(service.calls) + 2


def test_an_answer_that_is_lost_after_the_commit_is_given_again_and_nothing_is_applied_twice():
    service = FakeService()
    service.after = failing(ReadTimeoutError("the answer was lost"), None, refusal(502, "BadGateway"))
    assert service.run(three_steps(service)) == [0, 1, 2]
    assert [operation["StepDetails"]["Attempt"] for operation in service.of_type("STEP")] == [1, 1, 1]
    assert service.tries == len(service.calls) + 2


@pytest.mark.parametrize("errors", [[refusal(429, "TooManyRequestsException")], [ReadTimeoutError("timed out")]])
def test_a_service_that_stays_away_ends_the_invocation_and_the_next_one_goes_on(errors):
    service = FakeService()
    ran = []

    @durable_execution(boto3_client=service)
    def handler(event, context):
        context.step(lambda _: ran.append("one"), name="one")
        if len(ran) == 1:
            service.before = failing(*errors * 6)
        context.step(lambda _: ran.append("two"), name="two")
        return ran

    with pytest.raises(ServiceError, match="after 6 attempts"):
        service.invoke(handler)
    assert service.run(handler) == ["one", "two", "two"]


def test_a_stale_token_is_not_tried_again_and_says_why():
    service = FakeService()
    service.before = failing(invalid("Invalid checkpoint token"))
    with pytest.raises(ServiceError, match="another invocation has gone on"):
        service.invoke(three_steps(service))
    assert service.tries == 1
    assert service.run(three_steps(service)) == [0, 1, 2]


@pytest.mark.parametrize(
    "error", [invalid("Name is too long"), refusal(403, "AccessDeniedException"), refusal(502, "KMSDisabledException")]
)
def test_what_will_never_succeed_fails_the_execution_at_once(error):
    service = FakeService()
    service.before = failing(error)
    answer = service.invoke(three_steps(service))
    assert answer["Status"] == "FAILED"
    assert answer["Error"]["ErrorType"] == "ServiceError"
    assert "the execution fails" in answer["Error"]["ErrorMessage"]
    assert service.tries == 1


def test_user_code_cannot_swallow_a_service_that_failed():
    service = FakeService()
    service.before = failing(refusal(403, "AccessDeniedException"))

    @durable_execution(boto3_client=service)
    def handler(event, context):
        try:
            context.step(lambda _: 1)
        except Exception:
            return "swallowed"

    assert service.invoke(handler)["Status"] == "FAILED"


@pytest.mark.parametrize("executor", ["thread", "process:2"])
def test_a_service_that_fails_in_a_batch_ends_the_invocation(executor):
    service = FakeService()
    service.before = failing(*[refusal(500, "ServiceException")] * 6)

    @durable_execution(boto3_client=service, executor=executor)
    def handler(event, context):
        return context.map([1, 2, 3], lambda ctx, item, *_: ctx.step(lambda _: item)).get_results()

    with pytest.raises(ServiceError):
        service.invoke(handler)
    assert service.run(handler) == [1, 2, 3]


def test_a_token_that_is_withheld_ends_the_invocation_as_pending():
    service = FakeService(withhold_token=True)
    answer = three_steps(service)(service.invocation(), LambdaContext())
    assert answer == {"Status": "PENDING"}
    assert len(service.calls) == 1
    service.withhold_token = False
    assert service.run(three_steps(service)) == [0, 1, 2]


# --- pages


def many(service, count=25):
    @durable_execution(boto3_client=service)
    def handler(event, context):
        found = [context.step(lambda _, n=n: n) for n in range(count)]
        context.wait(SECOND)
        return found

    return handler


def test_the_state_is_read_page_by_page():
    service = FakeService(page_size=4)
    assert service.run(many(service)) == list(range(25))
    assert service.pages == 6


def test_a_page_that_fails_is_asked_for_again():
    service = FakeService(page_size=4)
    handler = many(service)
    service.invoke(handler)
    service.before_page = failing(refusal(429, "TooManyRequestsException"), ReadTimeoutError("timed out"))
    assert service.run(handler) == list(range(25))


def test_pages_that_fail_half_way_end_the_invocation_before_the_handler_is_called():
    service = FakeService(page_size=4)
    handler = many(service)
    service.invoke(handler)
    calls = len(service.calls)
    service.before_page = failing(None, None, *[refusal(500, "ServiceException")] * 6)
    with pytest.raises(ServiceError, match="GetDurableExecutionState"):
        service.invoke(handler)
    assert len(service.calls) == calls
    service.before_page = None
    assert service.run(handler) == list(range(25))


def test_a_state_of_another_sdk_is_refused_by_name():
    service = FakeService()
    service.operations["1"] = {"Id": "1", "Type": "STEP", "Status": "STARTED", "StartTimestamp": service.now()}
    answer = service.invoke(three_steps(service))
    assert "begun by another SDK" in answer["Error"]["ErrorMessage"]


# --- limits of one call


def test_many_updates_of_one_commit_are_split():
    service = FakeService()

    @durable_execution(boto3_client=service)
    def handler(event, context):
        return context.map(list(range(400)), lambda ctx, item, *_: item).success_count

    assert service.run(handler) == 400
    assert max(map(len, service.calls)) <= 250


def test_large_updates_are_split_by_bytes():
    service = FakeService()

    @durable_execution(boto3_client=service)
    def handler(event, context):
        return context.map([1] * 6, lambda ctx, *_: ctx.step(lambda _: "x" * 240_000)).success_count

    assert service.run(handler) == 6
    assert max(len(json.dumps(call)) for call in service.calls) < 800 * 1024


def test_a_step_that_is_too_large_fails_by_name():
    service = FakeService()
    config = StepConfig(lambda error, attempt: RetryDecision.no_retry())
    handler = durable_execution(boto3_client=service)(
        lambda event, context: context.step(lambda _: "x" * 2_000_000, name="big", config=config)
    )
    answer = service.invoke(handler)
    assert "step 'big'" in answer["Error"]["ErrorMessage"]
    assert "2000002 bytes" in answer["Error"]["ErrorMessage"]


def test_one_call_commits_what_many_branches_have_sent():
    service = FakeService()
    together = threading.Barrier(8)

    @durable_execution(boto3_client=service)
    def handler(event, context):
        def branch(ctx, *_):
            together.wait(30)
            return ctx.step(lambda _: together.wait(30) >= 0)

        return context.map([0] * 8, branch).success_count

    assert service.run(handler) == 8
    assert len(service.calls) < 16


# --- the function's deadline


@pytest.mark.parametrize("executor", ["thread", "process:2"])
def test_branches_that_run_at_the_deadline_are_suspended_and_go_on(executor, tmp_path):
    service = FakeService()
    gate, ran = tmp_path / "gate", tmp_path / "ran"

    def branch(ctx, item, *_):
        def first(_):
            with ran.open("a") as notes:
                notes.write(f"{item}\n")
            return item

        def second(_):
            end = time.monotonic() + 30
            while not gate.exists() and time.monotonic() < end:
                time.sleep(0.01)
            return item

        return ctx.step(first, name="first") + ctx.step(second, name="second")

    @durable_execution(boto3_client=service, executor=executor)
    def handler(event, context):
        return context.map([1, 2], branch).get_results()

    started = time.monotonic()
    assert service.invoke(handler, LambdaContext(seconds=5.0)) == {"Status": "PENDING"}
    assert time.monotonic() - started < 5.0
    (again,) = service.of_type("WAIT")
    assert again["Name"] == "continue in another invocation"
    gate.touch()
    assert service.run(handler) == [2, 4]
    assert sorted(ran.read_text().split()) == ["1", "2"]


def test_invocations_that_never_get_further_fail_and_say_so(tmp_path):
    service = FakeService()

    def branch(ctx, *_):
        ctx.step(lambda _: time.sleep(60), name="endless")

    @durable_execution(boto3_client=service, executor="process:1")
    def handler(event, context):
        context.map([1], branch)

    answers = []
    for _ in range(5):
        answers.append(service.invoke(handler, LambdaContext(seconds=4.0)))
        if answers[-1]["Status"] == "FAILED":
            break
        service.advance(2)
    assert [answer["Status"] for answer in answers] == ["PENDING", "PENDING", "FAILED"]
    assert "endless" in answers[-1]["Error"]["ErrorMessage"]
    assert answers[-1]["Error"]["ErrorType"] == "FunctionTimeError"


# --- the store by itself


def test_a_client_without_durable_executions_is_refused():
    with pytest.raises(ValidationError, match="checkpoint_durable_execution"):
        LambdaStore(ARN, "t", {}, client=object())


def test_what_only_a_store_of_many_executions_can_do_says_where_to_go():
    store = LambdaStore(ARN, "t", {}, client=FakeService())
    for call in (store.executions, lambda: store.delete(ARN), lambda: store.post(ARN, None)):
        with pytest.raises(StoreError, match="own API"):
            call()
    assert store.find(ARN) is None
    assert store.signals(ARN) == []
    with store.lock(ARN):
        store.discard(ARN, 0)
    store.close()
