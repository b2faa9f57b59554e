"""What survives `dump` and `load`, in which form, and what the errors say."""

from __future__ import annotations

import enum
import math
import pickle
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from datetime import datetime, timedelta, tzinfo
from typing import Any

import numpy as np
import pytest

from durapool.exceptions import SerDesError
from durapool.json_text import scalar_text
from durapool.records import Payload
from durapool.results import BatchItem, BatchItemStatus, BatchResult, CompletionReason
from durapool.scope import Settings
from durapool.serdes import (
    EXTENDED_TYPES_SERDES,
    ExtendedTypeSerDes,
    JsonSerDes,
    PassThroughSerDes,
    PickleSerDes,
    SerDes,
    SerDesContext,
    dump,
    load,
)
from durapool.unpickling import load_value

LOCAL = Settings("job-1", "arn:job-1")
REMOTE = Settings("job-1", "arn:job-1", local_store=False)
WHAT = "the result of step 'x'"


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


class Label(str):
    __slots__ = ()


Point = namedtuple("Point", "x y")


class OddZone(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, when: datetime | None) -> None:
        return None

    def tzname(self, when: datetime | None) -> str:
        return "odd"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OddZone)

    def __hash__(self) -> int:
        return 1


def put(value: Any, serdes: SerDes[Any] | None = None, settings: Settings = LOCAL) -> Payload:
    return dump(value, serdes, settings, "op", WHAT)


def get(payload: Payload | None, serdes: SerDes[Any] | None = None, settings: Settings = LOCAL) -> Any:
    return load(payload, serdes, settings, "op", WHAT)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.float64(1.5), "the value is a numpy.float64"),
        ({"a": [0, 1, np.float64(2)]}, "the value['a'][2] is a numpy.float64"),
        ([Colour.RED], "the value[0] is a " + Colour.__module__ + ".Colour"),
        ((Point(1, 2),), "the value[0] is a " + Point.__module__ + ".Point"),
        ({Label("k"): 1}, "a key of the value is a " + Label.__module__ + ".Label"),
        (OrderedDict(a=1), "the value is a collections.OrderedDict"),
        ({1, 2}, "the value is a set"),
        (datetime(2024, 1, 1, tzinfo=OddZone()), "the value is a datetime.datetime with a "),
        (BatchResult([BatchItem(0, BatchItemStatus.SUCCEEDED, {2})], CompletionReason.ALL_COMPLETED), ".all[0].result"),
    ],
)
def test_other_types_are_refused_by_place_and_type_in_a_remote_store(value: Any, said: str) -> None:
    with pytest.raises(SerDesError) as caught:
        put(value, settings=REMOTE)
    assert said in str(caught.value)
    assert WHAT in str(caught.value)
    assert "PickleSerDes" in str(caught.value)
    with pytest.raises(SerDesError) as caught:
        EXTENDED_TYPES_SERDES.serialize(value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        np.float64(1.5),
        {"a": [np.float64(2)]},
        Colour.RED,
        [Point(1, Text("a"))],
        OrderedDict(b=1, a=2),
        {1, 2},
        1j,
        datetime(2024, 1, 1, tzinfo=OddZone()),
        timedelta(seconds=3),
    ],
)
def test_other_types_are_pickled_in_a_local_store(value: Any) -> None:
    payload = put(value)
    assert isinstance(payload, bytes)
    assert payload.startswith(b"\x80\x05")
    assert get(payload) == value
    assert type(get(payload)) is type(value)


def test_arrays_come_back() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(get(put({"a": array}))["a"], array)


def test_functions_and_local_classes_are_pickled_by_value() -> None:
    class Here:
        x = 3

    assert get(put(Here())).x == 3
    assert get(put(lambda: 4))() == 4


def test_a_class_is_found_under_the_name_that_earlier_pickles_have_for_the_way_to_it() -> None:
    earlier = b"cdurapool.pickling\nfind_class\n(Vcollections\nVOrderedDict\ntR."
    assert load_value(earlier) is OrderedDict


def test_a_value_that_contains_itself_is_pickled_and_refused_remotely() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    back = get(put(ring))
    assert back[1] is back
    with pytest.raises(SerDesError, match="contains itself"):
        put(ring, settings=REMOTE)


@pytest.mark.parametrize("depth", [99, 101, 150, 400])
def test_deep_values_come_back_or_are_refused(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    payload = put(value)
    back = get(payload)
    while isinstance(back, list):
        (back,) = back
    assert back == 1
    assert isinstance(payload, str if depth <= 101 else bytes)


def test_a_value_too_deep_for_pickle_is_a_serdes_error() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = (value,)
    with pytest.raises(SerDesError, match="nested"):
        put(value)
    while isinstance(value, tuple):  # let go of it level by level
        (value,) = value


def test_what_cannot_be_pickled_is_named() -> None:
    class Box:
        def __init__(self) -> None:
            self.inner = {"lock": [threading.Lock()]}

    with pytest.raises(SerDesError) as caught:
        put([1, Box()])
    said = str(caught.value)
    assert "the value[1].inner['lock'][0] is a _thread.lock" in said
    assert WHAT in said
    assert caught.value.__cause__ is not None


def test_nothing_recorded_is_none() -> None:
    assert get(None) is None
    assert get(None, JsonSerDes()) is None


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "{",
        "nope",
        '{"$durapool":1}',
        '{"$durapool":1,"value":["unknown",1]}',
        '{"$durapool":1,"value":["int"]}',
        '{"$durapool":1,"value":["dict",1]}',
        '{"$durapool":2,"value":1}',
        b"",
        b"\x80\x05junk",
        "[" * 100_000,
    ],
    ids=range(11),
)
def test_a_damaged_payload_is_a_serdes_error(payload: Payload) -> None:
    with pytest.raises(SerDesError, match="cannot be read back"):
        get(payload)


@pytest.mark.parametrize("value", [None, True, False, 0, -1, 2**80, 1.5, -0.0, 1e300, 5e-324])
def test_the_short_way_of_a_scalar_is_the_long_one(value: Any) -> None:
    text = scalar_text(value)
    assert text == dump(value, None, LOCAL, "id", WHAT)
    loaded = load(text, None, LOCAL, "id", WHAT)
    assert type(loaded) is type(value)
    assert repr(loaded) == repr(value)


@pytest.mark.parametrize("value", ["text", math.nan, math.inf, Colour.RED, Text("x"), np.float64(1.5), [1]])
def test_what_is_no_plain_scalar_goes_the_long_way(value: Any) -> None:
    assert scalar_text(value) is None


def test_an_integer_of_thousands_of_digits_goes_the_long_way() -> None:
    assert scalar_text(10**5000) is None


def test_bytes_are_never_unpickled_from_a_remote_store() -> None:
    payload = pickle.dumps([1])
    with pytest.raises(SerDesError, match="remote store"):
        get(payload, settings=REMOTE)
    assert get(payload, PickleSerDes(), REMOTE) == [1]


def test_json_from_outside_may_have_white_space() -> None:
    assert get(' {"a" : 1}\n') == {"a": 1}


class Upper(SerDes[str]):
    def serialize(self, value: str, context: SerDesContext) -> str:
        return f"{context.operation_id}/{context.durable_execution_arn}/{value.upper()}"

    def deserialize(self, data: str, context: SerDesContext) -> str:
        return data.rpartition("/")[2].lower()


def test_a_users_serdes_gets_the_context() -> None:
    payload = put("abc", Upper())
    assert payload == "op/arn:job-1/ABC"
    assert get(payload, Upper()) == "abc"


class Broken(SerDes[Any]):
    def __init__(self, given: Any = None) -> None:
        self.given = given

    def serialize(self, value: Any, context: SerDesContext) -> Any:
        if self.given is None:
            raise KeyError("no")
        return self.given

    def deserialize(self, data: Any, context: SerDesContext) -> Any:
        raise KeyError("no")


def test_what_a_users_serdes_raises_is_the_cause_of_a_serdes_error() -> None:
    with pytest.raises(SerDesError, match=r"step 'x' \(a int\) cannot be serialised by Broken: KeyError") as caught:
        put(1, Broken())
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(SerDesError, match="cannot be read back by Broken") as caught:
        get("x", Broken())
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("given", [{"a": 1}, 5, "\udcff"])
def test_a_users_serdes_must_return_text_or_bytes(given: Any) -> None:
    with pytest.raises(SerDesError, match="Broken"):
        put(1, Broken(given))


def test_a_users_serdes_may_return_bytes() -> None:
    assert put(1, Broken(b"\x00\xff")) == b"\x00\xff"


def test_json_serdes_is_the_json_of_the_standard_library() -> None:
    assert get(put({"a": (1, 2)}, JsonSerDes()), JsonSerDes()) == {"a": [1, 2]}
    for value in (math.nan, {1, 2}, b"x"):
        with pytest.raises(SerDesError):
            put(value, JsonSerDes())


def test_pass_through_serdes_takes_payloads_only() -> None:
    for payload in ("text", b"bytes"):
        assert get(put(payload, PassThroughSerDes()), PassThroughSerDes()) == payload
    with pytest.raises(SerDesError, match="PassThroughSerDes"):
        put(5, PassThroughSerDes())


def test_pickle_serdes_works_everywhere() -> None:
    assert get(put({1}, PickleSerDes(), REMOTE), PickleSerDes(), REMOTE) == {1}


def test_serdes_travel_by_pickle_and_need_no_context() -> None:
    serdes = pickle.loads(pickle.dumps(EXTENDED_TYPES_SERDES))
    assert type(serdes) is ExtendedTypeSerDes
    assert serdes.deserialize(serdes.serialize((1, b"x"))) == (1, b"x")


def test_plain_values_import_nothing_heavy() -> None:
    code = (
        "import sys; from durapool.serdes import dump, load; from durapool.scope import Settings;"
        "s = Settings('e', 'a'); load(dump({'a': [1]}, None, s, 'o', 'w'), None, s, 'o', 'w');"
        "print(sorted({'durapool.results', 'durapool.envelope', 'decimal', 'uuid', 'cloudpickle'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
