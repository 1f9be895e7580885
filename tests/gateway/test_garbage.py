"""How often cycles are looked for."""

import gc
from collections.abc import Iterator

import pytest

from gateway import garbage


@pytest.fixture
def restored() -> Iterator[None]:
    """The test run's own pace, again."""
    pace = gc.get_threshold()
    yield
    gc.set_threshold(*pace)
    gc.unfreeze()


@pytest.mark.usefixtures("restored")
def test_what_is_imported_is_left_alone() -> None:
    """After it, what was there is looked through no more, and the pace is a server's."""
    garbage.settle()
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold() == garbage.PACE
