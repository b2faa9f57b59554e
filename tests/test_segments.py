"""Segments: written, mapped privately, and written again when nobody looks any more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from durapool import segments
from durapool.segments import is_untouched, pages, take, unmap, write_parts

SIZE = 1 << 20


@pytest.fixture(autouse=True)
def _no_segments_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    while segments._free:
        os.close(segments._free.pop()[0])


def filled(byte: bytes) -> segments.Segment:
    segment = take(SIZE)
    write_parts(segment.descriptor, [memoryview(byte * SIZE)])
    return segment


def test_a_mapping_is_private() -> None:
    segment = filled(b"a")
    one, other = segment.map(SIZE), segment.map(SIZE)
    one[:3] = b"xyz"
    assert bytes(other[:4]) == b"aaaa"
    assert os.pread(segment.descriptor, 4, 0) == b"aaaa"


def test_a_segment_is_written_again_only_when_nothing_of_it_is_mapped() -> None:
    segment = filled(b"a")
    descriptor = segment.descriptor
    part = segment.map(SIZE)[5:10]
    del segment
    second = filled(b"b")
    assert second.descriptor != descriptor
    assert bytes(part) == b"aaaaa"
    del part
    assert filled(b"c").descriptor == descriptor


def test_what_waits_to_be_written_again_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "KEPT_BYTES", 3 * SIZE)
    many = [take(SIZE) for _ in range(8)]
    descriptors = [segment.descriptor for segment in many]
    many.clear()
    waiting = [descriptor for descriptor, _ in segments._free]
    assert len(waiting) == 3
    for descriptor in set(descriptors) - set(waiting):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_segment_is_not_taken_for_something_much_smaller() -> None:
    segment = filled(b"a")
    descriptor = segment.descriptor
    del segment
    assert take(SIZE // 4).descriptor != descriptor
    assert take(SIZE // 2).descriptor == descriptor


def test_parts_are_written_whole_however_many() -> None:
    segment = take(SIZE)
    parts = [memoryview(bytes([number % 256]) * (number % 7)) for number in range(5000)]
    write_parts(segment.descriptor, parts)
    wanted = b"".join(parts)
    assert bytes(segment.map(len(wanted))) == wanted


def test_without_memfd_it_is_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    segment = filled(b"a")
    assert os.fstat(segment.descriptor).st_nlink == 0
    assert bytes(segment.map(SIZE)[:2]) == b"aa"


def test_a_written_mapping_is_told_from_an_untouched_one() -> None:
    segment = filled(b"a")
    address = pages(segment.descriptor, SIZE)
    seen = segments.view(address, SIZE, lambda *_: None, None)
    assert is_untouched(address, SIZE)
    assert seen[SIZE // 2] == ord("a")
    assert is_untouched(address, SIZE)
    seen[SIZE // 2] = 0
    assert not is_untouched(address, SIZE)
    del seen
    unmap(address, SIZE, None)


def test_a_forked_child_never_writes_the_parents_segments() -> None:
    code = """
import os
from durapool import segments
kept = segments.take(1000)
waiting = segments.take(2000)
segments.write_parts(waiting.descriptor, [memoryview(b"parent" * 100)])
mapped, number = waiting.map(600), waiting.descriptor
del waiting
free = segments.take(5000)
del free
if os.fork() == 0:
    assert not segments._free
    del mapped, kept  # the last look of this child
    assert not segments._free
    os._exit(0)
assert os.wait()[1] == 0
assert bytes(mapped[:6]) == b"parent"
assert [capacity for _, capacity in segments._free] == [5000]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
