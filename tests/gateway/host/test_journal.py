"""What a host remembers through a crash."""

import itertools
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.changes import Change
from gateway.host import folder, schema
from gateway.host import journal as journals
from gateway.host.folder import JOURNAL, Folder
from gateway.host.journal import REMEMBERED, Journal, Order
from gateway.host.store import Damaged, Store, StoreFailed
from shared import clock, ids
from shared.events import (
    MessageChange,
    MessageDelivered,
    MessageRead,
    MessageReceived,
    MessageSent,
    Party,
    ReceivedMessage,
    Unsupported,
)
from shared.ids import EventId, MessageId
from shared.message import RANK, MessageStatus, OnUncertain
from shared.session import Reason, SessionState, Trigger
from tests.gateway.gateway import new_session
from tests.gateway.host.conftest import NewStore

NOW = 1_700_000_000_000
EVERY = 10_000


def open_journal(store: Store) -> Journal:
    numbers = itertools.count()
    return Journal(
        store, SESSION, mint=lambda: EventId(ids.mint(ids.EVENT, next(numbers), bytes(10)))
    )


SESSION = new_session()


@pytest.fixture
def journal(store: Store) -> Journal:
    return open_journal(store)


def message_id(number: int) -> MessageId:
    return MessageId(ids.mint(ids.MESSAGE, number, bytes(10)))


def intent(number: int, on_uncertain: OnUncertain = OnUncertain.REPORT) -> Order:
    return Order(
        message_id=message_id(number),
        recipient="+4915112345679",
        secret=bytes([number % 256]) * 32,
        on_uncertain=on_uncertain,
        begun_at=NOW,
    )


def sent(number: int, whatsapp_id: str) -> MessageChange:
    return MessageChange(
        message_id=message_id(number),
        status=MessageStatus.SENT,
        to="+4915112345679",
        whatsapp_id=whatsapp_id,
    )


def came(whatsapp_id: str) -> ReceivedMessage:
    return ReceivedMessage(
        whatsapp_id=whatsapp_id,
        chat="1@lid",
        sender=Party(lid="1@lid"),
        content=Unsupported("imageMessage"),
        sent_at=clock.instant(NOW),
    )


def kinds(journal: Journal) -> list[str]:
    return [type(entry.event).__name__ for entry in journal.after(0, EVERY)]


def test_entries_count_from_one_and_survive(journal: Journal, store: Store) -> None:
    """A reopened journal goes on counting, and its session is where the entries left it."""
    assert journal.change(Change(trigger=Trigger.START), NOW)
    assert journal.change(Change(trigger=Trigger.CONNECT), NOW)
    journal.close()
    with open_journal(store) as again:
        assert again.session.state is SessionState.CONNECTED
        again.forget(1)
        assert [entry.sequence for entry in again.after(0, EVERY)] == [2]
        again.forget(2)
        assert again.change(Change(trigger=Trigger.STOP), NOW)
        assert (again.last, again.depth()) == (3, 1)
        assert again.after(0, EVERY)[0].event.sequence == 3


def test_ids_sort_as_entries_were_made(store: Store) -> None:
    """Many in one millisecond, and over a clock that was set back before the next life."""

    def lived(now: int) -> list[EventId]:
        def mint() -> EventId:
            return EventId(ids.mint(ids.EVENT, now, b"\xf0" * 10))

        with Journal(store, SESSION, mint=mint) as journal:
            for n in range(3):
                journal.arrived(f"{now} {n}", came("X"), NOW, final=True)
            return [entry.event.id for entry in journal.after(0, 100)]

    lived(NOW)
    minted = lived(NOW - clock.HOUR)

    assert len(minted) == 6
    assert sorted(set(minted)) == minted


def test_without_shared_memory_it_is_the_same(tmp_path: Path) -> None:
    """On a network file system there is no write-ahead log; nothing else changes."""
    for last in (1, 2):
        with open_journal(Folder(tmp_path, mode="delete")) as journal:
            assert journal.change(Change(trigger=Trigger.START), NOW)
            assert journal.last == last
        assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]


def test_a_killed_writer_leaves_whole_entries(journal: Journal, store: Store) -> None:
    """Whatever was not committed when the process died is as if it had never been."""
    journal.change(Change(trigger=Trigger.START), NOW)
    # What a kill leaves behind: a transaction that was begun and not ended.
    journal.db.begin()
    journal.db.execute("INSERT INTO entries VALUES (2, ?)", b"\x00")
    journal.close()
    with open_journal(store) as again:
        assert again.last == 1
        assert again.change(Change(trigger=Trigger.CONNECT), NOW)
        assert [entry.sequence for entry in again.after(0, EVERY)] == [1, 2]


def test_a_failed_write_changes_nothing(journal: Journal) -> None:
    """A full disk leaves neither a gap in the count nor a state that was not journalled."""
    journal.change(Change(trigger=Trigger.START), NOW)
    in_files = isinstance(journal.db, folder.Sqlite)
    setting = "PRAGMA query_only =" if in_files else "SET default_transaction_read_only ="
    journal.db.execute(f"{setting} on")
    with pytest.raises(StoreFailed):
        journal.change(Change(trigger=Trigger.CONNECT), NOW)
    journal.db.execute(f"{setting} off")
    assert (journal.last, journal.session.state) == (1, SessionState.STARTING)
    assert journal.change(Change(trigger=Trigger.CONNECT), NOW)
    assert journal.last == 2
    journal.close()


def test_a_second_owner_is_refused(
    journal: Journal, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes never write one journal, not even by mistake."""
    monkeypatch.setattr(folder, "_BUSY_MILLIS", 10)
    monkeypatch.setattr(schema, "CLAIM_LIMIT", 0.01)
    with pytest.raises(StoreFailed, match="lock"):
        open_journal(store)
    journal.close()
    open_journal(store).close()


def test_a_damaged_file_is_said_to_be(tmp_path: Path) -> None:
    """It is not silently begun anew: the count of events would start again."""
    (tmp_path / JOURNAL).write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(Damaged, match="damaged"):
        open_journal(Folder(tmp_path))


def test_a_newer_version_is_refused(journal: Journal, store: Store) -> None:
    """A gateway of the release before does not write what it cannot read."""
    in_files = isinstance(journal.db, folder.Sqlite)
    newer = "PRAGMA user_version=99" if in_files else "UPDATE meta SET value = 99"
    journal.db.execute(newer)
    journal.close()
    with pytest.raises(Damaged, match="version 99"):
        open_journal(store)


def test_an_entry_that_cannot_be_read_is_damage(journal: Journal, store: Store) -> None:
    """And no defect of the command that asked for the journal, which would be parked for it."""
    journal.db.execute("INSERT INTO entries VALUES (1, ?)", b"{}")
    journal.close()
    with pytest.raises(Damaged, match="cannot be read"):
        open_journal(store)


def test_a_message_that_comes_twice_is_published_once(journal: Journal) -> None:
    """By its key; a placeholder does not claim it."""
    assert journal.arrived("chat 1", came("1"), NOW, final=False)
    assert journal.arrived("chat 1", came("1"), NOW, final=True)
    assert not journal.arrived("chat 1", came("1"), NOW, final=True)
    assert not journal.arrived("chat 1", came("1"), NOW, final=False)
    assert journal.arrived("chat 2", came("2"), NOW, final=True)
    assert kinds(journal) == ["MessageReceived"] * 3
    journal.close()


def test_what_was_seen_is_remembered_within_bounds(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest keys stay known, the oldest are forgotten."""
    monkeypatch.setattr(journals, "MOST_SEEN", 10)
    for number in range(20):
        journal.arrived(f"chat {number}", came(str(number)), NOW, final=True)
    journal.forget_old(NOW)
    assert not journal.arrived("chat 19", came("19"), NOW, final=True)
    assert journal.arrived("chat 1", came("1"), NOW, final=True)
    journal.close()


def test_a_held_message_waits_and_keeps_its_place(journal: Journal, store: Store) -> None:
    """It is published when it is released, once, also after a crash."""
    assert journal.hold("chat 1", came("1"), NOW, final=True)
    assert not journal.hold("chat 1", came("1"), NOW, final=True)
    assert journal.holding()
    assert kinds(journal) == []
    journal.close()
    with open_journal(store) as again:
        (held,) = again.held()
        again.release(held.number, held.message, NOW)
        again.release(held.number, held.message, NOW)
        assert kinds(again) == ["MessageReceived"]
        again.hold("chat 2", came("2"), NOW, final=True)
        again.release_all(NOW)
        events = [entry.event for entry in again.after(0, EVERY)]
        assert all(isinstance(event, MessageReceived) for event in events)
        assert not again.holding()


def test_an_outcome_is_journalled_once(journal: Journal) -> None:
    """The second word on a message is not a second event."""
    journal.begin(intent(1))
    first = journal.settle(sent(1, "3EB1"), NOW)
    again = MessageChange(
        message_id=message_id(1), status=MessageStatus.FAILED, to="+4915112345679"
    )
    assert journal.settle(again, NOW) == first
    assert kinds(journal) == ["MessageSent"]
    assert journal.unsettled() == []
    journal.close()


def test_an_intent_without_an_outcome_is_found_again(journal: Journal, store: Store) -> None:
    """With everything that decides about it."""
    journal.begin(intent(1, OnUncertain.RESEND))
    journal.begin(intent(2))
    journal.withdraw(message_id(2))
    journal.close()
    with open_journal(store) as again:
        assert again.unsettled() == [intent(1, OnUncertain.RESEND)]
        assert again.unsettled()[0].on_uncertain is OnUncertain.RESEND
        assert again.order(message_id(2)) is None


def test_a_receipt_names_our_message(journal: Journal) -> None:
    """Without a question to AWS; a later status is news, an earlier one is not."""
    journal.begin(intent(1))
    journal.settle(sent(1, "3EB1"), NOW)
    assert journal.receipt("3EB1", MessageStatus.READ, NOW)
    assert not journal.receipt("3EB1", MessageStatus.DELIVERED, NOW)
    assert not journal.receipt("3EB1", MessageStatus.READ, NOW)
    assert not journal.receipt("unknown", MessageStatus.READ, NOW)
    events = [entry.event for entry in journal.after(0, EVERY)]
    assert [type(event) for event in events] == [MessageSent, MessageRead]
    journal.close()


def test_a_receipt_may_overtake_the_outcome(journal: Journal, store: Store) -> None:
    """A fast recipient is not lost: the receipt waits for the send, also through a crash."""
    journal.begin(intent(1))
    assert not journal.receipt("3EB1", MessageStatus.DELIVERED, NOW)
    journal.close()
    with open_journal(store) as again:
        again.settle(sent(1, "3EB1"), NOW)
        events = [entry.event for entry in again.after(0, EVERY)]
        assert [type(event) for event in events] == [MessageSent, MessageDelivered]


def test_receipts_of_strangers_are_not_collected(journal: Journal) -> None:
    """What the account's other devices sent has receipts too."""
    journal.receipt("3EB9", MessageStatus.READ, NOW)
    journal.begin(intent(1))
    journal.receipt("3EB8", MessageStatus.READ, NOW)
    journal.settle(sent(1, "3EB1"), NOW)
    assert journal.db.execute("SELECT count(*) FROM early") == [(0,)]
    journal.close()


def test_old_sends_are_forgotten(journal: Journal) -> None:
    """After a month no receipt is to be expected."""
    journal.begin(intent(1))
    journal.settle(sent(1, "3EB1"), NOW)
    journal.forget_old(NOW + REMEMBERED + 1)
    assert journal.order(message_id(1)) is None
    assert not journal.receipt("3EB1", MessageStatus.READ, NOW)
    journal.close()


class Life(RuleBasedStateMachine):
    """A journal that is written, reopened and drained at any moment."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.journal = open_journal(store)
        self.recorded: list[int] = []
        self.statuses: dict[MessageId, list[MessageStatus]] = {}
        self.begun: set[int] = set()
        self.settled: set[int] = set()

    def teardown(self) -> None:
        self.journal.close()
        self.store.erase()

    @rule(trigger=st.sampled_from(Trigger), reason=st.none() | st.sampled_from(Reason))
    def change(self, trigger: Trigger, reason: Reason | None) -> None:
        before = self.journal.last
        news = self.journal.change(Change(trigger=trigger, reason=reason), NOW)
        assert self.journal.last == before + news

    @rule(key=st.integers(0, 5))
    def receive(self, key: int) -> None:
        self.journal.arrived(f"chat {key}", came(str(key)), NOW, final=True)

    @rule(number=st.integers(0, 5))
    def begin(self, number: int) -> None:
        if number not in self.begun:
            self.begun.add(number)
            self.journal.begin(intent(number))

    @rule(number=st.integers(0, 5), status=st.sampled_from(["sent", "failed", "uncertain"]))
    def settle(self, number: int, status: str) -> None:
        self.begun.add(number)
        self.settled.add(number)
        whatsapp_id = None if status == "failed" else f"3EB{number}"
        self.journal.settle(
            MessageChange(
                message_id=message_id(number),
                status=MessageStatus(status),
                to="+4915112345679",
                whatsapp_id=whatsapp_id,
            ),
            NOW,
        )

    @rule(number=st.integers(0, 5), status=st.sampled_from(["delivered", "read"]))
    def receipt(self, number: int, status: str) -> None:
        self.journal.receipt(f"3EB{number}", MessageStatus(status), NOW)

    @rule(limit=st.integers(1, 5))
    def drain(self, limit: int) -> None:
        last = self.recorded[-1] if self.recorded else 0
        for entry in self.journal.after(last, limit):
            self.recorded.append(entry.sequence)
            data = entry.event.data
            if isinstance(data, MessageChange):
                self.statuses.setdefault(data.message_id, []).append(data.status)

    @precondition(lambda self: self.recorded)
    @rule()
    def forget(self) -> None:
        self.journal.forget(self.recorded[-1])

    @rule()
    def crash(self) -> None:
        state = self.journal.session.state
        drained = not self.journal.depth()
        self.journal.close()
        self.journal = open_journal(self.store)
        # What was recorded and forgotten is known to whoever opens it, by the session it hands in.
        assert drained or self.journal.session.state in {state, SESSION.state}

    @invariant()
    def no_gap(self) -> None:
        assert self.recorded == list(range(1, len(self.recorded) + 1))

    @invariant()
    def statuses_only_rise(self) -> None:
        for statuses in self.statuses.values():
            ranks = [RANK[status] for status in statuses]
            assert ranks == sorted(set(ranks))

    @invariant()
    def open_intents_are_those_without_an_outcome(self) -> None:
        unsettled = {order.message_id for order in self.journal.unsettled()}
        assert unsettled == {message_id(number) for number in self.begun - self.settled}


def test_at_any_moment(new_store: NewStore) -> None:
    """Counts have no gap, statuses only rise, and an intent is open until it has an outcome."""

    class Lived(Life):
        def __init__(self) -> None:
            super().__init__(new_store())

    run_state_machine_as_test(
        Lived,
        settings=settings(max_examples=20, stateful_step_count=30, deadline=None),
    )
