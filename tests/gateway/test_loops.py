"""The one loop."""

import asyncio

import pytest

from gateway import loops
from gateway.loops import Loop
from shared.errors import Unavailable


async def test_a_failed_step_does_not_end_the_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a step raises is logged, and the loop goes on after a pause."""
    monkeypatch.setattr(loops, "FIRST_BACKOFF", 0.001)
    faults: list[Exception | None] = [Unavailable("sqs", "x", "y"), ZeroDivisionError(), None]
    left = list(faults)

    async def step() -> None:
        fault = left.pop(0)
        if fault is not None:
            raise fault

    loop = Loop("test", step, pause=0, over=lambda: not left)
    await loop.run()
    told = [record for record in caplog.records if record.message == "loop.step_failed"]
    assert [bool(record.exc_info) for record in told] == [False, True]


async def test_a_loop_is_alive_while_it_runs() -> None:
    """Before, after and with a step that hangs it is not."""
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    patient = Loop("patient", hang, pause=0)
    stuck = Loop("stuck", hang, pause=0, allowance=-1, longest_backoff=0)
    assert not patient.alive()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(loop.run()) for loop in (patient, stuck)]
        await started.wait()
        await asyncio.sleep(0)
        assert patient.alive()
        assert not stuck.alive()
        for task in running:
            task.cancel()
    assert not patient.alive()


async def test_a_step_that_misses_its_cancellation_is_the_last() -> None:
    """Nobody cancels twice, and whoever waits for the loop would wait for ever."""
    started = asyncio.Event()

    async def deaf() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    running = asyncio.ensure_future(Loop("deaf", deaf, pause=0).run())
    await started.wait()
    running.cancel()
    async with asyncio.timeout(30):
        await asyncio.wait([running])
    assert running.cancelled()
