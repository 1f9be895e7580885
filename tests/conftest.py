"""What tests of every folder may ask for.

`aws` is the embedded AWS, started once a session; `fresh_stack()` makes one more stack of
template.yaml in a tenth of a second, so that a test has a table and queues of its own; `stack` is
one of those. `postgres` is a PostgreSQL server, likewise.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.aws import EmbeddedAws, StackEnvironment, apply_template, run_embedded_aws
from sandbox.aws.venvs import EMULATOR, POSTGRES, SAM, tool_python
from tests.postgres import DatabaseServer, run_postgres

HOME = Path(__file__).resolve().parents[1] / ".zapgate"

FreshStack = Callable[..., StackEnvironment]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install tools before the first test, whose timeout is not meant for downloads."""
    asked = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for fixture, tool in (("aws", EMULATOR), ("deployment", SAM), ("postgres", POSTGRES)):
        if fixture in asked:
            asyncio.run(tool_python(HOME, tool, print))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def aws() -> AsyncIterator[EmbeddedAws]:
    """One emulator for all tests; what must not be shared belongs in a fresh stack."""
    async with run_embedded_aws(HOME) as running:
        yield running


@pytest.fixture(scope="session")
def fresh_stack(aws: EmbeddedAws) -> FreshStack:
    """Make a stack nobody else has; keywords are template parameters (`Shards="2"`)."""
    numbers = itertools.count()

    def make(**parameters: str) -> StackEnvironment:
        name = f"test-{next(numbers)}"
        return apply_template(aws, stack=name, parameters={"Prefix": name, **parameters})

    return make


@pytest.fixture
def stack(fresh_stack: FreshStack) -> StackEnvironment:
    """A table, queues, a bucket and a secret for this test alone."""
    return fresh_stack()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    """One server for all tests: whoever stops or starts it asks for a database of its own."""
    with run_postgres(HOME) as server:
        yield server
