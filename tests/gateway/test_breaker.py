"""The breaker, by examples, and by a model of several gateways that share one row."""

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.breaker import (
    ENOUGH_SEEN,
    FIRST_REST,
    LONGEST_REST,
    QUIET,
    WINDOW_AGE,
    WINDOW_SIZE,
    WRITTEN_EVERY,
    Ask,
    Go,
    Leave,
    Ordinary,
    Probe,
    Rest,
    Sign,
    Test,
    Window,
    hold_until,
    may_attempt,
    record,
    rest,
    sign_of,
)
from gateway.delivery import CLAIM, JITTER, Answer, Fault, Result
from shared import clock
from shared.webhook import Health

NOW = 1_700_000_000_000
BAD, GOOD, BUSY, NOTHING = Sign.BAD, Sign.GOOD, Sign.BUSY, Sign.NOTHING
RESTING = Health(failing_since=NOW - 5, failures=5, opened=1, open_until=NOW + FIRST_REST)
PROBED = Probe(NOW + FIRST_REST)


def middle() -> float:
    """Chance that moves nothing."""
    return 0.5


def seen(
    signs: str, *, apart: int = clock.SECOND, health: Health | None = None
) -> tuple[Health, Window]:
    """What `+` and `-` at even distances make of an endpoint that is well."""
    health, window = health or Health(), Window()
    for number, sign in enumerate(signs):
        health, window = record(
            health,
            window,
            GOOD if sign == "+" else BAD,
            "http_500",
            leave=Ordinary(),
            now=NOW + number * apart,
            random=middle,
        )
    return health, window


def after(health: Health, sign: Sign, leave: Leave, now: int = NOW) -> Health:
    return record(health, Window(), sign, "http_500", leave=leave, now=now, random=middle)[0]


@pytest.mark.parametrize(
    ("signs", "opens"),
    [
        ("----", False),
        ("-----", True),
        ("+----", False),
        ("+-----", False),  # it succeeded within the minute
        ("---+--+--", False),  # too few to speak of a share
        ("+--+--+---", True),
        ("+--+-++---", False),
        ("+" * 20 + "-" * 13, False),
        ("+" * 20 + "-" * 14, True),  # of the last twenty
    ],
)
def test_it_opens_where_most_fails(signs: str, *, opens: bool) -> None:
    """Seven of ten of the last results, or five in a row with no success for a minute."""
    health, _ = seen(signs)
    assert (health.opened, health.open_until is not None) == (int(opens), opens)


def test_five_in_a_row_open_it_once_the_last_success_is_a_minute_ago() -> None:
    """A success just before says that it was only a moment."""
    health, _ = seen("+-----", apart=QUIET // 5)
    assert not health.opened
    health, _ = seen("+-----", apart=QUIET // 5 + 1)
    assert health.opened == 1


def test_old_results_do_not_count() -> None:
    """Failures further apart than the window is long never open it."""
    health, window = seen("-----", apart=WINDOW_AGE // 4 + 1)
    assert not health.opened
    assert len(window.results) == 4


def test_the_window_is_bounded() -> None:
    """Twenty results, however many come."""
    _, window = seen("+-" * WINDOW_SIZE, apart=1)
    assert len(window.results) == WINDOW_SIZE


def test_nothing_seen_is_no_reason_to_open() -> None:
    """An empty window is a healthy one."""
    assert not Window().failing


def test_opening_is_written_with_all_that_failed() -> None:
    """The row says since when, how often, why, and until when nothing is attempted."""
    health, window = seen("-----")
    assert health == Health(
        failing_since=NOW,
        failures=5,
        last_error="http_500",
        opened=1,
        open_until=NOW + 4 * clock.SECOND + FIRST_REST,
    )
    assert window.results == ()


def test_an_endpoint_that_is_well_costs_no_write() -> None:
    """Successes change nothing in the row."""
    assert seen("++++")[0] == Health()


def test_failures_are_written_once_a_minute() -> None:
    """The first at once, those that follow added up; an end of failures at once."""
    writes: list[tuple[int, int]] = []
    health, window = Health(), Window()
    for number in range(8):
        now = NOW + number * 20 * clock.SECOND
        sign = GOOD if number % 2 else BAD
        after_it, window = record(
            health, window, sign, "x", leave=Ordinary(), now=now, random=middle
        )
        if after_it != health:
            writes.append((number, after_it.failures))
        health = after_it
    # It fails at 0, 2, 4 and 6: the failure at 2 lies within the minute and was over at 3.
    assert writes == [(0, 1), (1, 0), (4, 1), (5, 0)]


def test_failures_that_were_not_written_come_with_the_next_write() -> None:
    """Added up, and counted from the first of them where the row knows of none."""
    window = Window(written_at=NOW - WRITTEN_EVERY + 2)
    health, window = record(Health(), window, BAD, "x", leave=Ordinary(), now=NOW, random=middle)
    assert (health, window.unwritten) == (Health(), 1)
    health, window = record(
        Health(), window, BAD, "timeout", leave=Ordinary(), now=NOW + 2, random=middle
    )
    assert health == Health(failing_since=NOW, failures=2, last_error="timeout")
    assert (window.unwritten, window.written_at) == (0, NOW + 2)


def test_failures_that_waited_too_long_are_left_out() -> None:
    """Another gateway may have seen a success since, so nobody is failing since then."""
    window = Window(unwritten=3, unwritten_since=NOW - WINDOW_AGE - 1, written_at=NOW)
    _, window = record(Health(), window, BAD, "x", leave=Ordinary(), now=NOW, random=middle)
    assert (window.unwritten, window.unwritten_since) == (1, NOW)


def test_a_resting_endpoint_is_not_attempted_and_then_asked_once() -> None:
    """Before the end of the rest nobody, after it whoever's claim is written."""
    assert may_attempt(Health(), NOW) == Go()
    assert may_attempt(RESTING, NOW) == Rest(NOW + FIRST_REST)
    then = NOW + FIRST_REST
    asked = may_attempt(RESTING, then)
    assert isinstance(asked, Ask)
    assert asked.leave == Probe(then + CLAIM)
    assert may_attempt(asked.claimed, then + CLAIM - 1) == Rest(then + CLAIM)
    assert isinstance(may_attempt(asked.claimed, then + CLAIM), Ask)


def test_a_probes_failure_lengthens_the_rest() -> None:
    """It doubles to an hour and no further."""
    health, rests = RESTING, list[int]()
    for _ in range(9):
        now = health.open_until or 0
        asked = may_attempt(health, now)
        assert isinstance(asked, Ask)
        health = after(asked.claimed, BAD, asked.leave, now)
        rests.append((health.open_until or 0) - now)
    assert [each // clock.MINUTE for each in rests] == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert rests[-1] == LONGEST_REST
    assert (health.opened, health.failures) == (10, 14)


@pytest.mark.parametrize("leave", [PROBED, Probe(1), Test()])
def test_a_success_that_was_asked_for_closes_it(leave: Leave) -> None:
    """A probe's, even a late one's, and a test's."""
    assert after(RESTING, GOOD, leave) == Health()


def test_what_began_before_it_opened_changes_nothing() -> None:
    """Neither a straggler's failure nor its success, nor a probe's whose claim another took."""
    assert after(RESTING, GOOD, Ordinary()) == RESTING
    for leave in (Ordinary(), Probe(1)):
        told = after(RESTING, BAD, leave)
        assert (told.opened, told.open_until) == (RESTING.opened, RESTING.open_until)


def test_a_tests_failure_is_its_callers() -> None:
    """Trying an endpoint does not make it fail."""
    for health in (Health(), RESTING):
        assert after(health, BAD, Test()) == health


def test_after_a_probe_that_says_nothing_it_rests_as_long_again() -> None:
    """A receiver that asks for less is not well yet, and not worse."""
    told = after(RESTING, NOTHING, PROBED)
    assert told == msgspec.structs.replace(RESTING, open_until=NOW + FIRST_REST)
    assert after(RESTING, NOTHING, Ordinary()) == RESTING
    assert after(Health(), NOTHING, Ordinary()) == Health()


def test_who_asks_for_fewer_is_not_left_alone_but_told_as_failing() -> None:
    """However often; a probe that is asked to come later rests as long as before."""
    health, window = Health(), Window()
    for n in range(2 * ENOUGH_SEEN):
        health, window = record(
            health,
            window,
            BUSY,
            "http_429",
            leave=Ordinary(),
            now=NOW + n * clock.MINUTE,
            random=middle,
        )
    assert (health.open_until, health.failing_since) == (None, NOW)
    assert (health.failures, health.last_error) == (2 * ENOUGH_SEEN, "http_429")
    assert after(RESTING, BUSY, PROBED).opened == RESTING.opened


def test_a_success_ends_a_run_of_failures() -> None:
    """What was counted is forgotten, in the row and in the window."""
    health, window = seen("--+")
    assert health == Health()
    assert window.unwritten == 0


def test_closing_begins_the_window_anew() -> None:
    """What failed before the rest is no reason to open it again."""
    _, window = record(RESTING, seen("----")[1], GOOD, None, leave=PROBED, now=NOW, random=middle)
    assert window.results == ((NOW, True),)


@pytest.mark.parametrize("sign", [GOOD, BAD])
def test_who_meets_a_resting_endpoint_begins_anew_too(sign: Sign) -> None:
    """The other gateways' old failures are no reason to open it again either."""
    _, window = record(
        RESTING, seen("----")[1], sign, "x", leave=Ordinary(), now=NOW, random=middle
    )
    assert window.results == ()


@given(opened=st.integers(1, 40), chance=st.floats(0, 1, exclude_max=True))
def test_what_is_held_is_looked_at_within_one_more_rest(opened: int, chance: float) -> None:
    """Not before the rest is over, and spread over its length after it."""
    health = msgspec.structs.replace(RESTING, opened=opened)
    held = hold_until(health, NOW, lambda: chance)
    assert 0 <= held - (health.open_until or 0) <= rest(opened)
    late = hold_until(health, NOW + 2 * FIRST_REST, lambda: chance)
    assert 0 <= late - (NOW + 2 * FIRST_REST) <= rest(opened)
    assert hold_until(Health(), NOW, lambda: chance) == NOW


@pytest.mark.parametrize(
    ("result", "sign"),
    [
        (Answer(204), GOOD),
        (Answer(302), BAD),
        (Answer(404), BAD),
        (Answer(410), BAD),
        (Answer(429), BUSY),
        (Answer(500), BAD),
        (Answer(400, control="abort-message"), NOTHING),
        (Answer(503), BAD),
        (Answer(503, retry_after="30"), BUSY),
        (Answer(503, retry_after="-5"), BAD),
        (Fault("timeout"), BAD),
        (Fault("blocked_address"), BAD),
        (Fault("secret_unreadable"), NOTHING),
    ],
)
def test_what_a_result_says_about_health(result: Result, sign: Sign) -> None:
    """A receiver that asks for patience is well; what is our fault is not held against it."""
    assert sign_of(result, NOW) is sign


@dataclass
class Row:
    """The endpoint's row, written only by who saw its last version."""

    health: Health = field(default_factory=Health)
    version: int = 0

    def write(self, seen: int, health: Health) -> bool:
        if seen != self.version:
            return False
        self.health, self.version = health, self.version + 1
        return True


@dataclass
class Flight:
    """An attempt under way."""

    gateway: "Gateway"
    leave: Leave
    began: int


@dataclass
class Gateway:
    """One gateway: what it saw of the row, up to a second ago, and of results."""

    row: Row
    cached: Health = field(default_factory=Health)
    version: int = 0
    read_at: int = 0
    window: Window = field(default_factory=Window)

    def look(self, now: int) -> None:
        if now - self.read_at >= clock.SECOND:
            self.read(now)

    def read(self, now: int) -> None:
        self.cached, self.version, self.read_at = self.row.health, self.row.version, now

    def begin(self, now: int) -> Leave | None:
        """An attempt's leave, if it has one."""
        self.look(now)
        match may_attempt(self.cached, now):
            case Go():
                return Ordinary()
            case Ask(claimed, leave):
                won = self.row.write(self.version, claimed)
                self.read(now)
                return leave if won else None
            case Rest():
                self.window = self.window.rested()
                return None

    def end(self, sign: Sign, leave: Leave, now: int, chance: float) -> None:
        if not isinstance(leave, Ordinary):
            self.read(now)
        before = self.window
        told, self.window = self.apply(before, sign, leave, now, chance)
        while told != self.cached and not self.row.write(self.version, told):
            self.read(now)
            told, _ = self.apply(before, sign, leave, now, chance)
        self.read(now)

    def apply(
        self, window: Window, sign: Sign, leave: Leave, now: int, chance: float
    ) -> tuple[Health, Window]:
        return record(self.cached, window, sign, "x", leave=leave, now=now, random=lambda: chance)


_chances = st.floats(0, 1, exclude_max=True)


class Fleet(RuleBasedStateMachine):
    """Three gateways, one endpoint, one clock."""

    @initialize()
    def begins(self) -> None:
        self.now = NOW
        self.row = Row()
        self.gateways = [Gateway(self.row, read_at=self.now) for _ in range(3)]
        self.flights: list[Flight] = []
        self.opened_at = 0

    @rule(seconds=st.sampled_from([0, 1, 5, 20, 61, 100, 1_000, 5_000]))
    def passes(self, seconds: int) -> None:
        self.now += seconds * clock.SECOND

    @precondition(lambda self: self.row.health.open_until is not None)
    @rule(early=st.sampled_from([-1, 0, 1, 3_000]))
    def the_rest_ends(self, early: int) -> None:
        self.now = max(self.now, (self.row.health.open_until or 0) - early)

    @rule(which=st.integers(0, 2), count=st.integers(1, 6))
    def attempts(self, which: int, count: int) -> None:
        for _ in range(count):
            before = self.row.health
            gateway = self.gateways[which]
            leave = gateway.begin(self.now)
            if leave is None:
                continue
            if isinstance(leave, Probe):
                assert before.open_until is not None
                assert self.now >= before.open_until, "no attempt while it is open"
                live = [
                    flight
                    for flight in self.flights
                    if isinstance(flight.leave, Probe)
                    and flight.began >= self.opened_at
                    and self.now - flight.began < CLAIM
                ]
                assert not live, "one probe a rest"
            elif before.open_until is not None:
                # What it knew of the row is a second old at most.
                assert self.now - self.opened_at < clock.SECOND
            self.flights.append(Flight(gateway, leave, self.now))

    @rule(which=st.integers(0, 2), sign=st.sampled_from(Sign), chance=_chances)
    def is_tested(self, which: int, sign: Sign, chance: float) -> None:
        before = self.row.health
        self.finish(Flight(self.gateways[which], Test(), self.now), sign, chance)
        if sign is GOOD:
            assert self.row.health == Health(), "closed for all"
        else:
            assert self.row.health == before

    @precondition(lambda self: self.flights)
    @rule(
        data=st.data(), sign=st.sampled_from([BAD, BAD, BAD, GOOD, BUSY, NOTHING]), chance=_chances
    )
    def ends(self, data: st.DataObject, sign: Sign, chance: float) -> None:
        flight = data.draw(st.sampled_from(self.flights))
        self.flights.remove(flight)
        self.finish(flight, sign, chance)

    @precondition(lambda self: self.flights)
    @rule(chance=_chances)
    def all_fail(self, chance: float) -> None:
        for flight in self.flights:
            self.finish(flight, BAD, chance)
        self.flights = []

    @precondition(lambda self: self.flights)
    @rule()
    def a_gateway_dies(self) -> None:
        """Its attempts are never heard of."""
        dead = self.flights[0].gateway
        self.flights = [flight for flight in self.flights if flight.gateway is not dead]
        number = next(n for n, each in enumerate(self.gateways) if each is dead)
        self.gateways[number] = Gateway(self.row, read_at=0)

    def finish(self, flight: Flight, sign: Sign, chance: float) -> None:
        before = self.row.health
        flight.gateway.end(sign, flight.leave, self.now, chance)
        told = self.row.health
        was_open = before.open_until is not None
        current = isinstance(flight.leave, Probe) and flight.leave.claim == before.open_until
        if was_open and not current:
            closed = sign is GOOD and not isinstance(flight.leave, Ordinary)
            assert (
                told == Health()
                if closed
                else ((told.opened, told.open_until) == (before.opened, before.open_until))
            ), "a straggler neither lengthens the rest nor ends it"
        if was_open and current:
            assert (
                told.opened
                == {
                    GOOD: 0,
                    BAD: before.opened + 1,
                    BUSY: before.opened,
                    NOTHING: before.opened,
                }[sign]
            )
        if told.open_until not in {None, before.open_until}:
            self.opened_at = self.now
            assert told.open_until is not None
            pause = told.open_until - self.now
            doubled = min(FIRST_REST * 2 ** (told.opened - 1), LONGEST_REST)
            assert (1 - JITTER) * doubled - 1 <= pause <= (1 + JITTER) * doubled + 1

    @invariant()
    def is_whole(self) -> None:
        health = self.row.health
        assert (health.opened > 0) == (health.open_until is not None)
        assert health.failures == 0 or health.failing_since is not None
        assert health.failing_since is None or health.failing_since <= self.now


Fleet.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestFleet = Fleet.TestCase
