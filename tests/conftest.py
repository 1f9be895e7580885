"""What tests of every folder may ask for.

`aws` is the embedded AWS, started once a session; `fresh_stack()` makes one more stack of
template.yaml in a tenth of a second, so that a test has a table and queues of its own; `stack` is
one of those. Where tests run beside each other (`-n 2`), each worker is a session: it has an
embedded AWS, a WhatsApp and a product of its own, and shares only the folder of installed tools.
`postgres` is a PostgreSQL server, likewise.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from sandbox.aws import EmbeddedAws, StackEnvironment, apply_template, run_embedded_aws
from sandbox.aws.venvs import EMULATOR, POSTGRES, SAM, tool_python
from shared.events import TYPES
from tests.postgres import DatabaseServer, run_postgres
from tests.schemas import judged

HOME = Path(__file__).resolve().parents[1] / ".zapgate"

FreshStack = Callable[..., StackEnvironment]

TOGETHER = frozenset(
    {
        "tests/sandbox/test_deployment.py",
        "tests/gateway/test_ends.py",
        "tests/shared/test_signing_elsewhere.py",
    }
)
"""Files whose tests share what takes a minute to make, or is installed once: one worker has it."""


class Beside(LoadScopeScheduling):
    """Hands tests to the workers one by one and in their order, but for files that stay together.

    `--dist loadgroup` is that, but does not group with this pytest (pytest-xdist's issue 1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Beside:
    """How `-n` distributes."""
    return Beside(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Journeys first, in the order they were shuffled into: the longest must not end a run."""
    items.sort(key=lambda item: "journey" not in item.path.parts)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install tools before the first test, whose timeout is not meant for downloads."""
    asked = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for fixture, tool in (("aws", EMULATOR), ("deployment", SAM), ("postgres", POSTGRES)):
        if fixture in asked:
            asyncio.run(tool_python(HOME, tool, print))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands over what it judged."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["judged"] = dict(judged)


def pytest_testnodedown(node: Any) -> None:
    """Add up what the workers judged; one that crashed has handed over nothing."""
    judged.update(getattr(node, "workeroutput", {}).get("judged", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which types of webhooks were really sent."""
    if judged:
        told = ", ".join(f"{name} {count}" for name, count in sorted(judged.items()))
        missing = ", ".join(sorted(TYPES - judged.keys()))
        terminalreporter.write_line(f"webhooks that fit their schemas: {told}; not sent: {missing}")


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
