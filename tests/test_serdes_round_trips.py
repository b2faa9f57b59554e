"""The closed set of types that the default serdes brings back, exactly as they were."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durapool.json_text import MARK
from durapool.records import ErrorObject, Payload
from durapool.results import BatchItem, BatchItemStatus, BatchResult, CompletionReason
from durapool.scope import Settings
from durapool.serdes import dump, load

LOCAL = Settings("job-1", "arn:job-1")
REMOTE = Settings("job-1", "arn:job-1", local_store=False)


def put(value: Any, settings: Settings = LOCAL) -> Payload:
    return dump(value, None, settings, "op", "the value")


def get(payload: Payload, settings: Settings = LOCAL) -> Any:
    return load(payload, None, settings, "op", "the value")


def shape(value: Any) -> Any:
    """The value with all its exact types, comparable: NaN equals NaN, 1 differs from True and 1.0."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [shape(item) for item in value]
    if kind is dict:
        return kind, [(shape(key), shape(item)) for key, item in value.items()]
    if kind is BatchItem:
        return kind, value.index, value.status, shape(value.result), shape(value.error)
    if kind is BatchResult:
        return kind, shape(value.all), value.completion_reason, value.submitted_count
    if kind is ErrorObject:
        return kind, value.public(), value.pickled
    if kind is int:
        return kind, value  # its text may be longer than Python is willing to write
    if kind is datetime:
        return kind, repr(value), value.fold
    return kind, repr(value)


numbers = st.integers() | st.floats() | st.integers(min_value=-(10**3000), max_value=10**3000)
any_text = st.text(st.characters(), max_size=8)
zones = st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=-3, microseconds=7), "odd")) | st.timezones()
hashable = (
    st.none()
    | st.booleans()
    | numbers
    | any_text
    | st.binary(max_size=20)
    | st.datetimes(timezones=zones, allow_imaginary=True)
    | st.dates()
    | st.decimals()
    | st.uuids()
)
keys = st.recursive(hashable, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4).filter(
    lambda key: "NaN" not in repr(key)
)
errors = st.builds(
    ErrorObject,
    message=st.none() | any_text,
    type=st.none() | any_text,
    data=st.none() | any_text,
    stack_trace=st.none() | st.lists(any_text, max_size=2).map(tuple),
    pickled=st.none() | st.binary(max_size=9),
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    items = st.builds(
        BatchItem,
        index=st.integers(0, 9),
        status=st.sampled_from(BatchItemStatus),
        result=inner,
        error=st.none() | errors,
    )
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(any_text, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.fixed_dictionaries({MARK: inner})
        | items
        | st.builds(
            BatchResult,
            all=st.lists(items, max_size=3),
            completion_reason=st.sampled_from(CompletionReason),
            submitted_count=st.integers(0, 9),
        )
    )


values = st.recursive(hashable | errors, nested, max_leaves=12)


@given(values)
def test_the_closed_set_of_types_comes_back_as_it_was(value: Any) -> None:
    payload = put(value, settings=REMOTE)
    assert isinstance(payload, str)
    json.loads(payload, parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity
    assert shape(get(payload, settings=REMOTE)) == shape(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_plain_values_are_plain_json(value: Any) -> None:
    payload = put(value)
    assert payload == json.dumps(value, separators=(",", ":"))
    assert shape(get(payload)) == shape(value)


@pytest.mark.parametrize(
    "value",
    [
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        [math.nan, 1],
        2**64,
        10**5000,
        -(10**5000),
        [10**5000],
        "\udcff lone",
        {"\udcff": ["\ud800"]},
        {MARK: 1},
        {MARK: 1, "value": ["tuple", 1]},
        {"a": {MARK: 1, "value": ["tuple", 1]}},
        [{MARK: 1, "value": 2}],
        ["tuple", 1],
        {1: "a", "1": "b"},
        {True: 1},
        {(1, (2, None)): b"\x00"},
        {},
        [],
        (),
        ((),),
        b"",
        Decimal("-0.00"),
        Decimal("sNaN"),
        datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2), "here")),
        datetime(2024, 1, 1, tzinfo=UTC),
        date(1, 1, 1),
        UUID(int=7),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_at_the_edge_come_back(value: Any) -> None:
    assert shape(get(put(value, settings=REMOTE), settings=REMOTE)) == shape(value)


def test_utc_is_still_the_utc_singleton() -> None:
    assert get(put(datetime(2024, 1, 1, tzinfo=UTC))).tzinfo is UTC
