"""Both kinds of device store: what is said of one is said of the other."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.host.folder import Folder
from gateway.host.schema import Schema, Server
from gateway.host.store import Store
from shared import clock, ids
from shared.ids import SessionId
from tests.postgres import DatabaseServer

NewStore = Callable[[], Store]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path, postgres: DatabaseServer) -> NewStore:
    """Makes a session's part of a device store, each time another's."""
    if request.param == "sqlite":
        numbers = itertools.count()
        return lambda: Folder(tmp_path / str(next(numbers)), sync=False)
    server = Server.parse(postgres.url())
    return lambda: Schema(server, SessionId(clock.mint(ids.SESSION)), sync=False)


@pytest.fixture
def store(new_store: NewStore) -> Store:
    return new_store()
