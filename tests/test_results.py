"""The result of a batch: what it counts, how it is read, and how it travels."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import threading

import pytest

from durapool.config import CompletionConfig
from durapool.errors import error_of
from durapool.exceptions import ChildContextError, SerDesError, UnsupportedModuleError
from durapool.records import ErrorObject
from durapool.results import BatchItem, BatchItemStatus, BatchResult, CompletionReason

SUCCEEDED, FAILED, STARTED = BatchItemStatus.SUCCEEDED, BatchItemStatus.FAILED, BatchItemStatus.STARTED
BOOM = ErrorObject(message="boom", type="ValueError", data="extra", stack_trace=("line 1", "line 2"))


@pytest.fixture
def mixed() -> BatchResult[str]:
    return BatchResult(
        all=[
            BatchItem(index=0, status=SUCCEEDED, result="a"),
            BatchItem(index=1, status=FAILED, error=BOOM),
            BatchItem(index=2, status=STARTED),
            BatchItem(index=3, status=SUCCEEDED, result=None),
        ],
        completion_reason=CompletionReason.FAILURE_TOLERANCE_EXCEEDED,
        submitted_count=9,
    )


def successes(*results: object) -> BatchResult[object]:
    items = [BatchItem(index=i, status=SUCCEEDED, result=value) for i, value in enumerate(results)]
    return BatchResult(all=items, completion_reason=CompletionReason.ALL_COMPLETED)


# The items


def test_an_item_takes_its_fields_by_position_too() -> None:
    assert BatchItem(1, FAILED, None, BOOM) == BatchItem(index=1, status=FAILED, error=BOOM)


def test_items_are_equal_by_all_their_fields() -> None:
    item = BatchItem(index=0, status=SUCCEEDED, result=[1])
    assert item == BatchItem(index=0, status=SUCCEEDED, result=[1])
    assert hash(item) == hash(BatchItem(index=0, status=SUCCEEDED, result=[1]))
    for other in (
        BatchItem(index=1, status=SUCCEEDED, result=[1]),
        BatchItem(index=0, status=STARTED, result=[1]),
        BatchItem(index=0, status=SUCCEEDED, result=[2]),
        BatchItem(index=0, status=SUCCEEDED, result=[1], error=BOOM),
        "something else",
    ):
        assert item != other


@pytest.mark.parametrize("field", ["index", "status", "result", "error", "note"])
def test_an_item_cannot_be_changed(field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(BatchItem(index=0, status=SUCCEEDED), field, None)


def test_an_item_shows_its_fields() -> None:
    assert repr(BatchItem(index=0, status=SUCCEEDED, result="a")) == (
        "BatchItem(index=0, status=SUCCEEDED, result='a', error=None)"
    )


def test_a_lazy_item_loads_once_and_only_when_asked() -> None:
    calls: list[int] = []

    def load() -> list[int]:
        calls.append(1)
        return [7]

    item = BatchItem.lazy(3, load)
    assert (item.index, item.status, item.error, calls) == (3, SUCCEEDED, None, [])
    assert item.result is item.result
    assert calls == [1]
    assert item == BatchItem(index=3, status=SUCCEEDED, result=[7])


def test_a_lazy_item_may_load_none() -> None:
    calls: list[int] = []
    item = BatchItem.lazy(0, lambda: calls.append(1))
    assert item.result is None
    assert item.result is None
    assert calls == [1]


def test_what_a_load_raises_comes_out_every_time() -> None:
    def load() -> int:
        raise SerDesError("unreadable")

    item = BatchItem.lazy(0, load)
    for _ in range(2):
        with pytest.raises(SerDesError, match="unreadable"):
            _ = item.result


def test_threads_that_ask_at_the_same_moment_get_the_same_object() -> None:
    both_load = threading.Barrier(2, timeout=30)
    seen: list[object] = []

    def load() -> object:
        both_load.wait()
        return object()

    item = BatchItem.lazy(0, load)
    threads = [threading.Thread(target=lambda: seen.append(item.result)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen[0] is seen[1]


def test_counting_loads_no_result() -> None:
    def load() -> int:
        raise AssertionError("loaded")

    result = BatchResult(
        all=[BatchItem.lazy(0, load)], completion_reason=CompletionReason.ALL_COMPLETED, submitted_count=1
    )
    assert (result.success_count, result.total_count, result.status, len(result.succeeded())) == (1, 1, SUCCEEDED, 1)
    result.throw_if_error()


# The result


def test_a_result_gives_each_kind_of_item_in_index_order(mixed: BatchResult[str]) -> None:
    assert [item.index for item in mixed.succeeded()] == [0, 3]
    assert [item.index for item in mixed.failed()] == [1]
    assert [item.index for item in mixed.started()] == [2]
    assert mixed.successful_results == mixed.get_results() == ["a", None]
    assert mixed.failed_results == mixed.get_errors() == [BOOM]


def test_a_result_counts_its_items_and_knows_how_many_branches_were_given(mixed: BatchResult[str]) -> None:
    assert (mixed.success_count, mixed.failure_count, mixed.started_count) == (2, 1, 1)
    assert (mixed.total_count, mixed.submitted_count) == (4, 9)
    assert successes(1, 2).submitted_count == 2


def test_a_branch_that_returned_none_counts_as_a_result() -> None:
    assert successes(None, 0, "").successful_results == [None, 0, ""]


def test_any_failure_makes_the_status_failed(mixed: BatchResult[str]) -> None:
    assert (mixed.has_failure, mixed.status, mixed.status.value) == (True, FAILED, "FAILED")
    assert (successes(1).has_failure, successes(1).status.value) == (False, "SUCCEEDED")


def test_an_empty_result_succeeded() -> None:
    empty = successes()
    assert (empty.all, empty.total_count, empty.status) == ([], 0, SUCCEEDED)
    assert empty.completion_reason.value == "ALL_COMPLETED"


def test_items_given_out_of_order_are_put_in_index_order() -> None:
    items = [BatchItem(index=i, status=SUCCEEDED, result=i) for i in (2, 0, 1)]
    result = BatchResult(all=items, completion_reason=CompletionReason.ALL_COMPLETED)
    assert [item.index for item in result.all] == [0, 1, 2]
    assert [item.index for item in items] == [2, 0, 1]


def test_throw_if_error_raises_the_first_failure_as_a_child_context_error(mixed: BatchResult[str]) -> None:
    with pytest.raises(ChildContextError, match="boom") as caught:
        mixed.throw_if_error()
    error = caught.value
    assert (error.message, error.error_type, error.data) == ("boom", "ValueError", "extra")
    assert error.stack_trace == ["line 1", "line 2"]
    assert "branch 1" in error.__notes__[0]


def test_the_cause_is_the_original_exception_where_it_was_kept() -> None:
    kept = error_of(ValueError("boom"), local=True)
    for error, cause in ((kept, ValueError), (BOOM, type(None))):
        items = [BatchItem(index=0, status=FAILED, error=error)]
        result: BatchResult[None] = BatchResult(all=items, completion_reason=CompletionReason.ALL_COMPLETED)
        with pytest.raises(ChildContextError) as caught:
            result.throw_if_error()
        assert type(caught.value.__cause__) is cause


def test_throw_if_error_returns_where_nothing_failed() -> None:
    successes(1, None).throw_if_error()


def test_a_failed_item_without_an_error_still_gives_one() -> None:
    result: BatchResult[None] = BatchResult(
        all=[BatchItem(index=4, status=FAILED)], completion_reason=CompletionReason.ALL_COMPLETED
    )
    assert "branch 4" in str(result.get_errors()[0].message)


# To and fro


def test_a_result_survives_its_dict_and_json(mixed: BatchResult[str]) -> None:
    data = json.loads(json.dumps(mixed.to_dict()))
    assert BatchResult.from_dict(data) == mixed


def test_a_dict_has_the_keys_that_moved_handlers_read(mixed: BatchResult[str]) -> None:
    data = mixed.to_dict()
    assert data["completionReason"] == "FAILURE_TOLERANCE_EXCEEDED"
    assert data["submittedCount"] == 9
    assert data["all"][1] == {
        "index": 1,
        "status": "FAILED",
        "result": None,
        "error": {
            "ErrorMessage": "boom",
            "ErrorType": "ValueError",
            "ErrorData": "extra",
            "StackTrace": ["line 1", "line 2"],
        },
    }


@pytest.mark.parametrize(
    ("statuses", "config", "expected"),
    [
        ([SUCCEEDED, SUCCEEDED], None, CompletionReason.ALL_COMPLETED),
        ([SUCCEEDED, FAILED], None, CompletionReason.FAILURE_TOLERANCE_EXCEEDED),
        ([SUCCEEDED, FAILED], CompletionConfig.all_completed(), CompletionReason.ALL_COMPLETED),
        ([SUCCEEDED, STARTED], CompletionConfig.first_successful(), CompletionReason.MIN_SUCCESSFUL_REACHED),
    ],
)
def test_a_dict_without_a_reason_has_it_inferred(
    statuses: list[BatchItemStatus], config: CompletionConfig | None, expected: CompletionReason
) -> None:
    items = [{"index": i, "status": status.value} for i, status in enumerate(statuses)]
    assert BatchResult.from_dict({"all": items}, config).completion_reason is expected


def test_a_result_survives_pickle_and_copy_with_lazy_items_loaded(mixed: BatchResult[str]) -> None:
    lazy = BatchResult(all=[BatchItem.lazy(0, lambda: {"deep": [1]})], completion_reason=CompletionReason.ALL_COMPLETED)
    for result in (mixed, lazy):
        assert pickle.loads(pickle.dumps(result, protocol=5)) == result
        assert copy.deepcopy(result) == result


# The names of the thread-based SDK


def test_the_names_of_the_thread_based_sdk_are_re_exported() -> None:
    from durapool import lambda_service, records
    from durapool.concurrency import models

    assert models.BatchResult is BatchResult
    assert models.BatchItem is BatchItem
    assert models.BatchItemStatus is BatchItemStatus
    assert models.CompletionReason is CompletionReason
    assert lambda_service.ErrorObject is ErrorObject
    assert lambda_service.OperationType is records.OperationType
    assert lambda_service.OperationStatus is records.OperationStatus
    assert lambda_service.OperationSubType is records.OperationSubType
    assert lambda_service.OperationPayload is records.Payload


@pytest.mark.parametrize("module", ["filesystem_serdes", "plugin", "preview"])
def test_a_module_that_is_not_supported_says_what_to_use(module: str) -> None:
    with pytest.raises(UnsupportedModuleError, match="durapool has no") as caught:
        __import__(f"durapool.{module}")
    assert isinstance(caught.value, ImportError)


def test_results_do_not_import_the_coordinator() -> None:
    code = "import sys, durapool.results; sys.exit('durapool.coordinator' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
