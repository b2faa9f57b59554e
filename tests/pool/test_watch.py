"""What the loop waits for: readers, room to write, and other threads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from durapool.pool.watch import Watch

LONG = 60.0  # seconds; a test that waits so long has failed


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("awake", [0.0, LONG])
def test_calls_who_has_something_to_read(watch: Watch, pair: tuple[socket.socket, socket.socket], awake: float) -> None:
    ours, theirs = pair
    heard: list[bytes] = []
    watch.add(ours, lambda: heard.append(ours.recv(10)))
    theirs.send(b"news")
    watch.look(LONG, awake)
    assert heard == [b"news"]


def test_finds_what_comes_while_it_looks(watch: Watch, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    heard: list[bytes] = []
    watch.add(ours, lambda: heard.append(ours.recv(10)))
    sender = threading.Thread(target=theirs.send, args=(b"news",))
    sender.start()
    watch.look(LONG, awake=LONG)
    sender.join()
    assert heard == [b"news"]


def test_sleeps_once_it_has_looked_long_enough(watch: Watch) -> None:
    waker = threading.Timer(0.05, watch.wake)
    waker.start()
    watch.look(None, awake=0.001)
    waker.join()


def test_does_not_wait_where_there_is_no_time(watch: Watch) -> None:
    watch.look(0, awake=LONG)
    watch.look(0)
    watch.look(0.001)


def test_a_wake_ends_one_look(watch: Watch) -> None:
    watch.wake()
    watch.wake()
    watch.look(LONG)
    watch.look(0)


def test_a_wake_after_the_end_does_no_harm(watch: Watch) -> None:
    watch.close()
    watch.wake()


def test_whoever_is_removed_is_not_called(watch: Watch, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    watch.add(ours, lambda: pytest.fail("it was removed"))
    theirs.send(b"news")
    watch.remove(ours)
    watch.remove(ours)
    watch.look(0)


def test_all_that_were_found_are_called_also_those_removed_meanwhile(watch: Watch) -> None:
    calls: list[str] = []
    ends = [socket.socketpair() for _ in range(2)]
    (one, one_far), (two, two_far) = ends
    with one, one_far, two, two_far:
        watch.add(one, lambda: (calls.append("one"), watch.remove(two)))
        watch.add(two, lambda: (calls.append("two"), watch.remove(one)))
        one_far.send(b"x")
        two_far.send(b"x")
        watch.look(LONG)
        assert sorted(calls) == ["one", "two"]
        watch.look(0)
        assert len(calls) == 2


def test_tells_of_room_to_write(watch: Watch, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    calls: list[str] = []
    watch.add(ours, lambda: calls.append("read"))
    watch.change(ours, lambda: calls.append("room"), room=True)
    watch.look(LONG)
    watch.change(ours, lambda: calls.append("read"), room=False)
    watch.look(0)
    assert calls == ["room"]
