"""Events the table refused, and how they come back."""

from pathlib import Path

import msgspec
import pytest

from gateway import aside as aside_module
from gateway.aside import Aside
from gateway.frames import Entry
from gateway.host import folder as folder_module
from gateway.host.folder import ASIDE, Folder
from gateway.host.store import StoreFailed
from gateway.threads import Threads
from shared import clock
from shared.errors import Unavailable
from shared.message import MessageStatus
from shared.session import Session, SessionState
from shared.store import events, messages
from tests.gateway.conftest import World
from tests.gateway.gateway import new_session
from tests.gateway.test_outbox import connected, opened, queued, reached
from tests.gateway.test_outbox import entries as entries_of
from tests.gateway.test_recorder import entries

REFUSED = ValueError("ValidationException")


class Table:
    """Takes what it is not told to refuse."""

    def __init__(self) -> None:
        self.stored: list[int] = []
        self.refused: set[int] = set()
        self.away = False

    async def record(self, _: Session, entry: Entry) -> None:
        if self.away:
            raise Unavailable("dynamodb", "x", "y")
        if entry.sequence in self.refused:
            raise REFUSED
        self.stored.append(entry.sequence)


async def filled(folder: Path, session: Session, last: int) -> Aside:
    """As a gateway left it that is gone."""
    aside = Aside(lambda _: Folder(folder), clock.millis, Threads())
    for entry in entries(session, 1, last):
        await aside.put(session, entry, REFUSED)
    return Aside(lambda _: Folder(folder), clock.millis, Threads())


async def test_what_is_set_aside_is_on_the_disk_and_counted(tmp_path: Path) -> None:
    """People find the event whole, with the reason; nobody else may read it."""
    session = new_session()
    aside = Aside(lambda _: Folder(tmp_path), clock.millis, Threads())
    (entry,) = entries(session, 4, 4)
    await aside.put(session, entry, ValueError("ValidationException"))
    path = tmp_path / ASIDE
    (line,) = path.read_bytes().splitlines()
    found = msgspec.json.decode(line)
    assert found["why"] == "ValueError: ValidationException"
    assert found["entry"]["event"]["id"] == entry.event.id
    assert path.stat().st_mode & 0o777 == 0o600
    assert aside.count == 1


async def test_what_was_set_aside_is_recorded_when_its_session_is_held_again(
    tmp_path: Path,
) -> None:
    """What is stored leaves the file, what is refused once more stays; then the file goes."""
    session, table = new_session(), Table()
    aside = await filled(tmp_path, session, 4)
    await aside.try_again(table.record)
    assert table.stored == [], "the session is not held here"
    table.refused = {2}
    aside.heed(session)
    await aside.try_again(table.record)
    assert table.stored == [1, 3, 4]
    assert (aside.left, aside.recorded) == (1, 3)
    await aside.try_again(table.record)
    assert table.stored == [1, 3, 4], "it has its time until the next try"
    table.refused = set()
    aside.heed(session)
    await aside.try_again(table.record)
    assert table.stored == [1, 3, 4, 2]
    assert aside.left == 0
    assert list(tmp_path.iterdir()) == []
    aside.leave(session.id)


async def test_an_outage_is_no_try(tmp_path: Path) -> None:
    """What was stored before it is not tried again, and the rest at the next look."""
    session, table = new_session(), Table()
    aside = await filled(tmp_path, session, 3)
    aside.heed(session)

    async def breaks(of: Session, entry: Entry) -> None:
        await table.record(of, entry)
        table.away = True

    with pytest.raises(Unavailable):
        await aside.try_again(breaks)
    table.away = False
    await aside.try_again(table.record)
    assert table.stored == [1, 2, 3]


async def test_a_line_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    """One that the end of a machine cut off stands in nobody's way, and is left for people."""
    session, table = new_session(), Table()
    aside = await filled(tmp_path, session, 1)
    with (tmp_path / ASIDE).open("ab") as file:
        file.write(b'{"at": 1, "wh')
    aside.heed(session)
    await aside.try_again(table.record)
    assert table.stored == [1]
    assert aside.left == 1
    assert (tmp_path / ASIDE).read_bytes() == b'{"at": 1, "wh\n'
    assert (tmp_path / ASIDE).stat().st_mode & 0o777 == 0o600


async def test_many_refusals_do_not_hide_what_could_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was tried in vain goes behind what was not tried yet; a file has its end."""
    monkeypatch.setattr(aside_module, "ROUND", 2)
    session, table = new_session(), Table()
    aside = await filled(tmp_path, session, 3)
    table.refused = {1, 2}
    for _ in range(2):
        aside.heed(session)
        await aside.try_again(table.record)
    assert table.stored == [3]
    monkeypatch.setattr(folder_module, "LARGEST_ASIDE", 1)
    (entry,) = entries(session, 9, 9)
    with pytest.raises(StoreFailed, match="set aside"):
        await aside.put(session, entry, REFUSED)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_late_event_is_stored_once_and_turns_nothing_back(world: World, times: int) -> None:
    """Under the id it had; the session's state is that of what came after it."""
    session = await world.session(await world.tenant(), state=SessionState.STOPPED, epoch=3)
    message_id = await queued(world, session)
    late = [
        *entries_of(connected(session)),
        *entries_of(reached(session, message_id, MessageStatus.SENT, 2)),
    ]
    async with opened(world) as box:
        for _ in range(times):
            for entry in late:
                await box.outbox.record_late(session, entry)
    assert (await world.read_session(session)).state is SessionState.STOPPED
    for entry in late:
        stored = await world.aws.run(events.read_event(session.tenant_id, entry.event.id))
        assert stored is not None
        assert stored.sequence == entry.event.sequence
    row = await world.aws.run(messages.read(session.tenant_id, session.id, message_id))
    assert row is not None
    assert row.status is MessageStatus.SENT
