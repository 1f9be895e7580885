"""What the books prove: rules without a clock, a socket or a doubt.

A session is out of order while its device has no connection, and while of what went in at one end
nothing comes out at the other, either way. Its recovery is the longest such time after a fault;
several that touch are one. The traffic is a probe with a pace: what was sent within one pace of the
fault and came late is taken to have been in trouble since the fault.

A webhook of before the fault says nothing about recovery: its delivery may be owed by a gateway
that is gone, and is another's after a minute. That it comes at all is judged all the same.
"""

import bisect
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from sandbox.chaos.ledger import Heard, Ledger, Order, Round, Told

FELL = frozenset(
    {
        "session.pairing",
        "session.stopped",
        "session.logged_out",
        "session.banned",
        "session.failed",
        "session.passkey_required",
    }
)
"""What no session may be told while its tenant wants nothing but that it runs."""
UNSURE = "message.uncertain"
FAILED = "message.failed"
RECEIVED = "message.received"

Interval = tuple[float, float]


class Pace(msgspec.Struct, frozen=True):
    """How the traffic probes, in seconds."""

    every: float
    """Between two texts of a session, each way."""
    prompt: float = 1.0
    """A text that took no longer than this was not held up."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of messages."""

    commands: int = 0
    """Accepted by the API."""
    commands_lost: int = 0
    """Neither heard nor said to have failed or to be uncertain."""
    commands_doubled: int = 0
    commands_doubled_silently: int = 0
    """Heard twice, and nobody said that it might be."""
    commands_belied: int = 0
    """Said to have failed, and heard."""
    commands_uncertain: int = 0
    commands_failed: int = 0
    events: int = 0
    """Texts that contacts wrote."""
    events_lost: int = 0
    """Never told by a webhook."""
    events_doubled: int = 0
    """Told as two events: nobody can see that they are one."""
    double_owners: int = 0
    """Logins of a device while another of its connections was open."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a round proved."""

    kind: str
    what: str
    healed: bool
    recoveries: dict[str, float]
    """Seconds by session, of those that were out of order."""
    counts: Counts


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a run proved."""

    lease_seconds: float
    rounds: list[Verdict]
    total: Counts
    events_repeated: int
    """Webhooks that came again under the id they had: flagged, to be dropped by it."""
    gaps: int
    """Sequence numbers of events that were never told."""
    fell: int
    """Times a session was told to be paired again, or ended unasked."""
    latest_webhook: float
    """The longest time from a contact's text to its webhook, in seconds."""
    latest_command: float
    """The longest time from an order's acceptance to the contact, in seconds."""
    silences: dict[str, float]
    """The longest time each session was out of order in a round, in seconds, since the fault."""
    offline: dict[str, float]
    """The longest time each session's device had no connection, in seconds."""
    logins: dict[str, int]
    """How often each session's device logged in while it was watched."""

    @property
    def worst(self) -> float:
        """The slowest recovery in lease times; infinite where one was never seen."""
        return max((self.leases(each)[1] for each in self.rounds), default=0.0)

    def leases(self, verdict: Verdict) -> tuple[float, float]:
        """A round's median and worst recovery in lease times."""
        times = [each / self.lease_seconds for each in verdict.recoveries.values()]
        if not verdict.healed:
            return median(times) if times else math.inf, math.inf
        return (median(times), max(times)) if times else (0.0, 0.0)

    def wrongs(self, bound: float) -> list[str]:
        """Everything that must not be, in words; recovery is bound by so many lease times."""
        must_not = {
            "commands lost": self.total.commands_lost,
            "commands doubled in silence": self.total.commands_doubled_silently,
            "commands said to have failed that were heard": self.total.commands_belied,
            "events lost": self.total.events_lost,
            "events doubled in silence": self.total.events_doubled,
            "events missing in their session's sequence": self.gaps,
            "double owners": self.total.double_owners,
            "sessions that fell out of service": self.fell,
            "rounds after which not everything worked again": sum(
                not each.healed for each in self.rounds
            ),
        }
        wrongs = [f"{count} {what}" for what, count in must_not.items() if count]
        if self.worst > bound:
            wrongs.append(f"a recovery took {self.worst:.2f} lease times, more than {bound:g}")
        return wrongs


def judge(ledger: Ledger, pace: Pace, lease_seconds: float) -> Judgement:
    """What the books of a run prove, once nothing more is to come."""
    counts = _counts(ledger)
    rounds = [
        Verdict(
            kind=each.kind,
            what=each.what,
            healed=each.healed,
            recoveries=recoveries(ledger, each, pace),
            counts=count,
        )
        for each, count in zip(ledger.rounds, counts, strict=True)
    ]
    begun = ledger.rounds[0].begun if ledger.rounds else math.inf
    ended = ledger.rounds[-1].ended if ledger.rounds else math.inf
    tellings = Counter(each.event_id for each in ledger.told)
    return Judgement(
        lease_seconds=lease_seconds,
        rounds=rounds,
        total=summed(counts),
        events_repeated=sum(count - 1 for count in tellings.values()),
        gaps=_gaps(ledger),
        fell=len({t.event_id for t in ledger.told if t.type in FELL and t.at >= begun}),
        latest_webhook=_latest([(w.session, w.text, w.at) for w in ledger.written], ledger.told),
        latest_command=_latest(
            [
                (o.session, o.text, o.accepted_at)
                for o in ledger.orders
                if o.accepted_at is not None
            ],
            ledger.heard,
        ),
        silences=_silences(ledger, pace),
        offline={
            session: max((until - since for since, until in each), default=0.0)
            for session in ledger.sessions
            if (each := offline(ledger, session, begun, ended))
        },
        logins=dict(Counter(c.session for c in ledger.connections if begun <= c.since < ended)),
    )


def recoveries(ledger: Ledger, of: Round, pace: Pace, *, now: float = math.inf) -> dict[str, float]:
    """The longest time each session was out of order after a fault, in seconds, if it was.

    What has not come until `now` is counted as if it came then.
    """
    waits = _waits(ledger, of, pace, now)
    found: dict[str, float] = {}
    for session in ledger.sessions:
        trouble = [*offline(ledger, session, of.begun, of.ended), *waits[session]]
        clipped = [(max(since, of.over), until) for since, until in trouble if until > of.over]
        longest = max((until - since for since, until in merged(clipped)), default=0.0)
        if longest > 0:
            found[session] = longest
    return found


def unproven(ledger: Ledger, since: float) -> set[str]:
    """Sessions not yet seen to work both ways with texts sent after `since`."""
    heard = {(each.session, each.text) for each in ledger.heard}
    told = {(each.session, each.text) for each in ledger.told if each.text is not None}
    out = {o.session for o in ledger.orders if o.at >= since and (o.session, o.text) in heard}
    back = {w.session for w in ledger.written if w.at >= since and (w.session, w.text) in told}
    return set(ledger.sessions) - (out & back)


def owed(ledger: Ledger) -> int:
    """Messages of which neither the end is known nor the loss sure: worth waiting for."""
    settled = {t.message_id for t in ledger.told if t.type in {UNSURE, FAILED}}
    heard = {(each.session, each.text) for each in ledger.heard}
    told = {(each.session, each.text) for each in ledger.told}
    return (
        sum(
            order.message_id is not None
            and order.message_id not in settled
            and (order.session, order.text) not in heard
            for order in ledger.orders
        )
        + sum((each.session, each.text) not in told for each in ledger.written)
        + _gaps(ledger)
    )


def offline(ledger: Ledger, session: str, begun: float, ended: float) -> list[Interval]:
    """When, between two moments, a session's device had no connection."""
    times = sorted(
        (each.since, math.inf if each.until is None else each.until)
        for each in ledger.connections
        if each.session == session
    )
    gaps: list[Interval] = []
    covered = begun
    for since, until in times:
        if since > covered:
            gaps.append((covered, min(since, ended)))
        covered = max(covered, until)
    gaps.append((covered, ended))
    return [(since, until) for since, until in gaps if until > since]


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same times, with those that touch or overlap made one."""
    whole: list[Interval] = []
    for since, until in sorted(intervals):
        if whole and since <= whole[-1][1]:
            whole[-1] = whole[-1][0], max(until, whole[-1][1])
        else:
            whole.append((since, until))
    return whole


def overlaps(ledger: Ledger) -> list[float]:
    """When a device logged in while another of its connections was open."""
    found: list[float] = []
    for session in ledger.sessions:
        open_until = -math.inf
        mine = [each for each in ledger.connections if each.session == session]
        for each in sorted(mine, key=lambda connection: connection.since):
            if each.since < open_until:
                found.append(each.since)
            open_until = max(open_until, math.inf if each.until is None else each.until)
    return found


def summed(counts: Sequence[Counts]) -> Counts:
    """All of them together."""
    names = Counts.__struct_fields__
    return Counts(**{name: sum(getattr(each, name) for each in counts) for name in names})


def _waits(ledger: Ledger, of: Round, pace: Pace, now: float) -> dict[str, list[Interval]]:
    """By session, from when until when texts of a round were held up."""
    ends: dict[tuple[str, str], float] = {}
    for seen in (*reversed(ledger.heard), *reversed(ledger.told)):
        if seen.text is not None:
            ends[seen.session, seen.text] = seen.at
    decided = {t.message_id: t.at for t in ledger.told if t.type in {UNSURE, FAILED}}
    ways: dict[tuple[str, str], list[Interval]] = defaultdict(list)
    for order in ledger.orders:
        if order.accepted_at is not None:
            came = ends.get((order.session, order.text), now)
            until = min(came, decided.get(order.message_id, now))
            ways[order.session, "out"].append((order.accepted_at, until))
    for each in ledger.written:
        until = ends.get((each.session, each.text), now)
        ways[each.session, "in"].append((each.at, until))
    waits: dict[str, list[Interval]] = defaultdict(list)
    for (session, _), texts in ways.items():
        waits[session] += [
            (of.over if at - of.over <= pace.every else at, until)
            for at, until in _held_up(texts, of.begun)
            if at < of.ended and until - at > pace.prompt
        ]
    return waits


def _held_up(texts: list[Interval], begun: float) -> list[Interval]:
    """From when until when nothing came of what was sent one way since a fault.

    A text that comes late by itself, or in its turn behind others, is late; while anything comes
    the session is not silent.
    """
    since_fault = [each for each in texts if each[0] >= begun]
    # A text may be heard before its acceptance is: the answer was lost, and the order repeated.
    outputs = sorted(max(each) for each in since_fault)
    return [(at, outputs[bisect.bisect_left(outputs, at)]) for at, _ in since_fault]


def _counts(ledger: Ledger) -> list[Counts]:
    """What became of the messages of each round: those sent from its begin to the next one's."""
    begins = [each.begun for each in ledger.rounds]
    tallies = [Counter[str]() for _ in begins]

    def tally(at: float) -> Counter[str]:
        return tallies[max(0, bisect.bisect_right(begins, at) - 1)] if tallies else Counter()

    heard = Counter((each.session, each.text) for each in ledger.heard)
    unsure = {each.message_id for each in ledger.told if each.type == UNSURE}
    failed = {each.message_id for each in ledger.told if each.type == FAILED}
    for order in ledger.orders:
        times = heard[order.session, order.text]
        tally(order.at).update(_fate(order, times, unsure, failed))
    told: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in ledger.told:
        if each.type == RECEIVED and each.text is not None:
            told[each.session, each.text].add(each.event_id)
    for each in ledger.written:
        as_events = len(told[each.session, each.text])
        tally(each.at).update(events=1, events_lost=as_events == 0, events_doubled=as_events > 1)
    for at in overlaps(ledger):
        tally(at).update(double_owners=1)
    return [Counts(**tally) for tally in tallies]


def _fate(
    order: Order, times: int, unsure: set[str | None], failed: set[str | None]
) -> dict[str, int]:
    """What became of an order whose text was heard so many `times`."""
    accepted = order.message_id is not None
    said_unsure = accepted and order.message_id in unsure
    said_failed = accepted and order.message_id in failed
    flagged = said_unsure or order.resend
    return {
        "commands": accepted,
        "commands_lost": accepted and not (times or said_unsure or said_failed),
        "commands_doubled": times > 1,
        "commands_doubled_silently": times > 1 and not flagged,
        "commands_belied": said_failed and times > 0,
        "commands_uncertain": said_unsure,
        "commands_failed": said_failed,
    }


def _gaps(ledger: Ledger) -> int:
    """Sequence numbers below each session's highest that were never told."""
    sequences: dict[str, set[int]] = defaultdict(set)
    for each in ledger.told:
        sequences[each.session].add(each.sequence)
    return sum(max(numbers) - len(numbers) for numbers in sequences.values())


def _silences(ledger: Ledger, pace: Pace) -> dict[str, float]:
    longest: dict[str, float] = {}
    for each in ledger.rounds:
        since_fault = msgspec.structs.replace(each, over=each.begun)
        for session, seconds in recoveries(ledger, since_fault, pace).items():
            longest[session] = max(longest.get(session, 0.0), seconds)
    return longest


def _latest(sent: Iterable[tuple[str, str, float]], seen: Iterable[Heard | Told]) -> float:
    first: dict[tuple[str, str | None], float] = {}
    for each in seen:
        first.setdefault((each.session, each.text), each.at)
    waits = (first.get((session, text), at) - at for session, text, at in sent)
    return max(waits, default=0.0)
