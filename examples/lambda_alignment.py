"""Find the best match of each DNA sequence among references: the same file on this machine and as a Lambda function.

    branch: align one query with every reference (Smith and Waterman), a step for each -> score and place
    handler: the best reference of each query

    durapool run examples/lambda_alignment.py:handler --executor process --id reads

On Lambda the handler is `lambda_alignment.handler` of a durable function, and the variable DURAPOOL_EXECUTOR=process
puts its branches on all vCPUs (docs/how-to/lambda.md).
"""

from __future__ import annotations

import random
from typing import Any

from durapool import DurableContext, durable_execution

MATCH, MISMATCH, GAP = 2, -1, -2
QUERIES, REFERENCES, LENGTH = 8, 4, 300


@durable_execution
def handler(event: dict[str, Any] | None, context: DurableContext) -> dict[str, Any]:
    """Align. Event keys, all optional: `queries` and `references` (name to sequence), else made up by `seed`."""
    event = event or {}
    made_up = random.Random(event.get("seed") or 1)
    references = event.get("references") or {f"gene-{i}": sequence(made_up, LENGTH) for i in range(REFERENCES)}
    queries = event.get("queries") or {f"read-{i}": excerpt(made_up, references) for i in range(QUERIES)}

    def compare(ctx: DurableContext, query: str, name: str) -> dict[str, Any]:
        score, end = ctx.step(lambda _: best_alignment(queries[query], references[name]), name=name)
        return {"reference": name, "score": score, "end": end}

    def align(ctx: DurableContext, query: str, index: int, inputs: Any) -> dict[str, Any]:
        return max((compare(ctx, query, name) for name in references), key=lambda match: int(match["score"]))

    aligned = context.map(list(queries), align, name="align")
    aligned.throw_if_error()
    return dict(zip(queries, aligned.get_results(), strict=True))


def best_alignment(query: str, reference: str) -> tuple[int, int]:
    """The score of the best local alignment, and where it ends in the reference."""
    best = (0, 0)
    above = [0] * (len(reference) + 1)
    for base in query:
        row = [0]
        for column, other in enumerate(reference, start=1):
            diagonal = above[column - 1] + (MATCH if base == other else MISMATCH)
            score = max(0, diagonal, above[column] + GAP, row[column - 1] + GAP)
            row.append(score)
            best = max(best, (score, column))
        above = row
    return best


def sequence(source: random.Random, length: int) -> str:
    """Bases at random."""
    return "".join(source.choices("ACGT", k=length))


def excerpt(source: random.Random, references: dict[str, str]) -> str:
    """A part of one of them, with a base in twenty changed."""
    reference = source.choice(list(references.values()))
    first = source.randrange(max(1, len(reference) // 2))
    part = reference[first : first + len(reference) // 2]
    return "".join(source.choice("ACGT") if source.random() < 0.05 else base for base in part)


if __name__ == "__main__":
    from command_line import main  # not there on Lambda

    main(handler, __doc__)
