"""Messages out, with the journal that is there and a line that does what the test says."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest

from gateway.frames import Send
from gateway.host.folder import CREDENTIALS, Folder
from gateway.host.journal import Journal, Order
from gateway.host.schema import Schema, Server
from gateway.host.sender import SECRET_BYTES, Sender, settle_interrupted
from gateway.host.store import Store, StoreFailed
from gateway.host.wire import Undelivered
from shared import clock
from shared.commands import SendMessage
from shared.events import MessageChange
from shared.message import FailureCode, MessageStatus, OnUncertain
from tests.gateway.gateway import new_session, order
from tests.gateway.host.test_journal import EVERY, open_journal
from tests.postgres import DatabaseServer

NO_ANSWER = "timed out waiting for message send response"
NO_SOCKET = "failed to send message node: websocket not connected"
SESSION = new_session()
BEN = "+4915112345679"


class Line:
    """Answers each send with the next of `answers`: a WhatsApp id, or an error's words."""

    def __init__(self, answers: Sequence[str | Exception]) -> None:
        self.answers = list(answers)
        self.sent: list[str] = []
        self.at_once = 0

    async def __call__(self, to: str, text: str, secret: bytes) -> str:
        self.at_once += 1
        assert self.at_once == 1
        self.sent.append(text)
        await asyncio.sleep(0)
        self.at_once -= 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Desk:
    """A sender at work."""

    def __init__(self, store: Store, line: Line) -> None:
        self.journal = open_journal(store)
        self.connected = asyncio.Event()
        self.connected.set()
        self.repeated: list[Order] = []
        self.news = asyncio.Event()
        self.sender = Sender(
            self.journal,
            store=store,
            transmit=line,
            connected=self.connected,
            settled=self.repeated.append,
            journalled=self.news.set,
            now=clock.millis,
            random=bytes,
        )

    async def outcomes(self, number: int) -> list[MessageChange]:
        async with asyncio.timeout(30):
            while self.journal.last < number:
                self.news.clear()
                await self.news.wait()
        found = [entry.event.data for entry in self.journal.after(0, EVERY)]
        assert all(isinstance(data, MessageChange) for data in found)
        return [data for data in found if isinstance(data, MessageChange)]


@asynccontextmanager
async def desk(store: Store, *answers: str | Undelivered) -> AsyncGenerator[tuple[Desk, Line]]:
    line = Line(answers)
    at_work = Desk(store, line)
    task = asyncio.ensure_future(at_work.sender.run())
    try:
        yield at_work, line
    finally:
        task.cancel()
        at_work.journal.close()


def put(at_work: Desk, *commands: SendMessage) -> None:
    for command in commands:
        at_work.sender.put(Send(command=command))


async def test_messages_go_out_in_order_one_at_a_time(store: Store) -> None:
    """Each with its id, and never two in the library's hands."""
    async with desk(store, "3EB1", "3EB2", "3EB3") as (at_work, line):
        put(at_work, *(order(SESSION, BEN, text) for text in "abc"))
        outcomes = await at_work.outcomes(3)
        assert line.sent == ["a", "b", "c"]
        assert [each.whatsapp_id for each in outcomes] == ["3EB1", "3EB2", "3EB3"]
        assert at_work.sender.sending_for == 0


async def test_an_expired_message_is_not_sent(store: Store) -> None:
    """A one-time password does not arrive an hour late."""
    async with desk(store) as (at_work, line):
        put(at_work, msgspec.structs.replace(order(SESSION, BEN, "1234"), expires_at=1))
        (outcome,) = await at_work.outcomes(1)
        assert outcome.failure is not None
        assert outcome.failure.code is FailureCode.EXPIRED
        assert line.sent == []


async def test_without_a_connection_a_message_waits_for_its_time(store: Store) -> None:
    """It fails when its time is over, and goes out if the connection comes first."""
    async with desk(store, "3EB2") as (at_work, line):
        at_work.connected.clear()
        soon = clock.millis() + 100
        put(at_work, msgspec.structs.replace(order(SESSION, BEN, "brief"), expires_at=soon))
        put(at_work, order(SESSION, BEN, "patient"))
        (brief,) = await at_work.outcomes(1)
        assert brief.status is MessageStatus.FAILED
        at_work.connected.set()
        _, patient = await at_work.outcomes(2)
        assert patient.status is MessageStatus.SENT
        assert line.sent == ["patient"]


async def test_what_certainly_did_not_go_out_is_tried_again(store: Store) -> None:
    """The connection was lost unnoticed: no event, no double, one outcome."""
    async with desk(store, Undelivered(NO_SOCKET), "3EB1") as (at_work, line):
        put(at_work, order(SESSION, BEN, "a"))
        (outcome,) = await at_work.outcomes(1)
        assert outcome.status is MessageStatus.SENT
        assert line.sent == ["a", "a"]


async def test_no_answer_is_uncertain(store: Store) -> None:
    """Nobody knows whether it went out, so it is not sent again unasked."""
    async with desk(store, Undelivered(NO_ANSWER)) as (at_work, line):
        put(at_work, order(SESSION, BEN, "a"))
        (outcome,) = await at_work.outcomes(1)
        assert outcome.status is MessageStatus.UNCERTAIN
        assert line.sent == ["a"]


async def test_no_answer_may_be_resent_by_choice(store: Store) -> None:
    """`resend` prefers a double to a doubt."""
    async with desk(store, Undelivered(NO_ANSWER), "3EB1") as (at_work, line):
        put(at_work, order(SESSION, BEN, "a", OnUncertain.RESEND))
        (outcome,) = await at_work.outcomes(1)
        assert outcome.status is MessageStatus.SENT
        assert line.sent == ["a", "a"]


async def test_a_repeated_order_is_answered_and_not_sent(store: Store) -> None:
    """Its outcome is there already."""
    async with desk(store, "3EB1", "3EB2") as (at_work, line):
        command = order(SESSION, BEN, "a")
        put(at_work, command, command, order(SESSION, BEN, "b"))
        await at_work.outcomes(2)
        assert line.sent == ["a", "b"]
        assert [each.message_id for each in at_work.repeated] == [command.message_id]


async def test_after_stop_nothing_is_begun(store: Store) -> None:
    """What was not begun leaves no trace, and may be ordered elsewhere."""
    async with desk(store) as (at_work, line):
        at_work.sender.stop()
        command = order(SESSION, BEN, "a")
        put(at_work, command)
        await asyncio.sleep(0.05)
        assert line.sent == []
        assert at_work.journal.order(command.message_id) is None


def interrupted(store: Store, on_uncertain: OnUncertain) -> tuple[Journal, Order]:
    journal = open_journal(store)
    begun = Order(
        message_id=order(SESSION, BEN, "a").message_id,
        recipient=BEN,
        secret=b"\x07" * 32,
        on_uncertain=on_uncertain,
        begun_at=clock.millis(),
    )
    journal.begin(begun)
    return journal, begun


def left(store: Store, secret: bytes | None, *, devices: int = 1) -> Store:
    """The store as the library leaves it after a send with this secret, or without."""
    statements: list[tuple[str, bytes | None]] = [
        ("CREATE TABLE whatsmeow_message_secrets (message_id TEXT, key bytea NOT NULL)", None),
        ("CREATE TABLE whatsmeow_device (jid TEXT)", None),
    ]
    if devices:
        statements.append(("INSERT INTO whatsmeow_device VALUES ('1@lid')", None))
    if secret is not None:
        statements.append(("INSERT INTO whatsmeow_message_secrets VALUES ('3EB7', ?)", secret))
    if isinstance(store, Schema):
        with store._connect() as connection:  # pyright: ignore[reportPrivateUsage] (a test may look inside)
            for text, value in statements:
                connection.execute(text.replace("?", "%s").encode(), value and [value])
    elif isinstance(store, Folder):
        with closing(sqlite3.connect(store.path / CREDENTIALS)) as db, db:
            for text, value in statements:
                db.execute(text, [] if value is None else [value])
    return store


def test_a_send_the_library_never_wrote_down_did_not_happen(store: Store) -> None:
    """It is simply still to do: its order is repeated by whoever gave it."""
    journal, begun = interrupted(store, OnUncertain.REPORT)
    settle_interrupted(journal, left(store, None), clock.millis(), again=True)
    assert journal.order(begun.message_id) is None
    assert journal.last == 0
    journal.close()


def test_a_send_the_library_wrote_down_is_uncertain_under_its_id(store: Store) -> None:
    """A later receipt for that id settles it."""
    journal, begun = interrupted(store, OnUncertain.REPORT)
    settle_interrupted(journal, left(store, begun.secret), clock.millis(), again=True)
    (entry,) = journal.after(0, EVERY)
    assert isinstance(entry.event.data, MessageChange)
    assert entry.event.data.status is MessageStatus.UNCERTAIN
    assert entry.event.data.whatsapp_id == "3EB7"
    assert journal.receipt("3EB7", MessageStatus.DELIVERED, clock.millis())
    journal.close()


def test_a_store_that_is_away_decides_nothing(store: Store, postgres: DatabaseServer) -> None:
    """What can be known later is asked later: the intent stays as it was."""
    journal, begun = interrupted(store, OnUncertain.REPORT)
    away = Schema(Server.parse(postgres.url(port=1)), SESSION.id)
    with pytest.raises(StoreFailed):
        settle_interrupted(journal, away, clock.millis(), again=True)
    assert journal.unsettled() == [begun]
    journal.close()


def test_a_removed_device_takes_the_proof_along(store: Store) -> None:
    """Its secrets are deleted with it, so a missing one says nothing: the send is uncertain."""
    journal, _ = interrupted(store, OnUncertain.REPORT)
    settle_interrupted(journal, left(store, None, devices=0), clock.millis(), again=True)
    (entry,) = journal.after(0, EVERY)
    assert isinstance(entry.event.data, MessageChange)
    assert entry.event.data.status is MessageStatus.UNCERTAIN
    journal.close()


async def test_nothing_waits_while_a_send_is_looked_up(tmp_path: Path) -> None:
    """The lease is renewed over the same loop: a file that is another's must not hold it."""
    store = Folder(tmp_path / "session")
    async with desk(store, Undelivered(NO_ANSWER)) as (at_work, line):
        left(store, bytes(SECRET_BYTES))
        store.library_opens()
        with closing(sqlite3.connect(store.path / CREDENTIALS, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            put(at_work, order(SESSION, BEN, "a"))
            while line.answers:
                await asyncio.sleep(0.01)
            other.execute("ROLLBACK")
        (uncertain,) = await at_work.outcomes(1)
        assert uncertain.status is MessageStatus.UNCERTAIN
        assert uncertain.whatsapp_id == "3EB7"


async def test_what_cannot_be_written_fails(store: Store) -> None:
    """One odd message must not take the host down again and again."""
    async with desk(store, "3EB2") as (at_work, line):
        line.answers.insert(0, ValueError("surrogates not allowed"))
        put(at_work, order(SESSION, BEN, "odd"), order(SESSION, BEN, "fine"))
        odd, fine = await at_work.outcomes(2)
        assert odd.failure is not None
        assert odd.failure.code is FailureCode.INVALID
        assert fine.status is MessageStatus.SENT


@pytest.mark.parametrize("on_uncertain", OnUncertain, ids=str)
def test_where_the_library_left_nothing_to_read(store: Store, on_uncertain: OnUncertain) -> None:
    """Without its file nothing is certain: it is reported, or resent by choice."""
    journal, begun = interrupted(store, on_uncertain)
    settle_interrupted(journal, store, clock.millis(), again=True)
    if on_uncertain is OnUncertain.RESEND:
        assert journal.last == 0
        # Nobody sends it again after all: then it is not said to have failed.
        settle_interrupted(journal, store, clock.millis(), again=False)
    (entry,) = journal.after(0, EVERY)
    assert isinstance(entry.event.data, MessageChange)
    assert entry.event.data.message_id == begun.message_id
    assert entry.event.data.status is MessageStatus.UNCERTAIN
    assert entry.event.data.whatsapp_id is None
    assert journal.unsettled() == []
    journal.close()


async def test_a_resend_whose_time_is_over_is_uncertain(store: Store) -> None:
    """An attempt may have gone out: it is not said to have failed."""
    async with desk(store, Undelivered(NO_ANSWER), Undelivered(NO_SOCKET)) as (at_work, line):
        soon = clock.millis() + 500
        command = order(SESSION, BEN, "a", OnUncertain.RESEND)
        put(at_work, msgspec.structs.replace(command, expires_at=soon))
        (outcome,) = await at_work.outcomes(1)
        assert outcome.status is MessageStatus.UNCERTAIN
        assert line.sent == ["a", "a"]
