"""A shard's queue on real AWS, with hosts that only note what is asked of them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from gateway import orders as orders_module
from gateway import shard as shard_module
from gateway import sorting
from gateway.bans import Bans
from gateway.changes import Change
from gateway.inbox import Inbox
from gateway.keeper import HostStatus
from gateway.metrics import Metrics
from gateway.orders import Orders
from gateway.shard import LEFT_POLL, NUDGE, ShardInbox
from shared import clock, commands, ids, queue, signing
from shared.aws import Op
from shared.commands import (
    Command,
    DeleteSession,
    LogOutSession,
    PurgeTenant,
    SendMessage,
    StartSession,
    StopSession,
)
from shared.delivery import Delivery, DeliveryState
from shared.errors import NotHeld, Unavailable
from shared.ids import CommandId, MessageId, SessionId
from shared.message import Failure, FailureCode, Message, MessageStatus, Text
from shared.proxy import Proxy
from shared.queue import Received
from shared.session import Desired, Session, SessionState, Trigger
from shared.store import deliveries, messages, sessions, tenants, webhooks
from shared.store.dynamo import KeyRow, Range, query
from shared.store.sessions import Changes
from shared.tenant import ApiKey, TenantStatus
from shared.webhook import Endpoint
from tests.gateway.conftest import World
from tests.gateway.waiting import until


class Hosts:
    """A supervisor without processes: it holds what is started and sends what it is told."""

    def __init__(self) -> None:
        self.held: dict[SessionId, Session] = {}
        self.ordered: dict[SessionId, bool] = {}
        self.told: list[tuple[Any, ...]] = []
        self.sent: list[str] = []
        self.faults: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0
        self.connected = True

    async def start(
        self,
        session: Session,
        phone_number: str | None = None,
        *,
        restart: bool = False,
        ordered: bool = False,
    ) -> None:
        self.held[session.id] = session
        self.ordered[session.id] = ordered
        if restart:
            self.open.set()
        self.told.append(("start", session.id, session.epoch, phone_number, restart))

    async def stop(
        self, session_id: SessionId, *, log_out: bool = False, quiet: bool = False
    ) -> None:
        if self.held.pop(session_id, None) is not None:
            self.told.append(("stop", session_id, log_out, quiet))
            self.open.set()

    async def erase(self, session: Session) -> None:
        self.told.append(("erase", session.id))

    async def send(self, command: SendMessage) -> None:
        if command.session_id not in self.held:
            raise NotHeld
        if self.faults:
            raise self.faults.pop()
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        if command.session_id not in self.held:
            raise NotHeld
        self.sent.append(command.content.text)

    async def mark(self, session: Session, change: Change) -> None:
        self.told.append(("mark", session.id, change.trigger))

    async def refuse(self, session: Session, command: SendMessage, failure: Failure) -> None:
        self.told.append(("refuse", command.message_id, failure.code))

    def holds(self, session_id: SessionId) -> bool:
        return session_id in self.held

    def snapshot(self) -> Sequence[HostStatus]:
        return [
            HostStatus(
                session_id=session.id,
                tenant_id=session.tenant_id,
                state=session.state,
                pid=None,
                pulse_age=None,
                connected=self.connected,
                sending_for=0,
                journal_depth=0,
                restarts=0,
            )
            for session in self.held.values()
        ]


class Shard:
    """One served shard."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hosts = Hosts()
        self.metrics = Metrics()
        self.epoch: int | None = 3
        self.later = 0
        """Milliseconds by which the gateway's clock is ahead."""
        self.orders = Orders(
            aws=world.aws,
            hosts=self.hosts,
            keys=world.keyring.commands,
            epoch=lambda shard: self.epoch if shard == 0 else None,
            now=lambda: clock.millis() + self.later,
            bans=Bans(lambda: 0.5),
        )
        self.inbox = Inbox(self.make, self.orders)

    def make(self, shard: int) -> ShardInbox:
        return ShardInbox(
            shard,
            places=self.world.settings,
            aws=self.world.aws,
            keys=self.world.keyring.commands,
            orders=self.orders,
            metrics=self.metrics,
            lease_seconds=3,
            now=clock.millis,
            holds=self.hosts.holds,
        )

    async def post(self, session_id: SessionId, text: str) -> None:
        command_id = CommandId(clock.mint(ids.COMMAND))
        await self.world.aws.run(queue.send_command(0, session_id, command_id, text))

    async def order(self, command: Command) -> None:
        await self.post(command.session_id, commands.encode(self.world.keyring.commands, command))

    async def depth(self) -> int:
        """Messages in the queue, seen or not."""
        return await depth_of(self.world, self.world.settings.command_queue(0))

    async def empty(self) -> bool:
        return await self.depth() == 0

    def counted(self, name: str) -> float:
        lines = self.metrics.exposition().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


async def depth_of(world: World, url: str) -> int:
    op: Op[int] = Op(
        "sqs",
        "get_queue_attributes",
        lambda _: {"QueueUrl": url, "AttributeNames": ["All"]},
        lambda response: sum(
            int(response["Attributes"][name])
            for name in (
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            )
        ),
    )
    return await world.aws.run(op)


@asynccontextmanager
async def served(world: World) -> AsyncGenerator[Shard]:
    shard = Shard(world)
    async with shard.inbox:
        shard.inbox.won(0)
        yield shard


def told(shard: Shard, *expected: tuple[Any, ...]) -> Callable[[], bool]:
    return lambda: shard.hosts.told == list(expected)


def base(session: Session) -> dict[str, Any]:
    now = clock.millis()
    return {
        "id": CommandId(clock.mint(ids.COMMAND)),
        "tenant_id": session.tenant_id,
        "session_id": session.id,
        "issued_at": now,
        "expires_at": now + clock.HOUR,
    }


def send(session: Session, text: str = "hello", **changes: Any) -> SendMessage:
    command = SendMessage(
        **base(session),
        message_id=MessageId(clock.mint(ids.MESSAGE)),
        to="+4915112345678",
        content=Text(text),
    )
    return msgspec.structs.replace(command, **changes)


async def running(world: World, shard: Shard) -> Session:
    """A session that the shard holds."""
    session = await world.session(await world.tenant())
    await shard.order(StartSession(**base(session)))
    await until(lambda: shard.hosts.holds(session.id))
    await until(shard.empty)
    return session


async def waiting(world: World) -> Received:
    """The one command that another gateway would find now: what ends a poll is none."""
    found: list[Received] = []
    async with asyncio.timeout(30):
        while not found:
            received = await world.aws.run(queue.receive(world.settings.command_queue(0), 2))
            found = [each for each in received if each.body != NUDGE]
    (command,) = found
    return command


async def test_a_message_costs_a_receive_and_a_delete(world: World) -> None:
    """For a running session nothing is read: with the record that is three requests a message."""
    async with served(world) as shard:
        session = await running(world, shard)
        before = world.aws.requests.copy()
        await shard.order(send(session))
        await until(lambda: shard.hosts.sent == ["hello"])
        await until(lambda: not shard.inbox.in_hand)
        used = world.aws.requests - before
    assert used["sqs", "DeleteMessageBatch"] == 1
    assert used["dynamodb", "GetItem"] == 0
    assert used["sqs", "ChangeMessageVisibilityBatch"] == 0


async def test_messages_of_a_session_keep_their_order_and_share_requests(world: World) -> None:
    """Thirty messages arrive in order, at well under two requests each."""
    async with served(world) as shard:
        session = await running(world, shard)
        texts = [str(n) for n in range(30)]
        for text in texts:
            await shard.order(send(session, text))
        before = world.aws.requests.total()
        await until(lambda: len(shard.hosts.sent) == 30, 20)
        await until(lambda: not shard.inbox.in_hand)
        used = world.aws.requests.total() - before
    assert shard.hosts.sent == texts
    assert used < 30


async def test_what_waited_for_its_session_keeps_its_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking up a session that is not here yet must not let the second message pass the first."""
    run, slow = world.aws.run, asyncio.Event()

    async def uneven(op: Op[Any]) -> Any:
        if op.action == "query":
            await slow.wait()
        if op.action == "get_item" and not slow.is_set():
            slow.set()
            await asyncio.sleep(0.5)
        return await run(op)

    shard = Shard(world)
    session = await world.session(await world.tenant())
    texts = [str(n) for n in range(5)]
    for text in texts:
        await shard.order(send(session, text))
    monkeypatch.setattr(world.aws, "run", uneven)
    async with shard.inbox:
        shard.inbox.won(0)
        await until(lambda: len(shard.hosts.sent) == 5)
    assert shard.hosts.sent == texts


async def test_what_cannot_be_settled_does_not_end_the_gateway(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that cannot even be parked is left to its queue; the others go on."""
    run = world.aws.run

    async def refusing(op: Op[Any]) -> Any:
        if op.action == "send_message" and "MessageAttributes" in op.params(world.settings):
            raise ValueError("InvalidMessageContents")
        return await run(op)

    monkeypatch.setattr(world.aws, "run", refusing)
    async with served(world) as shard:
        session = await running(world, shard)
        await shard.post(session.id, "not a command")
        await until(lambda: shard.counted("zapgate_commands_refused_total") == 1)
        await shard.order(send(session))
        await until(lambda: shard.hosts.sent == ["hello"])


async def test_messages_are_handed_over_before_the_last_is_recorded(world: World) -> None:
    """A batch of a session is with its host at once; what it orders next waits for all of it."""
    async with served(world) as shard:
        session = await running(world, shard)
        shard.hosts.open.clear()
        shard.epoch = None
        for n in range(3):
            await shard.order(send(session, str(n)))
        await until(lambda: shard.hosts.waiting == 0)
        shard.epoch = 3
        await until(lambda: shard.hosts.waiting >= 2, 15)
        shard.hosts.open.set()
        await until(lambda: len(shard.hosts.sent) == 3, 15)


async def test_messages_keep_their_order_when_their_host_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a host did not send any more is sent by the next one as it was ordered."""
    run, slow = world.aws.run, asyncio.Event()

    async def uneven(op: Op[Any]) -> Any:
        if op.action == "get_item" and not slow.is_set():
            slow.set()
            await asyncio.sleep(0.5)
        return await run(op)

    texts = [str(n) for n in range(5)]
    async with served(world) as shard:
        session = await running(world, shard)
        shard.hosts.open.clear()
        shard.epoch = None
        for text in texts:
            await shard.order(send(session, text))
        shard.epoch = 3
        await until(lambda: shard.hosts.waiting >= 3, 15)
        monkeypatch.setattr(world.aws, "run", uneven)
        shard.hosts.held.clear()
        shard.hosts.open.set()
        await until(lambda: len(shard.hosts.sent) == 5, 15)
    assert shard.hosts.sent == texts


async def test_sessions_do_not_wait_for_each_other(world: World) -> None:
    """While one session's message hangs, another's goes through."""
    async with served(world) as shard:
        first, second = await running(world, shard), await running(world, shard)
        shard.hosts.open.clear()
        await shard.order(send(first, "hangs"))
        await until(lambda: shard.hosts.waiting == 1)
        await world.aws.run(
            sessions.desire(second.tenant_id, second.id, Desired.STOPPED, clock.millis())
        )
        await shard.order(StopSession(**base(second)))
        await until(lambda: not shard.hosts.holds(second.id))


@pytest.mark.parametrize("reason", ["forged", "malformed", "expired", "foreign", "gone"])
async def test_bad_commands_are_refused_counted_and_parked(world: World, reason: str) -> None:
    """What is not ours to do is done by nobody, and kept for people to look at."""
    session = await world.session(await world.tenant())
    keys = world.keyring.commands
    stop = StopSession(**base(session))
    other = await world.tenant()
    texts = {
        "forged": commands.encode([b"x" * 32], stop),
        "malformed": signing.sign_command(keys, b'{"command":"session.fly.v1"}'),
        "expired": commands.encode(keys, msgspec.structs.replace(stop, expires_at=1)),
        "foreign": commands.encode(keys, msgspec.structs.replace(stop, tenant_id=other)),
        "gone": commands.encode(
            keys, msgspec.structs.replace(stop, session_id=SessionId(clock.mint(ids.SESSION)))
        ),
    }
    async with served(world) as shard:
        await until(lambda: shard.hosts.holds(session.id))
        await shard.post(session.id, texts[reason])
        await until(lambda: shard.counted("zapgate_commands_total") == 1)
        await until(shard.empty)
        refused = shard.counted("zapgate_commands_refused_total")
    parked = await world.aws.run(queue.receive(world.settings.command_dead_url, 0))
    dead = [each.body for each in parked]
    assert (dead, refused) == (([], 0) if reason == "gone" else ([texts[reason]], 1))
    assert ("stop", session.id, False, False) not in shard.hosts.told


async def test_a_foreign_message_does_not_reach_a_running_session(world: World) -> None:
    """A signed send of one tenant through another's running session is refused."""
    async with served(world) as shard:
        session = await running(world, shard)
        other = await world.tenant()
        await shard.order(send(session, tenant_id=other))
        await until(lambda: shard.counted("zapgate_commands_refused_total") == 1)
        moved = await world.session(session.tenant_id, shard=5)
        await shard.order(send(moved))
        await until(lambda: shard.counted("zapgate_commands_refused_total") == 2)
    assert shard.hosts.sent == []


async def test_an_expired_message_of_an_idle_session_is_told_so(world: World) -> None:
    """A message is never left queued: if no host takes it, it fails with the reason."""
    session = await world.session(await world.tenant(), state=SessionState.STOPPED)
    late, unwanted = send(session, expires_at=1), send(session)
    async with served(world) as shard:
        await shard.order(late)
        await shard.order(unwanted)
        await until(
            told(
                shard,
                ("refuse", late.message_id, FailureCode.EXPIRED),
                ("refuse", unwanted.message_id, FailureCode.SESSION_ENDED),
            )
        )
        await until(shard.empty)


async def test_a_message_wakes_a_session_that_should_run(world: World) -> None:
    """A wanted session without a host is started for its message."""
    async with served(world) as shard:
        await asyncio.sleep(0.2)
        session = await world.session(await world.tenant())
        await shard.order(send(session))
        await until(lambda: shard.hosts.sent == ["hello"])
    assert ("start", session.id, 3, None, False) in shard.hosts.told


async def test_our_fault_gives_a_message_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails because of AWS comes again, and nothing overtakes it."""
    monkeypatch.setattr("gateway.sorting.FIRST_PAUSE", 0)
    async with served(world) as shard:
        session = await running(world, shard)
        shard.hosts.faults = [Unavailable("dynamodb", "x", "y")]
        await shard.order(send(session, "one"))
        await until(lambda: shard.hosts.sent == ["one"])
        await until(shard.empty)
    assert shard.counted("zapgate_commands_refused_total") == 0


async def test_a_message_never_vanishes_for_being_tried_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its queue moves it away it is told that it failed, and its host is replaced."""
    monkeypatch.setattr("gateway.sorting.FIRST_PAUSE", 0)
    world.settings = msgspec.structs.replace(world.settings, command_receives=4)
    async with served(world) as shard:
        session = await running(world, shard)
        sends, cursed = shard.hosts.send, send(session, "cursed")

        async def fail(command: SendMessage) -> None:
            if command.message_id == cursed.message_id:
                raise ZeroDivisionError
            await sends(command)

        monkeypatch.setattr(shard.hosts, "send", fail)
        await shard.order(cursed)
        await until(lambda: shard.counted("zapgate_commands_refused_total") == 1)
        await shard.order(send(session, "fine"))
        await until(lambda: shard.hosts.sent == ["fine"])
        await until(shard.empty)
        told = shard.hosts.told[1:]
    assert told == [
        ("stop", session.id, False, True),
        ("refuse", cursed.message_id, FailureCode.NOT_CONNECTED),
        ("start", session.id, 3, None, False),
    ]
    assert shard.counted('zapgate_commands_refused_total{reason="worn_out"}') == 1
    assert await world.aws.run(queue.receive(world.settings.command_dead_url, 0)) == ()


async def test_an_order_that_is_tried_too_often_is_parked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason beside it; the session's row still says that it is pending."""
    monkeypatch.setattr("gateway.sorting.FIRST_PAUSE", 0)
    world.settings = msgspec.structs.replace(world.settings, command_receives=3)
    async with served(world) as shard:
        session = await running(world, shard)

        async def fail(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(shard.hosts, "stop", fail)
        await shard.order(LogOutSession(**base(session)))
        await until(lambda: shard.counted("zapgate_commands_refused_total") == 1)
        await until(shard.empty)
        monkeypatch.undo()
    (parked,) = await world.aws.run(queue.receive(world.settings.command_dead_url, 1))
    assert "log_out" in parked.body


async def test_what_cannot_be_told_that_it_failed_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the table is away, the message is put off for long rather than lost."""
    monkeypatch.setattr("gateway.sorting.FIRST_PAUSE", 0)
    world.settings = msgspec.structs.replace(world.settings, command_receives=2)
    run, pauses = world.aws.run, list[int]()

    async def away(op: Op[Any]) -> Any:
        if op.action == "get_item":
            raise Unavailable(op.service, op.action, "test")
        if op.action == "change_message_visibility_batch":
            entries = op.params(world.settings)["Entries"]
            pauses.extend(entry["VisibilityTimeout"] for entry in entries)
        return await run(op)

    async with served(world) as shard:
        session = await running(world, shard)
        shard.hosts.faults = [ZeroDivisionError()]
        monkeypatch.setattr(world.aws, "run", away)
        await shard.order(send(session))
        await until(lambda: sorting.LAST_PAUSE in pauses)
        monkeypatch.undo()
    assert not any(told[0] == "refuse" for told in shard.hosts.told)


async def test_overtaken_commands_do_nothing(world: World) -> None:
    """The row says what is wanted now: a late start or stop is not obeyed."""
    tenant_id = await world.tenant()
    stopped = await world.session(tenant_id, state=SessionState.STOPPED, desired=Desired.STOPPED)
    async with served(world) as shard:
        session = await running(world, shard)
        await shard.order(StartSession(**base(stopped)))
        await shard.order(StopSession(**base(session)))
        await until(lambda: shard.counted('zapgate_commands_total{command="session.st') == 3)
        assert shard.hosts.holds(session.id)
        assert not shard.hosts.holds(stopped.id)


async def test_a_session_that_runs_dials_anew(world: World) -> None:
    """Held here, or about to be: it is begun again from its row. One at rest stays there."""
    tenant_id = await world.tenant()
    resting = [
        await world.session(tenant_id, state=SessionState.FAILED),
        await world.session(tenant_id, state=SessionState.STOPPED, desired=Desired.STOPPED),
    ]
    async with served(world) as shard:
        session = await running(world, shard)
        before = len(shard.hosts.told)  # the shard may have begun it before its order did
        kept = Proxy(b"sealed", "http://proxy.example.com:1")
        changes = Changes(at=clock.millis(), proxy=kept)
        await world.aws.run(sessions.change(session.tenant_id, session.id, changes))
        for each in (*resting, session):
            await shard.order(StartSession(**base(each), redial=True))
        await until(lambda: shard.counted('zapgate_commands_total{command="session.start') == 4)
        # It was never connected: a code is asked for again.
        assert shard.hosts.told[before:] == [("start", session.id, 3, session.phone_number, True)]
        assert not any(shard.hosts.holds(each.id) for each in resting)


async def test_start_stop_and_log_out(world: World) -> None:
    """Each order reaches the supervisor, under the lease's token."""
    async with served(world) as shard:
        session = await running(world, shard)
        tenant_id = session.tenant_id
        again = StartSession(**base(session), phone_number="+4915112345678", restart=True)
        await shard.order(again)
        await until(lambda: len(shard.hosts.told) == 2)
        now = clock.millis()
        await world.aws.run(sessions.desire(tenant_id, session.id, Desired.STOPPED, now))
        await shard.order(LogOutSession(**base(session)))
        await until(lambda: not shard.hosts.holds(session.id))
        # The row still says connected, as it would if its gateway had died.
        await shard.order(StopSession(**base(session)))
        await until(lambda: len(shard.hosts.told) == 4)
    assert shard.hosts.told == [
        ("start", session.id, 3, None, False),
        ("start", session.id, 3, "+4915112345678", True),
        ("stop", session.id, True, False),
        ("mark", session.id, Trigger.STOP),
    ]


async def test_a_stop_behind_a_message_that_waits_is_obeyed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session nobody pairs can be stopped although its messages are first in the queue."""
    monkeypatch.setattr(shard_module, "LOOK", 0.2)
    async with served(world) as shard:
        session = await running(world, shard)
        shard.hosts.open.clear()
        waiting = send(session)
        await shard.order(waiting)
        await until(lambda: shard.hosts.waiting == 1)
        now = clock.millis()
        await world.aws.run(sessions.desire(session.tenant_id, session.id, Desired.STOPPED, now))
        await shard.order(StopSession(**base(session)))
        refused = ("refuse", waiting.message_id, FailureCode.SESSION_ENDED)
        await until(lambda: refused in shard.hosts.told)
        await until(shard.empty)


@pytest.mark.parametrize("by", ["proxy", "restart"])
async def test_what_mends_a_connection_need_not_wait_behind_messages(
    world: World, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """They wait for the connection, and the order that mends it is behind them in the queue."""
    monkeypatch.setattr(shard_module, "LOOK", 0.2)
    async with served(world) as shard:
        session = await running(world, shard)
        shard.hosts.open.clear()
        shard.hosts.connected = False
        await shard.order(send(session))
        await until(lambda: shard.hosts.waiting == 1)
        await asyncio.sleep(1)
        # The shard may have begun it before its order did.
        begun = len(shard.hosts.told)
        now = clock.millis()
        if by == "proxy":
            changes = Changes(at=now, proxy=Proxy(b"sealed", "http://proxy.example.com:1"))
            await world.aws.run(sessions.change(session.tenant_id, session.id, changes))
        else:
            await world.aws.run(
                sessions.desire(session.tenant_id, session.id, Desired.RUNNING, now)
            )
        again = StartSession(**base(session), restart=by == "restart", redial=by == "proxy")
        await shard.order(again)
        await until(lambda: shard.hosts.sent == ["hello"])
        assert shard.hosts.told[begun] == ("start", session.id, 3, None, True)
        await until(shard.empty)
        assert len(shard.hosts.told) == begun + 1


async def test_a_won_shard_brings_up_what_should_run(world: World) -> None:
    """Wanted sessions are started, ended ones are not, half-deleted ones are finished."""
    tenant_id = await world.tenant()
    wanted = await world.session(tenant_id, state=SessionState.RECONNECTING)
    banned = await world.session(tenant_id, state=SessionState.BANNED)
    stopped = await world.session(tenant_id, state=SessionState.STOPPED, desired=Desired.STOPPED)
    unstopped = await world.session(tenant_id, desired=Desired.STOPPED)
    deleted = await world.session(tenant_id, desired=Desired.DELETED)
    async with served(world) as shard:
        await until(lambda: len(shard.hosts.told) == 3)
        await asyncio.sleep(0.1)
        assert sorted(shard.hosts.told) == sorted(
            [
                ("start", wanted.id, 3, None, False),
                ("mark", unstopped.id, Trigger.STOP),
                ("erase", deleted.id),
            ]
        )
        assert await world.aws.run(sessions.read(tenant_id, deleted.id)) is None
        assert not shard.hosts.holds(banned.id)
        assert not shard.hosts.holds(stopped.id)


async def test_a_session_that_cannot_be_read_is_brought_up_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is away for a moment must not leave it down until somebody orders something."""
    run, faults = world.aws.run, ["ThrottlingException", "InternalServerError"]

    async def away(op: Op[Any]) -> Any:
        if op.action == "get_item" and faults:
            raise Unavailable("dynamodb", "get_item", faults.pop())
        return await run(op)

    session = await world.session(await world.tenant(), state=SessionState.CONNECTED)
    monkeypatch.setattr(world.aws, "run", away)
    async with served(world) as shard:
        await until(lambda: shard.hosts.holds(session.id))
        assert faults == []


async def test_a_deleted_session_leaves_nothing(world: World) -> None:
    """Its device is logged out, its credentials and every row are erased; a repeat is harmless."""
    async with served(world) as shard:
        session = await running(world, shard)
        now = clock.millis()
        for _ in range(60):
            message = Message(
                id=MessageId(clock.mint(ids.MESSAGE)),
                tenant_id=session.tenant_id,
                session_id=session.id,
                to="+4915112345678",
                content=Text("hello"),
                status=MessageStatus.QUEUED,
                created_at=now,
                updated_at=now,
                expires_at=now,
            )
            await world.aws.run(messages.create(session.tenant_id, message))
        await shard.order(DeleteSession(**base(session)))
        await shard.order(DeleteSession(**base(session)))
        await shard.order(send(session))
        await until(shard.empty)
    assert ("stop", session.id, True, False) in shard.hosts.told
    assert ("erase", session.id) in shard.hosts.told
    assert await world.aws.run(sessions.read(session.tenant_id, session.id)) is None
    left = await world.aws.run(messages.every(session.tenant_id, session.id, Range(limit=10)))
    assert left.rows == ()


OTHER = SessionId(clock.mint(ids.SESSION))
"""As a control plane makes one up for a purge."""


@pytest.fixture
def _swift_purges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waves of three, and no time to wait for anybody's last request."""
    monkeypatch.setattr(orders_module, "PURGE_PAUSE", 0.05)
    monkeypatch.setattr(orders_module, "PURGE_WAVE", 3)
    monkeypatch.setattr(orders_module, "PURGE_GRACE", 0)


@pytest.mark.usefixtures("_swift_purges")
async def test_a_purged_tenant_leaves_nothing(world: World) -> None:
    """Its sessions are deleted in waves, then every partition is erased, and the tenant last."""
    tenant_id = await world.tenant()
    endpoint = await world.endpoint(tenant_id, "https://example.com")
    former = await world.endpoint(tenant_id, "https://example.com")
    for each in (endpoint, former):
        await world.aws.run(deliveries.record_delivery(tenant_id, delivered(each)).alone())
    assert await world.aws.run(webhooks.delete_endpoint(tenant_id, former.id, clock.millis()))
    key = ApiKey(
        id=ids.KeyId(clock.mint(ids.KEY)),
        tenant_id=tenant_id,
        name="",
        hint="",
        digest="d" * 64,
        scopes=(),
        created_at=0,
    )
    assert await world.aws.run(tenants.add_key(tenant_id, key)) is tenants.Making.MADE
    owned = [await world.session(tenant_id, state=SessionState.STOPPED) for _ in range(7)]
    purge = msgspec.structs.replace(PurgeTenant(**base(owned[0])), session_id=OTHER)
    async with served(world) as shard:
        await shard.order(purge)
        await until(lambda: shard.counted("zapgate_commands_refused_total") == 1)
        await world.aws.run(tenants.set_status(tenant_id, TenantStatus.DELETING))
        await shard.order(purge)
        await shard.order(purge)
        await until(shard.empty)
        erased = [told[1] for told in shard.hosts.told if told[0] == "erase"]
        assert set(erased) == {session.id for session in owned}
    assert await world.aws.run(tenants.by_digest(key.digest)) is None
    for partition in (
        f"T#{tenant_id}",
        f"T#{tenant_id}#D#{endpoint.id}",
        f"T#{tenant_id}#D#{former.id}",
    ):
        page = await world.aws.run(query(partition, KeyRow, Range(limit=10)))
        assert page.rows == ()


@pytest.mark.usefixtures("_swift_purges")
async def test_a_purge_goes_on_until_the_last_session_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session nobody can delete yet keeps the tenant; the order is renewed, never worn out."""
    monkeypatch.setattr(orders_module, "PURGE_LOOKS", 2)
    tenant_id = await world.tenant()
    session = await world.session(tenant_id, state=SessionState.STOPPED)
    await world.aws.run(tenants.set_status(tenant_id, TenantStatus.DELETING))
    can_erase = asyncio.Event()

    async def erase(_: Session) -> None:
        await can_erase.wait()

    async with served(world) as shard:
        monkeypatch.setattr(shard.hosts, "erase", erase)
        await shard.order(msgspec.structs.replace(PurgeTenant(**base(session)), session_id=OTHER))
        await until(lambda: shard.counted("zapgate_commands_total") > 6)
        row = await world.aws.run(sessions.read(tenant_id, session.id))
        assert row is not None
        assert row.desired is Desired.DELETED
        assert await world.aws.run(tenants.read(tenant_id)) is not None
        can_erase.set()
        await until(shard.empty)
    assert await world.aws.run(tenants.read(tenant_id)) is None


@pytest.mark.usefixtures("_swift_purges")
async def test_a_purge_outlasts_an_aws_that_does_not_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails on the way is tried again at the next look."""
    tenant_id = await world.tenant()
    await world.endpoint(tenant_id, "https://example.com")
    session = await world.session(tenant_id, state=SessionState.STOPPED)
    await world.aws.run(tenants.set_status(tenant_id, TenantStatus.DELETING))
    run = world.aws.run
    faults = 3

    async def faulty(op: Op[Any]) -> Any:
        nonlocal faults
        if op.action == "batch_write_item" and faults:
            faults -= 1
            raise Unavailable(op.service, op.action, "test")
        return await run(op)

    async with served(world) as shard:
        monkeypatch.setattr(world.aws, "run", faulty)
        await shard.order(msgspec.structs.replace(PurgeTenant(**base(session)), session_id=OTHER))
        await until(shard.empty)
    assert faults == 0
    assert await run(tenants.read(tenant_id)) is None


async def test_a_purge_waits_for_the_tenant_s_last_requests(world: World) -> None:
    """Nothing is erased while a key that was just stopped may still be remembered somewhere."""
    tenant_id = await world.tenant()
    await world.aws.run(tenants.set_status(tenant_id, TenantStatus.DELETING))
    async with served(world) as shard:
        other = await world.session(await world.tenant())
        fresh = msgspec.structs.replace(PurgeTenant(**base(other)), tenant_id=tenant_id)
        await shard.order(fresh)
        await until(lambda: shard.inbox.in_hand == 1)
        await asyncio.sleep(0.2)
        assert await world.aws.run(tenants.read(tenant_id)) is not None
        await shard.order(msgspec.structs.replace(fresh, issued_at=0, session_id=OTHER))

        async def gone() -> bool:
            return await world.aws.run(tenants.read(tenant_id)) is None

        await until(gone)


def delivered(endpoint: Endpoint) -> Delivery:
    return Delivery(
        tenant_id=endpoint.tenant_id,
        endpoint_id=endpoint.id,
        event_id=ids.EventId(clock.mint(ids.EVENT)),
        event_type="endpoint.test",
        state=DeliveryState.DELIVERED,
        attempt=1,
        created_at=clock.millis(),
        updated_at=clock.millis(),
    )


async def test_a_lost_shard_is_left_at_once(world: World) -> None:
    """Its hosts end without a word, and what was in hand is there for the next gateway."""
    async with served(world) as shard:
        session = await running(world, shard)
        shard.hosts.open.clear()
        await shard.order(send(session))
        await until(lambda: shard.hosts.waiting == 1)
        shard.epoch = None
        await shard.inbox.lost(0)
        assert shard.hosts.told[-1] == ("stop", session.id, False, True)
        assert (await waiting(world)).count == 2


async def test_a_poll_that_was_left_behind_takes_nothing(world: World) -> None:
    """The queue still holds the poll of a gateway that was killed: a nudge is all that it gets."""
    async with asyncio.TaskGroup() as tasks:
        url = world.settings.command_queue(0)
        left = tasks.create_task(world.aws.run(queue.receive(url, 20, visibility=30)))
        await asyncio.sleep(0.3)
        left.cancel()
    async with served(world) as shard:
        session = await world.session(await world.tenant())
        shard.hosts.held[session.id] = session
        await asyncio.sleep(2 * LEFT_POLL)
        await shard.order(send(session))
        await until(lambda: shard.hosts.sent == ["hello"], 15)


async def test_what_takes_long_stays_in_hand(world: World) -> None:
    """A message that waits for its phone is renewed in time: nobody else sees it meanwhile."""
    async with served(world) as shard:
        session = await running(world, shard)
        shard.hosts.open.clear()
        await shard.order(send(session))
        await until(lambda: shard.hosts.waiting == 1)
        url = world.settings.command_queue(0)
        assert await world.aws.run(queue.receive(url, 7)) == ()
        shard.hosts.open.set()
        await until(lambda: shard.hosts.sent == ["hello"])


async def test_a_holder_that_is_none_any_more_reads_nothing(world: World) -> None:
    """Thawed after its lease, it takes no message that its successor would wait for."""
    shard = Shard(world)
    shard.epoch = None
    async with shard.inbox:
        shard.inbox.won(0)
        session = await world.session(await world.tenant())
        await shard.order(send(session))
        await asyncio.sleep(3 * LEFT_POLL)
        assert (await waiting(world)).count == 1


async def test_a_shard_handed_over_finishes_what_is_in_hand(world: World) -> None:
    """Its hosts end after that, without a word; its queue is there for the next gateway at once."""
    async with served(world) as shard:
        session = await running(world, shard)
        shard.hosts.open.clear()
        await shard.order(send(session))
        await until(lambda: shard.hosts.waiting == 1)
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(shard.inbox.left(0))
            await asyncio.sleep(0.1)
            assert not leaving.done()
            shard.hosts.open.set()
        assert shard.hosts.told[-1] == ("stop", session.id, False, True)
        assert await shard.empty()
        await shard.order(send(session, "for the next"))
        assert (await waiting(world)).count == 1
        await shard.inbox.lost(0)


async def test_a_shard_lost_while_it_is_left_is_left_at_once(world: World) -> None:
    """Cut short, leaving in order keeps nothing from others either."""
    async with served(world) as shard:
        session = await running(world, shard)
        shard.hosts.open.clear()
        await shard.order(send(session))
        await until(lambda: shard.hosts.waiting == 1)
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(shard.inbox.left(0))
            await asyncio.sleep(0.1)
            leaving.cancel()
        await shard.inbox.lost(0)
        assert shard.hosts.told[-1] == ("stop", session.id, False, True)
        assert (await waiting(world)).count == 2


async def test_stopping_ends_the_polls_and_gives_back_what_takes_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to stop, it is done with its queues in moments and keeps nothing from others."""
    monkeypatch.setattr(shard_module, "DRAIN_SECONDS", 0.2)
    async with asyncio.timeout(30), served(world) as shard:
        session = await running(world, shard)
        shard.hosts.open.clear()
        await shard.order(send(session))
        await until(lambda: shard.hosts.waiting == 1)
    assert (await waiting(world)).count == 2
