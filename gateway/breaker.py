"""Whether an endpoint is attempted now, or left alone for a while because it kept failing.

The breaker's state is in the endpoint's row, so all gateways obey the same one: closed, or open
until a moment and then up to exactly one probe, which is claimed by a conditional write. A probe's
failure opens it again, for longer; a success closes it. What a gateway has seen lately stays in its
memory, as a `Window`, and is written seldom.

Every rule may be applied again to a row that somebody else changed meanwhile: keep the window that
comes back, write the health if it changed, and after a conflict apply the rule with the window from
before to the health as it now is. The health may be read a moment ago; for a test's result, which
nothing else would bring to light again, it is read anew.

An attempt that began while the breaker was closed says nothing about a breaker that opened since:
its failure does not lengthen the rest, and its success does not end it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

import msgspec
from msgspec.structs import replace

from gateway.delivery import CLAIM, JITTER, Answer, Fault, Result, retry_wait
from shared import clock
from shared.webhook import Health

WINDOW_SIZE: Final = 20
WINDOW_AGE: Final = 5 * clock.MINUTE
ENOUGH_SEEN: Final = 10
FAILING_SHARE: Final = 0.7
"""Of at least `ENOUGH_SEEN` results: it opens."""
IN_A_ROW: Final = 5
"""So many failures open it, too, if nothing succeeded within `QUIET`."""
QUIET: Final = clock.MINUTE

FIRST_REST: Final = clock.MINUTE
LONGEST_REST: Final = clock.HOUR
"""Reached by doubling; each rest is shortened or lengthened by chance, by `JITTER` at most."""
WRITTEN_EVERY: Final = clock.MINUTE
"""How often a gateway writes failures that change nothing else: a row bears few writes, and an
endpoint that fails now and then would otherwise cost two at each turn."""


WELL: Final = Health()
"""Of an endpoint with nothing bad known of it."""


class Sign(Enum):
    """What a result says about its endpoint's health."""

    GOOD = "good"
    BAD = "bad"
    BUSY = "busy"
    """It is there, and asks for fewer: no reason to leave it alone, but no success either."""
    NOTHING = "nothing"
    """It asked for none of this one, or the fault is ours."""


_OURS: Final = frozenset({"secret_unreadable"})


def sign_of(result: Result, now: int) -> Sign:
    """What a result says; 429, and 503 with a time to come back, ask for fewer."""
    match result:
        case Fault(code):
            return Sign.NOTHING if code in _OURS else Sign.BAD
        case Answer(status) if 200 <= status < 300:
            return Sign.GOOD
        case Answer(control="abort-message"):
            return Sign.NOTHING
        case Answer(429):
            return Sign.BUSY
        case Answer(503, retry_after) if retry_wait(retry_after, now):
            return Sign.BUSY
        case Answer():
            return Sign.BAD
        case _:
            assert_never(result)


@dataclass(frozen=True, slots=True)
class Ordinary:
    """An attempt that began while the breaker was closed, as far as its gateway knew."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The one attempt after a rest; `claim` is the `open_until` (ms) that its claim wrote."""

    claim: int


@dataclass(frozen=True, slots=True)
class Test:
    """Asked for by a person: its success counts, its failure is theirs to look at."""

    __test__ = False


Leave = Ordinary | Probe | Test
"""By what right an attempt is made."""


@dataclass(frozen=True, slots=True)
class Go:
    """The breaker is closed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The rest is over: whoever wins the write of `claimed` makes an attempt with this `leave`."""

    claimed: Health
    leave: Probe


@dataclass(frozen=True, slots=True)
class Rest:
    """No attempt before `until` (ms)."""

    until: int


def may_attempt(health: Health, now: int) -> Go | Ask | Rest:
    """Whether an attempt may begin at `now` (ms)."""
    if health.open_until is None:
        return Go()
    if now < health.open_until:
        return Rest(health.open_until)
    # A probe whose gateway dies is made by another, once its claim is over.
    claim = now + CLAIM
    return Ask(replace(health, open_until=claim), Probe(claim))


def hold_until(health: Health, now: int, random: Callable[[], float]) -> int:
    """When (ms) a delivery that a resting endpoint holds is looked at, if nobody releases it.

    They are spread over the length of the rest, after it: not all come back for one probe.
    """
    if health.open_until is None:
        return now
    return max(now, health.open_until) + round(rest(health.opened) * random())


def rest(opened: int) -> int:
    """How long (ms) the rest is after opening so many times in a row, but for chance."""
    # Beyond six doublings it has long been the longest; keeps the power small.
    return min(FIRST_REST << min(max(opened - 1, 0), 6), LONGEST_REST)


class Window(msgspec.Struct, frozen=True):
    """What one gateway saw of one endpoint lately. Empty at first."""

    results: tuple[tuple[int, bool], ...] = ()
    """When (ms), and whether it succeeded; oldest first."""
    unwritten: int = 0
    """Failures that are not yet in the row, since `unwritten_since` (ms)."""
    unwritten_since: int = 0
    written_at: int | None = None
    """When failures were last put into the row."""

    @property
    def failing(self) -> bool:
        """Whether what was seen is reason to open."""
        if not self.results:
            return False
        failures = sum(not good for _, good in self.results)
        if len(self.results) >= ENOUGH_SEEN and failures >= FAILING_SHARE * len(self.results):
            return True
        last, _ = self.results[-1]
        lately_good = any(good and last - at <= QUIET for at, good in self.results)
        in_a_row = not any(good for _, good in self.results[-IN_A_ROW:])
        return len(self.results) >= IN_A_ROW and in_a_row and not lately_good

    def rested(self) -> "Window":
        """The window of who meets a resting endpoint: what was seen before says nothing after."""
        return replace(self, results=())


def record(
    health: Health,
    window: Window,
    sign: Sign,
    error: str | None,
    *,
    leave: Leave,
    now: int,
    random: Callable[[], float],
) -> tuple[Health, Window]:
    """What an attempt's result makes of both; the health is to be written where it differs.

    `error` is the failure's code. `random` gives numbers in [0, 1).
    """
    match sign:
        case Sign.GOOD:
            return _succeeded(health, window, leave, now)
        case Sign.BAD:
            return _failed(health, window, error, leave, now=now, random=random)
        case Sign.BUSY:
            return _failed(health, window, error, leave, now=now, random=random, busy=True)
        case Sign.NOTHING:
            if _probes(leave, health):
                # Neither well nor worse: it rests as long as before.
                return _opened(health, health.opened, now, random), window
            return health, window
        case _:
            assert_never(sign)


def _succeeded(health: Health, window: Window, leave: Leave, now: int) -> tuple[Health, Window]:
    if health.open_until is not None:
        if isinstance(leave, Ordinary):
            return health, window.rested()
        return WELL, Window(((now, True),), written_at=window.written_at)
    seen = _seen(window, now, good=True)
    # A new value only where something ends: most endpoints are well, and cost no write.
    closed = health if health == WELL else WELL
    return closed, replace(seen, unwritten=0) if seen.unwritten else seen


def _failed(
    health: Health,
    window: Window,
    error: str | None,
    leave: Leave,
    *,
    now: int,
    random: Callable[[], float],
    busy: bool = False,
) -> tuple[Health, Window]:
    if isinstance(leave, Test):
        return health, window
    window = _unwritten(window, now)
    if health.open_until is not None:
        window = window.rested()
        if _probes(leave, health):
            times = health.opened + (not busy)
            return _written(_opened(health, times, now, random), window, error, now)
    elif not busy:
        window = _seen(window, now, good=False)
        if window.failing:
            opened = _opened(health, health.opened + 1, now, random)
            return _written(opened, window.rested(), error, now)
    if window.written_at is None or now - window.written_at >= WRITTEN_EVERY:
        return _written(health, window, error, now)
    return health, window


def _probes(leave: Leave, health: Health) -> bool:
    """Whether the attempt is the probe the row waits for; a later claim makes an earlier void."""
    return isinstance(leave, Probe) and leave.claim == health.open_until


def _opened(health: Health, times: int, now: int, random: Callable[[], float]) -> Health:
    pause = rest(times) * (1 + JITTER * (2 * random() - 1))
    return replace(health, opened=times, open_until=now + round(pause))


def _seen(window: Window, now: int, *, good: bool) -> Window:
    kept = window.results[1 - WINDOW_SIZE :]
    if kept and now - kept[0][0] > WINDOW_AGE:
        kept = tuple(each for each in kept if now - each[0] <= WINDOW_AGE)
    return replace(window, results=(*kept, (now, good)))


def _unwritten(window: Window, now: int) -> Window:
    """The window with one more failure to write. What has waited long may be over: left out."""
    if window.unwritten and now - window.unwritten_since <= WINDOW_AGE:
        return replace(window, unwritten=window.unwritten + 1)
    return replace(window, unwritten=1, unwritten_since=now)


def _written(health: Health, window: Window, error: str | None, now: int) -> tuple[Health, Window]:
    since = window.unwritten_since if health.failing_since is None else health.failing_since
    told = replace(
        health,
        failing_since=since,
        failures=health.failures + window.unwritten,
        last_error=error,
    )
    return told, replace(window, unwritten=0, written_at=now)
