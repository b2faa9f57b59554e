"""Frames: what goes in comes out, however the stream is cut; what is no frame is refused."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durapool.pool.wire import (
    HEADER,
    MAX_FRAME,
    VERSION,
    Decoder,
    Kind,
    WireError,
    pack,
    pack_operation,
    pack_updates,
    unpack_operation,
    unpack_updates,
)
from durapool.records import (
    Action,
    ErrorObject,
    Operation,
    OperationSubType,
    OperationType,
    Record,
    Update,
)

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
frames = st.lists(st.tuples(st.sampled_from(Kind), st.lists(plain, max_size=5)), max_size=5)


@given(frames, st.data())
def test_a_stream_cut_anywhere_gives_the_same_frames(sent, data):
    stream = b"".join(pack(kind, *body) for kind, body in sent)
    decoder = Decoder()
    received = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        received += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert received == [(kind, list(body)) for kind, body in sent]


@given(st.binary(max_size=200))
def test_garbage_gives_frames_or_a_wire_error_and_nothing_else(garbage):
    try:
        frames = list(Decoder().feed(garbage))
    except WireError:
        return
    assert all(isinstance(kind, Kind) and isinstance(body, list) for kind, body in frames)


STARTED = Update("a", Action.START, OperationType.STEP)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 59))
def test_a_damaged_frame_never_raises_anything_else(noise, place):
    frame = bytearray(pack(Kind.UPDATES, 1, pack_updates([STARTED, STARTED._replace(action=Action.SUCCEED)])))
    place %= len(frame)
    frame[place : place + len(noise)] = noise
    try:
        for _, body in Decoder().feed(bytes(frame)):
            unpack_updates(body[1] if len(body) > 1 else [])
    except WireError:
        pass


@pytest.mark.parametrize(
    "header",
    [
        HEADER.pack(VERSION + 1, Kind.DONE, 1),
        HEADER.pack(VERSION, 255, 1),
        HEADER.pack(VERSION, Kind.DONE, MAX_FRAME + 1),
    ],
    ids=["version", "kind", "length"],
)
def test_a_bad_header_is_refused_before_the_body_arrives(header):
    with pytest.raises(WireError, match="bad frame"):
        list(Decoder().feed(header))


def test_a_truncated_frame_waits_for_the_rest():
    frame = pack(Kind.DONE, 1, "payload", None)
    decoder = Decoder()
    assert list(decoder.feed(frame[:-1])) == []
    assert list(decoder.feed(frame[-1:])) == [(Kind.DONE, [1, "payload", None])]


def test_a_body_that_is_no_array_is_refused():
    body = msgpack.packb({"a": 1})
    with pytest.raises(WireError, match="not an array"):
        list(Decoder().feed(HEADER.pack(VERSION, Kind.DONE, len(body)) + body))


class PacksInTheMidst(dict):
    """As a finalizer that logs while a frame is made."""

    def items(self):
        assert pack(Kind.LOG, 1, "within") == PLAIN
        return super().items()


PLAIN = pack(Kind.LOG, 1, "within")


def test_a_frame_may_be_asked_for_in_the_midst_of_another():
    assert pack(Kind.LOG, "before", PacksInTheMidst(a=1), "after") == pack(Kind.LOG, "before", {"a": 1}, "after")


def test_what_cannot_be_packed_leaves_nothing_behind():
    with pytest.raises(TypeError):
        pack(Kind.LOG, "half of it", object())
    assert pack(Kind.LOG, 1, "within") == PLAIN


FULL = Update(
    "0af-_Z",
    Action.RETRY,
    OperationType.STEP,
    OperationSubType.STEP,
    "parent",
    "a name \udc80",
    3,
    b"\x80\x05",
    ErrorObject("message", "ValueError", "data", ("line 1", "line 2"), b"pickle"),
    2,
    1.5,
    {"total": 7},
)


@pytest.mark.parametrize("update", [FULL, Update("x", Action.START, OperationType.CONTEXT)])
def test_an_update_survives_the_wire(update):
    [(_, body)] = Decoder().feed(pack(Kind.UPDATES, 1, pack_updates([update])))
    [received] = unpack_updates(body[1])
    assert received == update
    assert received.action is update.action
    if update.error is not None:
        assert received.error.pickled == update.error.pickled


@pytest.mark.parametrize(
    "row",
    [
        [],
        ["x"] * 12,
        ["x" * 65, "START", "STEP", None, None, None, None, None, None, 0, None, None],
        ["x", "START", "STEP", None, None, None, None, {"no": "payload"}, None, 0, None, None],
        ["x", "EXPLODE", "STEP", None, None, None, None, None, None, 0, None, None],
        [["x"], "START", "STEP", None, None, None, None, None, None, 0, None, None],
        7,
        None,
    ],
)
def test_an_update_that_is_not_well_formed_is_refused(row):
    with pytest.raises(WireError):
        unpack_updates([row])


@pytest.mark.parametrize("following", [FULL, FULL._replace(action=Action.SUCCEED, error=None, delay=None)])
def test_updates_of_one_operation_in_a_row_carry_its_identity_once(following):
    rows = pack_updates([STARTED, following, following, STARTED])
    assert [len(row) for row in rows] == [12, 12, 6, 12]
    [(_, body)] = Decoder().feed(pack(Kind.UPDATES, 1, rows))
    assert unpack_updates(body[1]) == [STARTED, following, following, STARTED]


def test_an_update_under_another_parent_carries_its_identity_again():
    moved = STARTED._replace(parent_id="elsewhere")
    assert [len(row) for row in pack_updates([STARTED, moved])] == [12, 12]


@pytest.mark.parametrize(
    "rows",
    [
        [["SUCCEED", None, None, 0, None, None]],  # of no operation
        [list(STARTED), ["SUCCEED", 1, None, 0, None, None]],
        [list(STARTED), ["SUCCEED", None, None, -1, None, None]],
        [list(STARTED), ["SUCCESS", None, None, 0, None, None]],
        "abcdef",
        [7],
        None,
    ],
)
def test_updates_that_are_not_well_formed_are_refused(rows):
    with pytest.raises(WireError):
        unpack_updates(rows)


def test_due_times_travel_as_durations():
    operation = Operation.begin(FULL)
    operation.apply(Record(1, 1000.0, FULL._replace(action=Action.START, delay=60.0)))
    row = msgpack.unpackb(
        msgpack.packb(pack_operation(operation, now=1010.0), unicode_errors="surrogatepass"),
        unicode_errors="surrogatepass",
    )
    assert unpack_operation(row, now=5.0).due_at == pytest.approx(55.0)
