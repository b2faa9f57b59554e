"""Every example of the guide runs against the service as it does locally, on every executor."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from aws_tools import Deployment

sys.path.insert(0, str(Path(__file__).parents[2] / "guide"))

from guide_blocks import guide_blocks
from guide_expectations import EXPECTATIONS, Case, Fragment, Handler

CASES = [
    pytest.param(number, case, id=f"{key.replace(' ', '-')}-{index}")
    for number, key in enumerate(guide_blocks())
    if isinstance(expectation := EXPECTATIONS.get(key), Handler | Fragment)
    for index, case in enumerate(expectation.cases)
]


@pytest.mark.parametrize(("number", "case"), CASES)
def test_an_example_does_what_the_guide_says(number: int, case: Case, deployed: Deployment) -> None:
    result = deployed.returned(f"aws_guide:block_{number}", case.event)
    assert case.accepts(result), result
