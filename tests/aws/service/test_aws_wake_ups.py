"""Wake-ups of AWS's local service, which cancels them in the midst."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from perf.local_lambda.service import let_wake_ups_finish


def test_a_wake_up_that_is_cancelled_after_it_has_begun_still_calls_the_function() -> None:
    called: list[str] = []

    class Executor:
        def _fire_due_and_invoke_handler(self, arn: str) -> Callable[[], Awaitable[None]]:
            async def fire_due() -> None:
                begun.set()
                await completed.wait()
                called.append(arn)

            return fire_due

    let_wake_ups_finish(Executor)

    async def cancel_in_the_midst() -> None:
        task = asyncio.ensure_future(Executor()._fire_due_and_invoke_handler("arn")())
        await begun.wait()
        task.cancel()
        completed.set()
        while not called:
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.wait_for(cancel_in_the_midst(), 10)

    begun, completed = asyncio.Event(), asyncio.Event()
    asyncio.run(main())
    assert called == ["arn"]
