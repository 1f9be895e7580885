"""What somebody else does while a request waits."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tests.control_plane.waiting import DEADLINE


@contextmanager
def beside(deed: Callable[[], bool]) -> Generator[None]:
    """Ask `deed` to be done in a thread until it could be; fail where it never could."""
    done = threading.Event()
    over = threading.Event()

    def work() -> None:
        deadline = time.monotonic() + DEADLINE
        while not over.is_set() and time.monotonic() < deadline:
            if deed():
                done.set()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert done.is_set(), "nothing was there to be done"
