"""Factor a number with three methods at once; the first that is done wins, and the others are stopped.

Which method is fastest depends on the number, and nobody knows beforehand: a small factor falls to trial division, two
factors close to each other to Fermat, most others to Pollard's rho. On processes the losers are killed as soon as the
winner is recorded; give the race a worker for each of them. Threads cannot be stopped: there a loser burns on in the
background until the program ends.

    durapool run examples/racing_solvers.py:handler --executor process:3 --input '{"number": 1000000016000000063}'
"""

from __future__ import annotations

from math import gcd, isqrt
from typing import Any

from command_line import main
from durapool import BatchResult, CompletionConfig, DurableContext, ParallelBranch, ParallelConfig, durable_execution

NUMBER = 1_000_000_007 * 1_000_000_009 * 4_000_000_007


@durable_execution
def handler(event: dict[str, Any] | None, context: DurableContext) -> dict[str, Any]:
    """Find a factor of event["number"], a composite number."""
    number = int((event or {}).get("number") or NUMBER)
    solvers = [pollard_rho, fermat, trial_division]

    def racer(solve: Any) -> ParallelBranch[int]:
        return ParallelBranch(lambda ctx: ctx.step(lambda _: solve(number), name="solve"), name=solve.__name__)

    race: BatchResult[int] = context.parallel(
        [racer(solve) for solve in solvers],
        name="race",
        config=ParallelConfig(completion_config=CompletionConfig.first_successful()),
    )
    if not race.succeeded():
        race.throw_if_error()
    winner = race.succeeded()[0]
    factor = winner.result or 1
    return {
        "factors": sorted([factor, number // factor]),
        "winner": solvers[winner.index].__name__,
        "stopped": [solvers[item.index].__name__ for item in race.started()],
    }


def trial_division(number: int) -> int:
    """The smallest factor; takes as many steps as that factor is large."""
    if number % 2 == 0:
        return 2
    for factor in range(3, isqrt(number) + 1, 2):
        if number % factor == 0:
            return factor
    raise ValueError(f"{number} is prime")


def fermat(number: int) -> int:
    """A factor near the square root: number = a**2 - b**2; quick where two factors are close to each other."""
    if number % 2 == 0:
        return 2
    a = isqrt(number - 1) + 1
    while a <= (number + 1) // 2:
        b = isqrt(a * a - number)
        if b * b == a * a - number and a - b > 1:
            return a - b
        a += 1
    raise ValueError(f"{number} is prime")


def pollard_rho(number: int) -> int:
    """Some factor, after about as many steps as the square root of the smallest one."""
    for constant in range(1, 20):
        slow = fast = 2
        factor = 1
        while factor == 1:
            slow = (slow * slow + constant) % number
            fast = (fast * fast + constant) % number
            fast = (fast * fast + constant) % number
            factor = gcd(abs(slow - fast), number)
        if factor != number:
            return factor
    raise ValueError(f"no factor of {number} was found: it may be prime")


if __name__ == "__main__":
    main(handler, __doc__)
