"""Session hosts with the real library, against the sandbox's WhatsApp."""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gateway import keeper
from gateway.changes import LOGGED_OUT
from gateway.frames import Watch
from gateway.host.folder import CREDENTIALS, JOURNAL
from gateway.host.place import place
from gateway.host.refusals import ENDED
from gateway.host.sent_as import asked_apart
from sandbox.network import Network, run_network
from sandbox.whatsapp import control_types as faults
from sandbox.whatsapp.control_client import ControlClient
from shared.errors import NotHeld
from shared.events import (
    MessageChange,
    MessageDelivered,
    MessageFailed,
    MessageRead,
    MessageReceived,
    MessageSent,
    MessageUncertain,
    SessionBanned,
    SessionConnected,
    SessionFailed,
    SessionLoggedOut,
    SessionReconnecting,
    SessionStopped,
)
from shared.message import FailureCode, MessageStatus, OnUncertain, Text
from shared.session import Pairing, Reason, SessionState
from tests.gateway.gateway import Gateway, gateway, gone, link, new_session, order, sequences
from tests.gateway.waiting import until

ANNA, BEN = "+4915112345678", "+4915112345679"


@pytest.fixture
async def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Network]:
    async with run_network(tmp_path / "network") as running:
        for name, value in running.client_environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
async def control(network: Network) -> AsyncGenerator[ControlClient]:
    async with ControlClient(network.control_url) as client:
        yield client


@pytest.fixture
async def here(network: Network, tmp_path: Path) -> AsyncGenerator[Gateway]:
    async with gateway(network, tmp_path / "devices") as running:
        yield running


async def test_a_number_is_linked_by_code_and_speaks(
    here: Gateway, control: ControlClient, tmp_path: Path
) -> None:
    """Code, login, message out with its receipts, reply in: each is an entry, without a gap."""
    session = new_session()
    await control.create_person(ANNA, "Anna")
    await control.create_person(BEN, "Ben", reads=True)
    await here.supervisor.start(session, ANNA)

    def with_code() -> Pairing | None:
        return next((each for each in here.pairings if each.code), None)

    pairing = await here.until(with_code)
    assert pairing.code_error is None
    await control.type_code(ANNA, pairing.code or "")
    connected = await here.event(session, SessionConnected)
    assert connected.data.phone_number == ANNA
    assert (connected.data.lid or "").endswith("@lid")

    command = order(session, BEN, "Hello Ben")
    await here.supervisor.send(command)
    sent = await here.event(session, MessageSent)
    assert sent.data.message_id == command.message_id
    read = await here.event(session, MessageRead)
    assert (read.data.message_id, read.data.to) == (command.message_id, BEN)
    assert [each.text for each in await control.received(BEN, wait=5)] == ["Hello Ben"]

    await control.send(BEN, ANNA, "Hello Anna")
    received = await here.event(session, MessageReceived)
    assert received.data.content == Text("Hello Anna")
    assert (received.data.chat, received.data.sender.phone_number) == (BEN, BEN)
    assert received.data.sender.name == "Ben"

    # An order that is repeated once its outcome is known is done, and nothing is sent.
    await here.supervisor.send(command)
    assert len(await control.received(BEN)) == 1
    assert sequences(here, session) == list(range(1, here.last + 1))
    for path in (tmp_path / "devices").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


async def test_a_number_that_cannot_have_a_code_is_told_why(
    here: Gateway, control: ControlClient
) -> None:
    """The QR stays valid beside the error, and a right number gets a code in the same attempt."""
    session = new_session()
    await control.create_person(ANNA, "Anna")
    await here.supervisor.start(session, "+123456")

    def refused() -> Pairing | None:
        return next((each for each in here.pairings if each.code_error), None)

    assert "short" in ((await here.until(refused)).code_error or "")
    await here.supervisor.start(session, ANNA)
    pairing = await here.until(lambda: next((each for each in here.pairings if each.code), None))
    assert pairing.phone_number == ANNA
    await control.scan(ANNA, pairing.qr)
    await here.event(session, SessionConnected)


async def test_a_host_keeps_others_from_its_files(
    here: Gateway, control: ControlClient, tmp_path: Path
) -> None:
    """Also when it has looked whether its connection is heard: who comes late must find them shut.

    A late owner who could open the journal would take it for a dead one's, and remove what was
    written last from under the host.
    """
    session = new_session()
    here.limit(unconnected=6)
    await link(here, control, session, ANNA)
    await here.until_heard(session)
    folder = tmp_path / "devices" / session.tenant_id / session.id
    with (
        closing(sqlite3.connect(folder / JOURNAL, timeout=0)) as db,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        db.execute("SELECT * FROM meta")
    # The library has a lock of its own on the index that its connections share.
    shared = (folder / f"{CREDENTIALS}-shm").stat().st_ino
    holders = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    pid = here.pid(session)
    assert any(each[4] == str(pid) and each[5].endswith(f":{shared}") for each in holders)


async def test_no_key_is_used_twice_whatever_the_library_writes(
    here: Gateway, control: ControlClient, tmp_path: Path
) -> None:
    """It may write what it read before a message over what that message left: a key comes back.

    A phone drops what comes under a key it knows, and says that it was delivered.
    """
    session = new_session()
    await link(here, control, session, ANNA)
    await control.create_person(BEN, "Ben")
    path = tmp_path / "devices" / session.tenant_id / session.id / CREDENTIALS
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as db:
        guarded = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"
        await until(lambda: db.execute(guarded).fetchone() == (1,))
        await here.supervisor.send(order(session, BEN, "first"))
        before = db.execute("SELECT their_id, session FROM whatsmeow_sessions").fetchall()
        await here.supervisor.send(order(session, BEN, "second"))
        for theirs, state in before:
            db.execute(
                "UPDATE whatsmeow_sessions SET session = ? WHERE their_id = ?", (state, theirs)
            )
    await here.supervisor.send(order(session, BEN, "third"))
    await control.wait_for_text(BEN, "third")
    assert [each.text for each in await control.received(BEN)] == ["first", "second", "third"]


async def test_a_killed_host_is_started_again_and_loses_nothing(
    here: Gateway, control: ControlClient
) -> None:
    """What was journalled and not recorded when it died is recorded, in order, without a gap."""
    session = new_session()
    await link(here, control, session, ANNA)
    await control.create_person(BEN, "Ben")
    pid = here.pid(session)
    assert pid is not None
    await here.until_drained(session)
    here.away = True
    await control.send(BEN, ANNA, "before")
    await here.until_journalled(session)
    os.kill(pid, signal.SIGKILL)
    here.away = False
    before = await here.event(session, MessageReceived)
    assert before.data.content == Text("before")
    dropped = await here.event(session, SessionReconnecting)
    assert dropped.data.reason is Reason.HOST_DIED
    await here.event(session, SessionConnected, after=dropped.sequence)
    await control.send(BEN, ANNA, "after")
    after = await here.event(session, MessageReceived, after=dropped.sequence)
    assert after.data.content == Text("after")
    assert sequences(here, session) == list(range(1, here.last + 1))
    assert here.pid(session) != pid


async def test_another_process_may_ask_a_hosts_file(
    here: Gateway, control: ControlClient, tmp_path: Path
) -> None:
    """The library keeps the lock by which others know that its index is alive, and cut nothing."""
    session = new_session()
    await link(here, control, session, ANNA)
    await control.create_person(BEN, "Ben")
    pid = here.host(session)
    (credentials,) = (tmp_path / "devices").rglob(CREDENTIALS)
    uri, over = f"{credentials.as_uri()}?mode=ro", asyncio.Event()

    async def ask() -> int:
        asked = 0
        while not over.is_set():
            assert await asyncio.to_thread(asked_apart, uri, os.urandom(32)) is None
            asked += 1
        return asked

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask()) for _ in range(2)]
        for number in range(40):
            await control.send(BEN, ANNA, f"in {number}")
            await here.supervisor.send(order(session, BEN, f"out {number}"))
        over.set()
    assert all(each.result() > 0 for each in asking)
    await here.until(lambda: here.kinds(session).count("MessageReceived") == 40)

    async def arrived() -> bool:
        return len(await control.received(BEN)) == 40

    await until(arrived)
    assert here.host(session) == pid
    index = credentials.with_name(f"{CREDENTIALS}-shm")
    assert f":{index.stat().st_ino} " in Path("/proc/locks").read_text()


async def test_no_host_outlives_its_lease(here: Gateway, control: ControlClient) -> None:
    """A gateway that lives and cannot renew keeps no device: the host ends, and none follows."""
    session = new_session()
    here.lease = 6.0
    await link(here, control, session, ANNA)
    pid = here.host(session)
    here.renewed = time.monotonic()
    while not gone(pid):
        assert time.monotonic() < here.renewed + here.lease + 0.5
        await asyncio.sleep(0.02)

    async def alone() -> bool:
        return await control.connections() == []

    await until(alone)
    assert here.kinds(session)[-1] == "SessionConnected", "what comes next is its owner's to say"
    here.renewed = None
    dropped = await here.event(session, SessionReconnecting)
    await here.event(session, SessionConnected, after=dropped.sequence)


async def test_a_lost_sessions_journal_is_its_next_owners(
    here: Gateway, control: ControlClient, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be recorded in time is in it; who lost the lease does not open it again."""
    session = new_session()
    await link(here, control, session, ANNA)
    await control.create_person(BEN, "Ben")
    await here.until_drained(session)
    here.away = True
    await control.send(BEN, ANNA, "unrecorded")
    await here.until_journalled(session)
    pid = here.host(session)
    here.renewed = time.monotonic() - here.lease
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(here.supervisor.stop(session.id, quiet=True))
        await here.until_gone(pid)
        with closing(place(here.settings.device_store, session).open()) as journal:
            await stopping
            ((last,),) = journal.execute("SELECT max(sequence) FROM entries")
    assert last > here.last
    assert "journal.unavailable" not in caplog.messages


async def test_a_send_that_was_cut_off_is_uncertain_until_its_receipt(
    here: Gateway, control: ControlClient
) -> None:
    """The host dies between frame and answer: nobody guesses, and the receipt settles it."""
    session = new_session()
    await link(here, control, session, ANNA)
    await control.create_person(BEN, "Ben")
    await here.supervisor.send(order(session, BEN, "first"))
    # A pulse tells of a send up to a second late, and before the library has written it.
    await control.fault(ANNA, faults.AckDelay(6))
    command = order(session, BEN, "second")
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(here.supervisor.send(command))
        await here.until_sending(session)
        await asyncio.sleep(0.5)
        os.kill(here.host(session), signal.SIGKILL)
        await sending
    uncertain = await here.event(session, MessageUncertain)
    assert uncertain.data.message_id == command.message_id
    assert uncertain.data.whatsapp_id is not None
    await control.fault(ANNA, faults.Clear())
    delivered = await here.event(session, MessageDelivered, after=uncertain.sequence)
    assert delivered.data.message_id == command.message_id
    texts = [each.text for each in await control.received(BEN, wait=5)]
    assert texts.count("second") == 1


async def test_a_send_that_hangs_costs_the_host_and_not_the_session(
    here: Gateway, control: ControlClient
) -> None:
    """The library may hold a send, and all behind it, for ever; the keeper does not."""
    session = new_session()
    await link(here, control, session, ANNA)
    await control.create_person(BEN, "Ben")
    await control.fault(ANNA, faults.AckDelay(30))
    here.limit(send=0.5)
    await here.supervisor.send(order(session, BEN, "stuck"))
    await here.event(session, MessageUncertain)
    await control.fault(ANNA, faults.Clear())
    await here.supervisor.send(order(session, BEN, "free"))
    await here.event(session, MessageSent)


async def test_a_host_that_stands_still_is_replaced(here: Gateway, control: ControlClient) -> None:
    """No pulse is a fault of its own: the process is there and does nothing."""
    session = new_session()
    await link(here, control, session, ANNA)
    pid = here.host(session)
    here.limit(pulse=5.0)
    os.kill(pid, signal.SIGSTOP)
    dropped = await here.event(session, SessionReconnecting)
    assert dropped.data.detail == keeper.ENDED_FOR[Watch.PULSE]
    assert here.supervisor.ends == {Reason.HOST_DIED: 1}
    assert here.supervisor.watches == {Watch.PULSE: 1}
    here.limit(pulse=30.0)
    await here.event(session, SessionConnected, after=dropped.sequence)
    assert gone(pid)


async def test_a_host_that_does_not_stop_holds_nobody_up(
    here: Gateway, control: ControlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway on its way out kills what hangs: what it had taken is in the journal."""
    session = new_session()
    await link(here, control, session, ANNA)
    pid = here.host(session)
    monkeypatch.setattr(keeper, "QUIET_STOP_LIMIT", 0.5)
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(30):
        await here.supervisor.stop(session.id, quiet=True)
    assert gone(pid)


async def test_a_resend_is_the_tenants_choice(here: Gateway, control: ControlClient) -> None:
    """With `resend` a send that was cut off goes out again, and may arrive twice."""
    session = new_session()
    await link(here, control, session, ANNA)
    await control.create_person(BEN, "Ben")
    await control.fault(ANNA, faults.AckDelay(2))
    command = order(session, BEN, "whatever it takes", OnUncertain.RESEND)
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(here.supervisor.send(command))
        await here.until_sending(session)
        os.kill(here.host(session), signal.SIGKILL)
        await control.fault(ANNA, faults.Clear())
        await sending
    assert "MessageUncertain" not in here.kinds(session)
    sent = await here.event(session, MessageSent)
    assert sent.data.message_id == command.message_id


async def test_a_dead_zygote_is_replaced(here: Gateway, control: ControlClient) -> None:
    """Its hosts die with it; a new one is started, and the sessions come back."""
    session = new_session()
    await link(here, control, session, ANNA)
    host, zygote = here.pid(session), here.zygote
    assert host is not None
    assert zygote is not None
    os.kill(zygote, signal.SIGKILL)
    dropped = await here.event(session, SessionReconnecting)
    await here.event(session, SessionConnected, after=dropped.sequence)
    assert gone(host)
    assert here.zygote != zygote


async def test_stopping_is_orderly_and_starting_needs_no_pairing(
    here: Gateway, control: ControlClient
) -> None:
    """A stop drains, ends the process and refuses further sends; a start connects again."""
    session = new_session()
    await link(here, control, session, ANNA)
    pid = here.host(session)
    await here.supervisor.stop(session.id)
    stopped = await here.event(session, SessionStopped)
    assert stopped.data.reason is Reason.STOPPED_BY_TENANT
    assert gone(pid)
    assert not here.supervisor.holds(session.id)
    with pytest.raises(NotHeld):
        await here.supervisor.send(order(session, BEN, "too late"))
    offered = len(here.pairings)
    await here.supervisor.start(session)
    await here.event(session, SessionConnected, after=stopped.sequence)
    assert len(here.pairings) == offered
    assert sequences(here, session) == list(range(1, here.last + 1))


async def test_a_quiet_stop_says_nothing_and_another_gateway_goes_on(
    network: Network, control: ControlClient, tmp_path: Path
) -> None:
    """The session goes on elsewhere with the same credentials and the same count of events."""
    session = new_session()
    folder = tmp_path / "devices"
    async with gateway(network, folder) as first:
        await link(first, control, session, ANNA)
        await first.supervisor.stop(session.id, quiet=True)
        assert "SessionStopped" not in first.kinds(session)
        last = first.last
    async with gateway(network, folder) as second:
        await second.supervisor.start(session)
        connected = await second.event(session, SessionConnected)
        assert connected.sequence > last


async def test_logging_out_removes_the_device_and_its_keys(
    here: Gateway, control: ControlClient, tmp_path: Path
) -> None:
    """The phone no longer lists it, the credentials are gone, and the next start pairs again."""
    session = new_session()
    await link(here, control, session, ANNA)
    await here.supervisor.stop(session.id, log_out=True)
    ended = await here.event(session, SessionLoggedOut)
    assert ended.data.reason is Reason.LOGGED_OUT_BY_TENANT
    assert ended.data.detail is None
    assert (await control.person(ANNA)).devices == []
    assert not list((tmp_path / "devices").rglob("device.db*"))
    here.pairings.clear()
    await here.supervisor.start(session)
    pairing = await here.until(lambda: here.pairings[-1] if here.pairings else None)
    await control.scan(ANNA, pairing.qr)
    await here.event(session, SessionConnected, after=ended.sequence)
    await here.supervisor.erase(session)
    assert not list((tmp_path / "devices").rglob("*.db"))


async def test_a_stopped_session_can_be_logged_out(here: Gateway, control: ControlClient) -> None:
    """Only a connection can remove the device, so it is made once more for that."""
    session = new_session()
    await link(here, control, session, ANNA)
    await here.supervisor.stop(session.id)
    await here.supervisor.start(session)
    await here.supervisor.stop(session.id, log_out=True)
    ended = await here.event(session, SessionLoggedOut)
    assert ended.data.detail is None
    assert (await control.person(ANNA)).devices == []


async def test_a_session_at_rest_keeps_its_count(here: Gateway, control: ControlClient) -> None:
    """What happens to a session without a host is an entry like any other."""
    session = new_session()
    await link(here, control, session, ANNA)
    command = order(session, BEN, "too late")
    with pytest.raises(NotHeld):
        await here.supervisor.refuse(session, command, ENDED)
    await here.supervisor.stop(session.id)
    last = here.last
    await here.supervisor.refuse(session, command, ENDED)
    await here.supervisor.refuse(session, command, ENDED)
    failed = await here.event(session, MessageFailed)
    assert failed.sequence == last + 1
    stopped = msgspec.structs.replace(session, state=SessionState.STOPPED)
    await here.supervisor.mark(stopped, LOGGED_OUT)
    ended = await here.event(session, SessionLoggedOut)
    assert ended.sequence == last + 2


async def test_what_ended_unrecorded_is_not_begun_again(
    here: Gateway, control: ControlClient, network: Network, tmp_path: Path
) -> None:
    """Its gateway died before it could say that the device was removed: the next one says it."""
    session = new_session()
    await link(here, control, session, ANNA)
    row = msgspec.structs.replace(session, state=SessionState.CONNECTED)
    await here.until_drained(session)
    here.away = True
    await control.fault(ANNA, faults.LogOut())
    await here.until_ending(session)
    await here.supervisor.stop(session.id, quiet=True)
    async with gateway(network, tmp_path / "devices") as there:
        await there.supervisor.start(row)
        await there.event(session, SessionLoggedOut)
        await there.until_not_held(session)
        assert there.pairings == []
        assert there.kinds(session) == ["SessionLoggedOut"]


async def test_an_order_that_was_not_begun_fails_with_its_session(
    here: Gateway, control: ControlClient
) -> None:
    """The tenant stops a session whose messages wait for a connection: each has an outcome."""
    session = new_session()
    await link(here, control, session, ANNA)
    await control.down(30)
    await here.event(session, SessionReconnecting)
    command = order(session, BEN, "too late")
    async with asyncio.TaskGroup() as group:
        group.create_task(here.supervisor.send(command))
        await asyncio.sleep(0)
        await here.supervisor.stop(session.id)
    failed = await here.event(session, MessageFailed)
    assert failed.data.message_id == command.message_id
    assert failed.data.failure == ENDED


async def test_an_order_goes_back_when_its_session_goes_elsewhere(
    here: Gateway, control: ControlClient
) -> None:
    """On a quiet stop nothing is said of what was not begun: the next gateway sends it."""
    session = new_session()
    await link(here, control, session, ANNA)
    await control.down(30)
    await here.event(session, SessionReconnecting)

    async def send() -> None:
        with pytest.raises(NotHeld):
            await here.supervisor.send(order(session, BEN, "later"))

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        await asyncio.sleep(0)
        await here.supervisor.stop(session.id, quiet=True)
    assert "MessageFailed" not in here.kinds(session)


ENDS = {
    "removed": (faults.LogOut(), SessionLoggedOut, Reason.REMOVED_ON_PHONE),
    "replaced": (faults.Replaced(), SessionFailed, Reason.REPLACED),
    "banned": (faults.Ban(expire=3600), SessionBanned, Reason.TEMPORARILY_BANNED),
    "outdated": (faults.FailLogin(405), SessionFailed, Reason.CLIENT_OUTDATED),
    "locked": (faults.FailLogin(403), SessionLoggedOut, Reason.ACCOUNT_LOCKED),
    "refused": (faults.FailLogin(400), SessionFailed, Reason.CONNECTION_REFUSED),
}


@pytest.mark.parametrize("name", ENDS, ids=str)
async def test_an_end_is_said_and_not_fought(
    name: str, here: Gateway, control: ControlClient
) -> None:
    """What WhatsApp ends is not started again; its reason is in the event."""
    fault, kind, reason = ENDS[name]
    session = new_session()
    await link(here, control, session, ANNA)
    pid = here.host(session)
    await control.fault(ANNA, fault)
    ended = await here.event(session, kind)
    assert ended.data.reason is reason
    await here.until_not_held(session)
    assert gone(pid)


async def test_a_lost_socket_is_dialled_again_and_messages_wait(
    here: Gateway, control: ControlClient
) -> None:
    """A message ordered while there is no connection goes out when there is one."""
    session = new_session()
    await link(here, control, session, ANNA)
    await control.create_person(BEN, "Ben")
    pid = here.pid(session)
    await control.down(1.0)
    dropped = await here.event(session, SessionReconnecting)
    assert dropped.data.reason is Reason.CONNECTION_LOST
    await here.supervisor.send(order(session, BEN, "patient"))
    await here.event(session, SessionConnected, after=dropped.sequence)
    assert [each.text for each in await control.received(BEN, wait=5)] == ["patient"]
    assert here.pid(session) == pid


async def test_a_first_dial_that_fails_is_repeated(here: Gateway, control: ControlClient) -> None:
    """While WhatsApp is away a start waits and says why; it needs no second order."""
    session = new_session()
    await link(here, control, session, ANNA)
    await here.supervisor.stop(session.id)
    last = here.last
    await control.down(1.0)
    await here.supervisor.start(session)

    def lost() -> bool:
        return any(
            event.sequence > last
            and not isinstance(event.data, MessageChange)
            and getattr(event.data, "reason", None) is Reason.CONNECTION_LOST
            and getattr(event.data, "state", None) is SessionState.STARTING
            for event in here.events(session)
        )

    await here.until(lost)
    await here.event(session, SessionConnected, after=last)


async def test_refusals_are_failures_with_a_code(here: Gateway, control: ControlClient) -> None:
    """WhatsApp's nack and an unknown number fail the message; the session is none the worse."""
    session = new_session()
    await link(here, control, session, ANNA)
    await control.create_person(BEN, "Ben")
    await control.fault(ANNA, faults.Nack(463))
    for to, code in (
        (BEN, FailureCode.REACHOUT_LIMITED),
        ("+4915199999999", FailureCode.NOT_ON_WHATSAPP),
    ):
        command = order(session, to, "hello")
        await here.supervisor.send(command)
        failed = next(
            event
            for event in here.events(session)
            if isinstance(event, MessageFailed) and event.data.message_id == command.message_id
        )
        assert failed.data.status is MessageStatus.FAILED
        assert failed.data.failure is not None
        assert failed.data.failure.code is code
    await here.supervisor.send(order(session, BEN, "fine"))
    await here.event(session, MessageSent)


async def test_a_group_message_is_published_once(here: Gateway, control: ControlClient) -> None:
    """It comes twice under one id, first with its key alone."""
    session = new_session()
    await link(here, control, session, ANNA)
    await control.create_person(BEN, "Ben")
    group = await control.create_group("us", BEN, [ANNA])
    await control.send(BEN, group.jid, "hello all")
    received = await here.event(session, MessageReceived)
    assert received.data.group
    assert received.data.chat == group.jid
    assert received.data.sender.phone_number == BEN
    await here.supervisor.send(order(session, group.jid, "hello group"))
    await here.event(session, MessageSent)
    assert here.kinds(session).count("MessageReceived") == 1


async def test_a_number_that_is_not_named_is_looked_up(
    network: Network, control: ControlClient, tmp_path: Path
) -> None:
    """The library knows it from before; the tenant sees it, and order is kept."""
    session = new_session()
    async with gateway(network, tmp_path / "devices", "tests.gateway.forgetful") as running:
        await link(running, control, session, ANNA)
        await control.create_person(BEN, "Ben")
        for text in ("one", "two", "three"):
            await control.send(BEN, ANNA, text)
        third = 3

        def came() -> list[MessageReceived]:
            found = [each for each in running.events(session) if isinstance(each, MessageReceived)]
            return found if len(found) == third else []

        received = await running.until(came)
        contents = [each.data.content for each in received]
        assert contents == [Text("one"), Text("two"), Text("three")]
        assert {each.data.chat for each in received} == {BEN}
        assert {each.data.sender.phone_number for each in received} == {BEN}


async def test_many_start_a_few_at_a_time_and_nothing_is_left(
    network: Network, control: ControlClient, tmp_path: Path
) -> None:
    """Sessions beside each other; after the gateway's end neither host nor zygote runs."""
    sessions = [new_session() for _ in range(4)]
    async with gateway(network, tmp_path / "devices") as running:
        for session in sessions:
            await running.supervisor.start(session)
        await running.until(lambda: len(running.pairings) >= len(sessions))
        pids = [running.host(session) for session in sessions]
        zygote = running.zygote or 0
        assert len(set(pids)) == len(sessions)
    assert all(gone(pid) for pid in [*pids, zygote])
