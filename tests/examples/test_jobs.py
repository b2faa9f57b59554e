"""The other examples, each on small input, on threads and on processes."""

from __future__ import annotations

import csv
import math
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

import durapool
from durapool import ExecutionFailedError
from durapool.testing import DurableFunctionTestRunner, InvocationStatus

Load = Callable[[str], ModuleType]


@pytest.fixture
def run(example: Load, executor: str, tmp_path: Path) -> Callable[..., Any]:
    """Runs an example's handler in a store of the test's own."""

    def run_example(name: str, event: dict[str, Any], id: str = "small", **options: Any) -> Any:
        handler = example(name).handler
        return durapool.run(handler, event, id=id, store=tmp_path / "journal.db", executor=executor, **options)

    return run_example


def test_the_search_finds_parameters_that_read_most_digits(run: Callable[..., Any]) -> None:
    event = {"grid": {"C": [1.0], "gamma": [0.001, 1.0]}, "folds": 2, "samples": 400}
    found = run("hyperparameter_search", event)
    assert found["candidates"] == 2
    assert found["best"] == {"C": 1.0, "gamma": 0.001}  # with the other gamma it learns by heart
    assert found["test_accuracy"] > 0.9


def test_the_simulated_price_of_one_share_is_that_of_the_formula(run: Callable[..., Any]) -> None:
    event = {"paths": 200_000, "branches": 4, "spot": [100.0], "volatility": [0.2], "strikes": [100.0]}
    [call] = run("monte_carlo", event)["calls"]
    assert (
        abs(call["price"] - black_scholes(spot=100, strike=100, rate=0.03, volatility=0.2)) < 5 * call["standard_error"]
    )
    assert 0 < call["standard_error"] < 0.1


def black_scholes(spot: float, strike: float, rate: float, volatility: float) -> float:
    """The price of a call with a year to go."""
    d1 = (math.log(spot / strike) + rate + volatility**2 / 2) / volatility
    below = [0.5 * (1 + math.erf(d / math.sqrt(2))) for d in (d1, d1 - volatility)]
    return spot * below[0] - strike * math.exp(-rate) * below[1]


def test_the_simulation_draws_the_same_numbers_on_every_executor(example: Load) -> None:
    handler = example("monte_carlo").handler
    event = {"paths": 4000, "branches": 2}
    results = [
        durapool.run(handler, event, id="same", store="memory", executor=name) for name in ("thread", "process:2")
    ]
    assert results[0] == results[1]


def test_sequences_are_aligned_with_what_they_come_from(run: Callable[..., Any]) -> None:
    event = {"queries": {"a": "ACGTTA", "b": "GGACC"}, "references": {"one": "TTACGTTAGG", "two": "AGGCCA"}}
    found = run("lambda_alignment", event)
    assert found["a"] == {"reference": "one", "score": 12, "end": 8}  # all six bases match
    assert found["b"] == {"reference": "two", "score": 6, "end": 5}  # four match, at the price of one gap


def test_every_frame_is_a_picture(run: Callable[..., Any], tmp_path: Path) -> None:
    event = {"folder": str(tmp_path / "frames"), "frames": 3, "width": 24, "height": 16, "limit": 60}
    assert run("render", event)["files"] == ["0000.png", "0001.png", "0002.png"]
    pictures = [pixels_of((tmp_path / "frames" / name).read_bytes()) for name in ("0000.png", "0002.png")]
    assert [len(rows) for rows in pictures] == [16, 16]
    assert {len(row) for row in pictures[0]} == {3 * 24}
    assert bytes(3) in {pictures[0][8][i : i + 3] for i in range(0, 3 * 24, 3)}  # some point is inside the set
    assert pictures[0] != pictures[1]
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["0000.png", "0001.png", "0002.png"]


def pixels_of(data: bytes) -> list[bytes]:
    """The rows of an RGB picture, every check sum of the file compared."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks = {}
    at = 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    pixels = zlib.decompress(chunks[b"IDAT"])
    assert len(pixels) == height * (1 + 3 * width)
    return [pixels[i + 1 : i + 1 + 3 * width] for i in range(0, len(pixels), 1 + 3 * width)]


def test_broken_files_are_tolerated_named_and_read_again_once_they_are_mended(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    folder, output = tmp_path / "sales", tmp_path / "totals.csv"
    event = {"folder": str(folder), "output": str(output)}
    first = run("etl", event)
    assert first["files"] == 11
    assert list(first["rejected"]) == ["month-07.csv"]
    assert first["rejected"]["month-07.csv"].startswith("month-07.csv, line 201: ")

    broken = folder / "month-07.csv"
    broken.write_text(broken.read_text().replace("pears,1\n", "pears,1,2.50\n"))
    second = run("etl", event, retry_failed=True)
    assert second["files"] == 12
    assert second["rejected"] == {}
    with output.open(newline="") as file:
        assert {row["product"]: float(row["turnover"]) for row in csv.DictReader(file)} == second["turnover"]
    assert sum(second["turnover"].values()) > sum(first["turnover"].values())


def test_too_many_broken_files_fail_the_job(run: Callable[..., Any], tmp_path: Path) -> None:
    event = {"folder": str(tmp_path / "sales"), "output": str(tmp_path / "totals.csv"), "tolerated": 0}
    with pytest.raises(ExecutionFailedError, match=r"month-07\.csv, line 201"):
        run("etl", event)
    assert not (tmp_path / "totals.csv").exists()


def test_a_read_that_fails_is_tried_again_and_bad_data_is_not(example: Load, executor: str, tmp_path: Path) -> None:
    event = {"folder": str(tmp_path / "sales"), "output": str(tmp_path / "totals.csv"), "hiccups": True}
    with DurableFunctionTestRunner(handler=example("etl").handler, executor=executor) as runner:
        result = runner.run(input=event, timeout=60)
    assert result.status is InvocationStatus.SUCCEEDED
    assert result.result["files"] == 11
    attempts = {
        operation.name: [step.attempt for step in operation.child_operations]
        for operation in result.get_all_operations()
        if operation.sub_type == "MapIteration"
    }
    assert attempts["month-01.csv"] == [2]
    assert attempts["month-02.csv"] == [1]
    assert attempts["month-07.csv"] == [2]  # the hiccup, then bad data


@pytest.mark.parametrize(
    ("number", "factors"), [(2**4 * 7919, None), (99_991 * 99_989, [99_989, 99_991]), (3 * 1_000_003, [3, 1_000_003])]
)
def test_the_race_finds_factors(run: Callable[..., Any], number: int, factors: list[int] | None) -> None:
    found = run("racing_solvers", {"number": number})
    assert math.prod(found["factors"]) == number
    assert 1 not in found["factors"]
    assert factors is None or found["factors"] == factors
    assert found["winner"] not in found["stopped"]


def test_a_prime_has_no_winner(run: Callable[..., Any]) -> None:
    with pytest.raises(ExecutionFailedError, match="prime"):
        run("racing_solvers", {"number": 10_007}, default_retry=durapool.RetryPresets.none())


def test_the_losers_of_the_race_are_stopped(example: Load, tmp_path: Path) -> None:
    number = (
        100_000_000_003 * 1_000_000_000_000_000_003
    )  # rho needs some 10**5 steps, so that all have begun; the others at least 10**8
    executor = durapool.ProcessExecutor(workers=3)
    handler = example("racing_solvers").handler
    found = durapool.run(handler, {"number": number}, store=tmp_path / "journal.db", id="race", executor=executor)
    assert found["winner"] == "pollard_rho"
    assert found["stopped"] == ["fermat", "trial_division"]
    deadline = time.monotonic() + 30
    while psutil.STATUS_RUNNING in {child.status() for child in psutil.Process().children(recursive=True)}:
        assert time.monotonic() < deadline, "a loser still computes"
        time.sleep(0.01)


def test_each_package_is_measured_in_three_ways(run: Callable[..., Any], tmp_path: Path) -> None:
    for package, body in {"small": "import os\n", "large": LARGE, "broken": "def f(:\n"}.items():
        (tmp_path / "root" / package).mkdir(parents=True)
        (tmp_path / "root" / package / "__init__.py").write_text(body)
    measured = run("nested", {"root": str(tmp_path / "root")})
    assert measured["packages"] == 3
    assert measured["lines"] == 7
    assert measured["most_complex"]["most_complex"] == "large/__init__.py:3 busy"
    assert measured["most_complex"]["points"] == 2
    assert sorted(measured["most_imported"]) == [("json", 1), ("os", 2)]


LARGE = """import os
import json
def busy(n):
    for i in range(n):
        if i:
            return os, json
"""
