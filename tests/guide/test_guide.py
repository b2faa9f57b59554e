"""Every code block of the guide runs under every executor, with the results that the guide states."""

from __future__ import annotations

import ast
import inspect

import pytest
from guide_blocks import GUIDE, Block, guide_blocks
from guide_expectations import EXPECTATIONS, PRELUDE, Case, Fragment, Handler, PytestBlock, Signature
from guide_modules import load

from durapool import DurableContext
from durapool.testing import DurableFunctionTestRunner, InvocationStatus

BLOCKS = guide_blocks()
RUNNABLE = [
    pytest.param(BLOCKS[key], case, id=f"{key.replace(' ', '-')}-{number}")
    for key, expectation in EXPECTATIONS.items()
    if isinstance(expectation, Handler | Fragment) and key in BLOCKS
    for number, case in enumerate(expectation.cases)
]

MY_FUNCTION = """
@durable_execution
def handler_with_failures(event, context):
    config = ParallelConfig(completion_config=CompletionConfig.all_completed())
    result = context.parallel([good("a"), bad("b"), good("c")], config=config)
    return {"successful_count": result.success_count, "failed_count": result.failure_count}
"""


def test_every_block_has_an_expectation() -> None:
    assert list(BLOCKS) == list(EXPECTATIONS)


def test_the_guide_has_no_link_to_a_page_that_does_not_exist() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    anchors = {_anchor(line.lstrip("#").strip()) for line in text.splitlines() if line.startswith("#")}
    for target in _links(text):
        page, _, anchor = target.partition("#")
        assert not page or (GUIDE.parent / page).exists(), target
        assert not anchor or anchor in anchors, target


@pytest.mark.parametrize(("block", "case"), RUNNABLE)
def test_a_block_does_what_the_guide_says(block: Block, case: Case, executor: str) -> None:
    handler = load(block)["handler"]
    with DurableFunctionTestRunner(handler=handler, executor=executor) as runner:
        result = runner.run(input=case.event, timeout=60)
    assert result.status is InvocationStatus.SUCCEEDED, result.error
    assert case.accepts(result.result), result.result


@pytest.mark.parametrize("key", [key for key, value in EXPECTATIONS.items() if isinstance(value, Signature)])
def test_a_signature_is_that_of_the_method(key: str) -> None:
    expectation = EXPECTATIONS[key]
    assert isinstance(expectation, Signature)
    definition = ast.parse(BLOCKS[key].source.rstrip() + ": ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    promised = [argument.arg for argument in definition.args.args]
    defaults = [ast.unparse(value) for value in definition.args.defaults]
    actual = list(inspect.signature(getattr(DurableContext, expectation.method)).parameters.values())[1:]
    assert [parameter.name for parameter in actual[: len(promised)]] == promised
    assert [str(p.default) for p in actual if p.default is not inspect.Parameter.empty] == defaults


def test_testing_part(pytester: pytest.Pytester) -> None:
    blocks = [BLOCKS[key] for key, value in EXPECTATIONS.items() if isinstance(value, PytestBlock)]
    assert blocks == [block for block in BLOCKS.values() if block.part == "Testing"]
    pytester.makepyfile(
        my_function="\n".join(
            [
                PRELUDE,
                _renamed("Configuration #1", "handler_first_successful"),
                _renamed("Controlled concurrency #1", "handler_with_concurrency_limit"),
                BLOCKS["Getting started #1"].source,
                MY_FUNCTION,
            ]
        ),
        test_my_function="\n".join(["from my_function import *", *(block.source for block in blocks)]),
    )
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    outcome = pytester.runpytest_subprocess("--durapool-executor=all", "-p", "no:cacheprovider", timeout=100)
    expected = 2 * sum(value.tests for value in EXPECTATIONS.values() if isinstance(value, PytestBlock))
    outcome.assert_outcomes(passed=expected)


def _renamed(key: str, name: str) -> str:
    source = BLOCKS[key].source
    assert "def handler(" in source
    return source.replace("def handler(", f"def {name}(")


def _anchor(heading: str) -> str:
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _links(text: str) -> list[str]:
    return [part.partition(")")[0] for part in text.split("](")[1:] if not part.startswith("http")]
