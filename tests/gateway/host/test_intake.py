"""Events into the journal, from a thread like the library's."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from neonize.proto.Neonize_pb2 import Connected, OfflineSyncCompleted

from gateway.changes import Change
from gateway.host import intake as intakes
from gateway.host.convert import Account
from gateway.host.folder import Folder
from gateway.host.intake import Intake
from gateway.host.journal import Journal
from gateway.host.verdict import Verdict
from shared.events import MessageReceived, SessionConnected
from shared.session import SessionState, Trigger
from tests.gateway.host.test_convert import BEN, BEN_LID, HELLO, event, info
from tests.gateway.host.test_journal import open_journal

MESSAGE, RECEIPT, CONNECTED, CAUGHT_UP = 17, 18, 3, 27


class Desk:
    """An intake, what it told the loop, and the numbers the library knows."""

    def __init__(self, folder: Path) -> None:
        self.journal: Journal = open_journal(Folder(folder, sync=False))
        self.obeyed: list[Verdict] = []
        self.numbers: dict[str, str] = {}
        self.asked: list[str] = []
        self.hang = False
        self.news = asyncio.Event()
        self.caught_up = asyncio.Event()
        self.intake = Intake(
            self.journal,
            account=Account("+4915112345678", "1@lid"),
            journalled=self.news.set,
            obey=self.obeyed.append,
            caught_up=self.caught_up.set,
            number_of=self._number_of,
        )

    async def _number_of(self, lid: str) -> str | None:
        self.asked.append(lid)
        if self.hang:
            await asyncio.Event().wait()
        return self.numbers.get(lid)

    def take(self, code: int, payload: bytes) -> None:
        """As the library does: on a thread of its own, and back only when it is safe."""
        thread = threading.Thread(target=self.intake.take, args=(code, payload))
        thread.start()
        thread.join()

    def received(self) -> list[MessageReceived]:
        events = [entry.event for entry in self.journal.after(0, 100)]
        return [each for each in events if isinstance(each, MessageReceived)]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncGenerator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.journal.close()


def from_lid(message_id: str) -> bytes:
    return event(HELLO, info(BEN_LID, BEN_LID, id=message_id)).SerializeToString()


async def test_an_event_is_in_the_journal_when_the_library_goes_on(desk: Desk) -> None:
    """Taken twice it is there once."""
    payload = event(HELLO).SerializeToString()
    desk.take(MESSAGE, payload)
    assert len(desk.received()) == 1
    desk.take(MESSAGE, payload)
    assert len(desk.received()) == 1
    await asyncio.sleep(0)
    assert desk.news.is_set()


async def test_a_verdict_is_journalled_and_then_obeyed(desk: Desk) -> None:
    """The loop hears of it after it is safe, and the event names the account."""
    desk.journal.change(Change(trigger=Trigger.START), 1)
    desk.take(CONNECTED, Connected(status=True).SerializeToString())
    assert desk.journal.session.state is SessionState.CONNECTED
    last = desk.journal.after(0, 100)[-1].event
    assert isinstance(last, SessionConnected)
    assert last.data.phone_number == "+4915112345678"
    await asyncio.sleep(0)
    assert len(desk.obeyed) == 1


async def test_that_nothing_is_left_of_what_was_kept_is_passed_on(desk: Desk) -> None:
    """It is no event of the session's: nothing is journalled."""
    desk.take(CAUGHT_UP, OfflineSyncCompleted(Count=3).SerializeToString())
    await asyncio.wait_for(desk.caught_up.wait(), 30)
    assert desk.journal.last == 0


@pytest.mark.parametrize(
    ("code", "payload"),
    [(MESSAGE, b"\xff\xff\xff"), (RECEIPT, b""), (99, b""), (MESSAGE, b"")],
    ids=["garbage", "required-missing", "unknown-code", "empty"],
)
async def test_what_cannot_be_read_is_passed_over(desk: Desk, code: int, payload: bytes) -> None:
    """One odd event neither ends the library's loop nor reaches the journal."""
    desk.take(code, payload)
    assert desk.journal.last == 0


async def test_a_lid_alone_waits_for_its_number(desk: Desk) -> None:
    """It is held until the first login, looked up, and keeps its place before what follows."""
    desk.numbers[BEN_LID] = "+4915112345679"
    desk.take(MESSAGE, from_lid("1"))
    desk.take(MESSAGE, event(HELLO, info(BEN, BEN, id="2")).SerializeToString())
    assert desk.received() == []
    connected = asyncio.Event()
    task = asyncio.ensure_future(desk.intake.look_up(connected))
    await asyncio.sleep(0.01)
    assert desk.asked == []
    connected.set()
    async with asyncio.timeout(30):
        while len(desk.received()) < 2:
            await asyncio.sleep(0.01)
    task.cancel()
    assert [each.data.whatsapp_id for each in desk.received()] == ["1", "2"]
    assert {each.data.chat for each in desk.received()} == {"+4915112345679"}


async def test_an_unknown_number_holds_nothing_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that does not know, or does not answer, costs the number and not the message."""
    monkeypatch.setattr(intakes, "LOOKUP_LIMIT", 0.01)
    desk.hang = True
    desk.take(MESSAGE, from_lid("1"))
    connected = asyncio.Event()
    connected.set()
    task = asyncio.ensure_future(desk.intake.look_up(connected))
    async with asyncio.timeout(30):
        while not desk.received():
            await asyncio.sleep(0.01)
    task.cancel()
    (received,) = desk.received()
    assert received.data.chat == BEN_LID
    assert received.data.sender.phone_number is None


async def test_an_event_in_hand_is_timed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its arrival until it is in the journal; nobody else would notice that it is stuck."""
    arrived, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        arrived.set()
        go_on.wait()

    monkeypatch.setattr(intakes, "read", slow)
    assert desk.intake.taking_for == 0
    thread = threading.Thread(target=desk.intake.take, args=(CONNECTED, b""))
    thread.start()
    arrived.wait()
    assert desk.intake.taking_for > 0
    go_on.set()
    thread.join()
    assert desk.intake.taking_for == 0
