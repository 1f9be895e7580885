"""Threads that wait for the device store.

They are apart from the loop's own, which look up AWS's names: a disk or a database that hangs holds
every thread that asks it, and must not keep the leases from being renewed.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MOST: Final = 32
"""At a time: a slow disk must not stop the rest."""


class Threads:
    """Runs what blocks."""

    def __init__(self, most: int = MOST) -> None:
        self._executor = ThreadPoolExecutor(most, thread_name_prefix="devices")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns, or raises. Once begun it goes on, whoever still waits."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(work, *args, **kwargs))

    def close(self) -> None:
        """Begin nothing more; what hangs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)
