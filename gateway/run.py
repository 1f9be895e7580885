"""The wiring of a gateway. It starts in reading order and stops in the reverse.

So on the way out: no shard is won and no webhook begun any more, no command is read, what is in
hand is finished or given back, hosts are stopped without a word and journals emptied, the leases
are resigned, for whoever goes on, and last the deliveries in hand are finished.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.agenda import Agenda
from gateway.aws import Aws
from gateway.bans import Bans
from gateway.directory import Directory
from gateway.dispatcher import Dispatcher
from gateway.egress import Egress
from gateway.health import serve
from gateway.house import check_store
from gateway.inbox import Inbox
from gateway.leaseholder import Leaseholder
from gateway.loops import Loop
from gateway.metrics import Metrics, family, gauge
from gateway.orders import Orders
from gateway.outbox import Outbox
from gateway.proxies import proxies_of
from gateway.recovery import Recoveries
from gateway.shard import ShardInbox
from gateway.supervisor import Supervisor
from gateway.vigil import Verdict
from gateway.watchman import Watchman
from shared import clock, ids
from shared.env import Settings
from shared.errors import Misconfigured
from shared.ids import WorkerId
from shared.keyring import Keyring
from shared.logs import fields

log = logging.getLogger(__name__)

ASIDE_LOOK: Final = 30.0
"""Seconds between two looks at which refused events may be tried again."""
BAN_LOOK: Final = 5.0
"""Seconds between two looks at the bans that may be over; they are few, and in memory."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Be a gateway until `stop` is set. Raises Misconfigured."""
    keyring = Keyring.parse(settings.secret)
    if not settings.command_queue_url:
        raise Misconfigured("ZAPGATE_COMMAND_QUEUE_URL is not set")
    await check_store(settings)
    me = WorkerId(clock.mint(ids.WORKER))
    metrics = Metrics()
    async with AsyncExitStack() as parts:
        aws = await parts.enter_async_context(Aws(settings))
        directory = Directory(aws, keyring.seals, memory=settings.endpoint_memory)

        def won(shard: int) -> None:
            inbox.won(shard)

        async def left(shard: int) -> None:
            await inbox.left(shard)

        async def lost(shard: int) -> None:
            await inbox.lost(shard)

        def inherits(owner: WorkerId) -> None:
            dispatcher.inherit(owner)

        leaseholder = Leaseholder(
            aws=aws,
            me=me,
            shards=settings.shards,
            lease_seconds=settings.lease_seconds,
            won=won,
            left=left,
            lost=lost,
            patience=settings.balance_seconds,
            inherits=inherits,
        )
        await parts.enter_async_context(_background(leaseholder.run()))

        dispatcher, recoveries = await _webhooks(parts, settings, aws, directory, metrics, me=me)

        outbox = Outbox(
            aws=aws,
            directory=directory,
            deliverer=dispatcher,
            fenced=lambda session: leaseholder.fenced(session.shard, session.epoch),
            metrics=metrics,
            now=clock.millis,
        )
        await parts.enter_async_context(outbox)

        bans = Bans(secrets.SystemRandom().random)
        supervisor = Supervisor(
            settings=settings,
            proxies=proxies_of(settings, keyring.seals),
            record=outbox.record,
            offer=outbox.offer,
            store_away=outbox.store_away,
            now=clock.millis,
            until=lambda session: leaseholder.hosts_until(session.shard),
            ended=bans.heed,
        )
        await parts.enter_async_context(_background(supervisor.run(), ends_itself=True))
        # Nothing acts on a shard once its hosts are gone: the next gateway need not wait until
        # webhooks in hand are done.
        parts.push_async_callback(leaseholder.resign)
        parts.push_async_callback(supervisor.close)

        orders = Orders(
            aws=aws,
            hosts=supervisor,
            keys=keyring.commands,
            epoch=leaseholder.epoch,
            now=clock.millis,
            bans=bans,
        )
        seldom = (
            Loop("bans", orders.end_bans, pause=BAN_LOOK),
            Loop(
                "aside", partial(supervisor.aside.try_again, outbox.record_late), pause=ASIDE_LOOK
            ),
        )
        for loop in seldom:
            await parts.enter_async_context(_background(loop.run()))

        def serve_shard(shard: int) -> ShardInbox:
            return ShardInbox(
                shard,
                places=settings,
                aws=aws,
                keys=keyring.commands,
                orders=orders,
                metrics=metrics,
                lease_seconds=settings.lease_seconds,
                now=clock.millis,
                holds=supervisor.holds,
            )

        inbox = await parts.enter_async_context(Inbox(serve_shard, orders))

        watchman = Watchman(
            aws=aws,
            inbox=inbox,
            outbox=outbox,
            leaseholder=leaseholder,
            moving=lambda: {each.session_id for each in supervisor.snapshot() if each.connected},
        )
        await parts.enter_async_context(_background(watchman.run()))

        def alive() -> dict[str, str]:
            loops = (
                leaseholder.loop,
                leaseholder.watch,
                *dispatcher.loops(),
                recoveries.loop,
                seldom[0],
                *watchman.loops(),
                *inbox.loops(),
            )
            return {loop.name: "stands still" for loop in loops if not loop.alive()}

        def ready() -> dict[str, str]:
            matters = {
                "leases": leaseholder.matter(),
                "hosts": supervisor.matter(),
                **watchman.matter(),
            }
            return alive() | {part: why for part, why in matters.items() if why is not None}

        metrics.read(
            lambda: (
                *_leases(leaseholder),
                *_sessions(supervisor),
                *_work(inbox, dispatcher, outbox),
                *_watches(watchman),
                *_requests(aws),
            )
        )
        port = await parts.enter_async_context(
            serve(
                settings.health_host,
                settings.health_port,
                alive=alive,
                ready=ready,
                metrics=metrics,
            )
        )
        parts.callback(dispatcher.stop_taking)
        parts.callback(leaseholder.stop_winning)
        await leaseholder.start_winning()
        log.info(
            "gateway.started",
            extra=fields(worker=me, shards=len(leaseholder.held()), health_port=port),
        )
        await stop.wait()
        log.info("gateway.stopping", extra=fields(worker=me))
    log.info("gateway.stopped", extra=fields(worker=me))


async def _webhooks(
    parts: AsyncExitStack,
    settings: Settings,
    aws: Aws,
    directory: Directory,
    metrics: Metrics,
    *,
    me: WorkerId,
) -> tuple[Dispatcher, Recoveries]:
    """What delivers webhooks, and brings back what was given up."""
    egress = await parts.enter_async_context(
        Egress(settings.webhook_targets, denied=settings.denied())
    )
    dispatcher = Dispatcher(
        places=settings,
        aws=aws,
        directory=directory,
        egress=egress,
        metrics=metrics,
        now=clock.millis,
        me=me,
    )
    await parts.enter_async_context(dispatcher)
    recoveries = Recoveries(
        aws=aws,
        metrics=metrics,
        now=clock.millis,
        moved=(await parts.enter_async_context(Agenda(dispatcher, clock.millis))).add,
    )
    await parts.enter_async_context(_background(recoveries.loop.run()))
    return dispatcher, recoveries


@asynccontextmanager
async def _background(
    work: Coroutine[object, object, None], *, ends_itself: bool = False
) -> AsyncGenerator[None]:
    """Run `work` beside what follows; if it fails, so does the gateway."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        try:
            yield
        finally:
            if not ends_itself:
                task.cancel()


def _leases(leaseholder: Leaseholder) -> Iterable[Metric]:
    held = leaseholder.held()
    yield gauge("zapgate_shards_held", "Shards this gateway holds", len(held))
    yield gauge(
        "zapgate_shards_unheld",
        "Shards that no gateway took in its time, as this one sees it",
        len(leaseholder.unheld()),
    )
    yield gauge("zapgate_gateways", "Gateways that share the shards", leaseholder.gateways())
    yield family(
        CounterMetricFamily,
        "zapgate_shards_moved",
        "Shards won, handed over or lost by this gateway",
        ("how",),
        (((how,), count) for how, count in sorted(leaseholder.moves.items())),
    )
    yield family(
        GaugeMetricFamily,
        "zapgate_lease_epoch",
        "Fencing token of each shard held",
        ("shard",),
        (((str(shard),), epoch) for shard, epoch in sorted(held.items())),
    )


def _sessions(supervisor: Supervisor) -> Iterable[Metric]:
    statuses = supervisor.snapshot()
    states = Counter(status.state.value for status in statuses)
    yield family(
        GaugeMetricFamily,
        "zapgate_sessions",
        "Sessions held, by state",
        ("state",),
        (((state,), count) for state, count in sorted(states.items())),
    )
    yield gauge(
        "zapgate_journal_depth",
        "Journal entries not yet recorded",
        sum(status.journal_depth for status in statuses),
    )
    yield family(
        CounterMetricFamily,
        "zapgate_events_set_aside",
        "Events the table refused, kept beside their session's journal",
        (),
        (((), supervisor.aside.count),),
    )
    yield family(
        CounterMetricFamily,
        "zapgate_events_brought_back",
        "Events the table refused at first and took later",
        (),
        (((), supervisor.aside.recorded),),
    )
    yield gauge(
        "zapgate_events_aside",
        "Refused events of the sessions held, which are tried again from time to time",
        supervisor.aside.left,
    )
    yield gauge(
        "zapgate_host_restarts",
        "Restarts of the hosts of the sessions held",
        sum(status.restarts for status in statuses),
    )
    yield family(
        CounterMetricFamily,
        "zapgate_session_changes",
        "Changes of sessions that had a reason, by reason",
        ("reason",),
        (((reason.value,), count) for reason, count in sorted(supervisor.ends.items())),
    )
    yield family(
        CounterMetricFamily,
        "zapgate_host_interventions",
        "Hosts ended because something took too long, by what",
        ("watch",),
        (((watch.value,), count) for watch, count in sorted(supervisor.watches.items())),
    )
    yield family(
        CounterMetricFamily,
        "zapgate_zygotes_replaced",
        "Processes that hosts are forked from which were replaced, by why",
        ("why",),
        (((why,), supervisor.zygotes.get(why, 0)) for why in ("ended", "hung")),
    )
    yield gauge(
        "zapgate_longest_unheard_seconds",
        "Since WhatsApp was last heard by the connected session that heard least",
        max((status.heard_ago or 0 for status in statuses if status.connected), default=0),
    )
    yield gauge(
        "zapgate_oldest_pulse_seconds",
        "Since the host that was silent longest was last heard",
        max((status.pulse_age or 0 for status in statuses), default=0),
    )


def _work(inbox: Inbox, dispatcher: Dispatcher, outbox: Outbox) -> Iterable[Metric]:
    yield gauge("zapgate_commands_in_hand", "Commands being carried out", inbox.in_hand)
    yield gauge("zapgate_entries_waiting", "Events waiting to be stored", outbox.waiting)
    yield gauge("zapgate_deliveries_waiting", "Deliveries waiting in memory", dispatcher.waiting)
    yield gauge("zapgate_deliveries_sending", "Deliveries being attempted", dispatcher.sending)


def _watches(watchman: Watchman) -> Iterable[Metric]:
    parts = ("reading", "working", "storing")
    yield family(
        GaugeMetricFamily,
        "zapgate_parts_late",
        "Shards read late or not at all, shards with commands that stand still, the outbox",
        ("part",),
        (((part,), watchman.count(part)) for part in parts),
    )
    yield family(
        CounterMetricFamily,
        "zapgate_watch_steps",
        "What the watchman did, by part and step",
        ("part", "step"),
        (
            ((part, step.value), watchman.steps[part, step])
            for part in parts
            for step in (Verdict.REPAIR, Verdict.PASS_ON)
        ),
    )
    yield gauge(
        "zapgate_event_loop_lag_seconds",
        "By how much the event loop was late at the most within the last minute",
        watchman.lag,
    )


def _requests(aws: Aws) -> Iterable[Metric]:
    labels = ("service", "action")
    requests, hung = sorted(aws.requests.items()), sorted(aws.hung.items())
    text = "Requests to AWS, repeats included"
    yield family(CounterMetricFamily, "zapgate_aws_requests", text, labels, requests)
    text = "Requests to AWS that were cut off because the client stood still"
    yield family(CounterMetricFamily, "zapgate_aws_requests_hung", text, labels, hung)
