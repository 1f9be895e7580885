"""What orders come to, on real AWS, with hosts that only note what is asked of them."""

from typing import Any

import msgspec
import pytest

from gateway import bans as bans_module
from shared import clock
from shared.commands import Command, DeleteSession, LogOutSession, ResetSession, StartSession
from shared.commands import StopSession as Stop
from shared.proxy import Proxy
from shared.session import Desired, Reason, Session, SessionState, Trigger
from shared.store import sessions
from shared.store.sessions import Changes, Observation
from tests.gateway.conftest import World
from tests.gateway.test_shard import Shard, base

NUMBER = "+4915112345678"
S = SessionState


async def seen(world: World, session: Session, state: SessionState, **fields: Any) -> Session:
    """The session as it is once a gateway wrote its state."""
    sight = Observation(state=state, at=clock.millis(), epoch=1, **fields)
    await world.aws.run(sessions.observe(session.tenant_id, session.id, sight).alone())
    return await world.read_session(session)


async def want(world: World, session: Session, desired: Desired) -> None:
    now = clock.millis()
    assert await world.aws.run(sessions.desire(session.tenant_id, session.id, desired, now, None))


async def do(shard: Shard, command: Command) -> str:
    return await shard.orders.carry_out(command, 0)


async def test_a_row_and_not_the_index_says_what_to_resume(world: World) -> None:
    """What was stopped or deleted a moment ago is not started by a gateway that read it before."""
    tenant_id = await world.tenant()
    stopped, gone = await world.session(tenant_id), await world.session(tenant_id)
    await want(world, stopped, Desired.STOPPED)
    await seen(world, stopped, S.STOPPED)
    await world.aws.run(sessions.remove(tenant_id, gone.id))
    shard = Shard(world)
    for session in (stopped, gone):
        await shard.orders.resume(session)

    assert shard.hosts.told == []


async def test_an_attempt_to_pair_goes_on_with_its_number(world: World) -> None:
    """The code is for the number it was begun with, on the next gateway and after a restart too."""
    session = await world.session(await world.tenant(), state=S.PAIRING)
    now = clock.millis()
    desire = sessions.desire(session.tenant_id, session.id, Desired.RUNNING, now, NUMBER)
    await world.aws.run(desire)
    shard = Shard(world)
    await shard.orders.resume(session)
    again = StartSession(**base(session), restart=True)
    await do(shard, msgspec.structs.replace(again, issued_at=now + clock.DAY))

    assert shard.hosts.told == [
        ("start", session.id, 3, NUMBER, False),
        ("start", session.id, 3, NUMBER, True),
    ]
    assert shard.hosts.ordered == {session.id: True}


async def test_a_device_is_resumed_without_a_code(world: World) -> None:
    """A number that is linked needs none, and it merely resumes."""
    session = await world.session(await world.tenant())
    await seen(world, session, S.CONNECTED, connected_at=5, phone_number=NUMBER)
    shard = Shard(world)
    await shard.orders.resume(session)
    await shard.orders.resume(session)

    assert shard.hosts.told == [("start", session.id, 3, None, False)]
    assert shard.hosts.ordered == {session.id: False}


async def banned(world: World, until: int, desired: Desired = Desired.RUNNING) -> Session:
    session = await world.session(await world.tenant(), desired=desired)
    await seen(world, session, S.CONNECTED, connected_at=5)
    reason = Reason.TEMPORARILY_BANNED
    return await seen(world, session, S.BANNED, reason=reason, until=until)


async def test_a_ban_is_waited_for_and_then_it_is_over(world: World) -> None:
    """By the gateway that held the session or the next one; nobody logs in before."""
    until = clock.millis() + clock.HOUR
    session = await banned(world, until)
    shard = Shard(world)
    await shard.orders.resume(session)
    await shard.orders.end_bans()
    assert shard.hosts.told == []

    shard.later = clock.HOUR + bans_module.JITTER
    await shard.orders.end_bans()
    await shard.orders.end_bans()
    assert shard.hosts.told == [("start", session.id, 3, None, False)]
    assert shard.hosts.ordered[session.id]


async def test_a_start_waits_for_the_end_of_a_ban_and_a_restart_asks(world: World) -> None:
    """The start is heard all the same; a ban that was lifted early is for a restart to find out."""
    session = await banned(world, clock.millis() + clock.HOUR, Desired.STOPPED)
    shard = Shard(world)
    await want(world, session, Desired.RUNNING)
    assert (await world.read_session(session)).pending
    await do(shard, StartSession(**base(session)))
    assert shard.hosts.told == []
    row = await world.read_session(session)
    assert (row.pending, row.state) == (False, S.BANNED)

    await do(shard, StartSession(**base(session), restart=True))
    assert shard.hosts.told == [("start", session.id, 3, None, True)]
    shard.later = clock.DAY
    await shard.orders.end_bans()
    assert len(shard.hosts.told) == 1


@pytest.mark.parametrize("meanwhile", ["unwanted", "gone", "longer", "left"])
async def test_a_ban_that_ended_otherwise_starts_nothing(world: World, meanwhile: str) -> None:
    """The row is asked again: its tenant, WhatsApp and another gateway may have acted."""
    session = await banned(world, clock.millis())
    shard = Shard(world)
    await shard.orders.resume(session)
    match meanwhile:
        case "unwanted":
            await want(world, session, Desired.STOPPED)
        case "gone":
            await world.aws.run(sessions.remove(session.tenant_id, session.id))
        case "longer":
            reason = Reason.TEMPORARILY_BANNED
            later = clock.millis() + 2 * clock.DAY
            await seen(world, session, S.BANNED, reason=reason, until=later)
        case _:
            await shard.orders.leave(0)
    shard.later = clock.HOUR
    await shard.orders.end_bans()
    assert shard.hosts.told == []
    shard.later = 3 * clock.DAY
    await shard.orders.end_bans()
    assert len(shard.hosts.told) == (meanwhile == "longer")


async def test_a_ban_that_is_over_on_a_lost_shard_is_another_gateway_s(world: World) -> None:
    """The lease went in the moment it was to start."""
    session = await banned(world, clock.millis() - clock.HOUR)
    shard = Shard(world)
    await shard.orders.resume(session)
    shard.epoch, shard.later = None, clock.HOUR
    await shard.orders.end_bans()

    assert shard.hosts.told == []


async def test_credentials_are_reset_without_whatsapp(world: World) -> None:
    """The host goes quietly, and the session is logged out; again, it changes nothing."""
    session = await world.session(await world.tenant())
    shard = Shard(world)
    await do(shard, StartSession(**base(session), restart=True))
    await want(world, session, Desired.STOPPED)
    assert await do(shard, ResetSession(**base(session))) == "done"
    assert shard.hosts.told[1:] == [
        ("stop", session.id, False, True),
        ("mark", session.id, Trigger.LOG_OUT),
    ]
    await seen(world, session, S.LOGGED_OUT)
    await want(world, session, Desired.STOPPED)
    await do(shard, ResetSession(**base(session)))
    assert not (await world.read_session(session)).pending


async def test_many_restarts_are_one(world: World) -> None:
    """Those ordered before the host began have what they ask; one for another number has not."""
    session = await world.session(await world.tenant())
    shard = Shard(world)
    early = [StartSession(**base(session), restart=True) for _ in range(3)]
    for command in early:
        await do(shard, command)
    assert len(shard.hosts.told) == 1
    await do(shard, msgspec.structs.replace(early[0], phone_number=NUMBER))
    await do(shard, msgspec.structs.replace(early[0], issued_at=clock.millis() + clock.MINUTE))
    assert len(shard.hosts.told) == 3


async def test_many_changes_of_a_proxy_are_one(world: World) -> None:
    """Those made before the host began are in it; one that is not in it makes it begin anew."""
    session = await world.session(await world.tenant())
    shard = Shard(world)
    redials = [StartSession(**base(session), redial=True) for _ in range(3)]
    for command in redials:
        await do(shard, command)
    assert len(shard.hosts.told) == 1
    changes = Changes(at=clock.millis(), proxy=Proxy(b"sealed", "http://proxy.example.com:1"))
    await world.aws.run(sessions.change(session.tenant_id, session.id, changes))
    for command in redials:
        await do(shard, command)
    assert len(shard.hosts.told) == 2


@pytest.mark.parametrize(
    ("state", "desired", "command"),
    [
        (S.CONNECTED, Desired.RUNNING, StartSession),
        (S.FAILED, Desired.STOPPED, Stop),
        (S.LOGGED_OUT, Desired.STOPPED, LogOutSession),
    ],
    ids=str,
)
async def test_an_order_that_changes_nothing_is_heard(
    world: World,
    state: SessionState,
    desired: Desired,
    command: type[StartSession | Stop | LogOutSession],
) -> None:
    """Whoever waits for its answer gets it from the row; the state and its reason stay."""
    session = await world.session(await world.tenant(), state=state)
    shard = Shard(world)
    if state is S.CONNECTED:
        await shard.orders.resume(session)
    await seen(world, session, state, reason=Reason.HOST_DIED)
    await want(world, session, desired)
    await do(shard, command(**base(session)))

    row = await world.read_session(session)
    assert (row.state, row.reason, row.pending) == (state, Reason.HOST_DIED, False)
    assert [each for each in shard.hosts.told if each[0] != "start"] == []


async def test_a_device_of_a_session_that_failed_is_removed(world: World) -> None:
    """It is connected once more for that, by a log-out and by a deletion."""
    for command in (LogOutSession, DeleteSession):
        session = await world.session(await world.tenant())
        await seen(world, session, S.CONNECTED, connected_at=5)
        await seen(world, session, S.FAILED, reason=Reason.REPLACED)
        shard = Shard(world)
        await do(shard, command(**base(session)))

        assert shard.hosts.told[:2] == [
            ("start", session.id, 3, None, False),
            ("stop", session.id, True, False),
        ]


async def test_a_banned_session_is_logged_out_without_a_login(world: World) -> None:
    """WhatsApp would refuse it; whoever ordered it is told that the phone may list the device."""
    session = await banned(world, clock.millis() + clock.HOUR, Desired.STOPPED)
    shard = Shard(world)
    await do(shard, LogOutSession(**base(session)))

    assert shard.hosts.told == [("mark", session.id, Trigger.LOG_OUT)]
