"""The client deadline: slow blocks raise TimeoutError, others are not affected."""

import asyncio
from typing import Any

from heart.http.deadlines import ClientDeadline


async def enforced(deadline: ClientDeadline, *tasks: Any) -> list[Any]:
    enforcement = asyncio.create_task(deadline.enforce())
    try:
        return list(await asyncio.gather(*tasks, return_exceptions=True))
    finally:
        enforcement.cancel()


def test_deadline_cancels_slow_blocks_only() -> None:
    deadline = ClientDeadline(0.1)

    async def slow() -> None:
        with deadline:
            await asyncio.sleep(60)

    async def quick() -> str:
        with deadline:
            await asyncio.sleep(0)
        await asyncio.sleep(0.4)
        return "done"

    results = asyncio.run(enforced(deadline, slow(), quick(), slow()))

    assert [type(result) for result in results] == [TimeoutError, str, TimeoutError]


def test_cancellation_by_others_stays_a_cancellation() -> None:
    deadline = ClientDeadline(60)

    async def cancelled() -> None:
        with deadline:
            await asyncio.sleep(60)

    async def main() -> list[Any]:
        task = asyncio.create_task(cancelled())
        await asyncio.sleep(0)
        task.cancel()
        return await enforced(deadline, task)

    assert [type(result) for result in asyncio.run(main())] == [asyncio.CancelledError]
