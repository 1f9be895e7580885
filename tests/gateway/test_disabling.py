"""When tenants are warned of an endpoint, and when it is disabled."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery import Answer, Fault, Result
from gateway.disabling import (
    ENOUGH_FAILURES,
    PATIENCE,
    Consequence,
    Disable,
    Recovered,
    Warn,
    asked,
    consequence,
    trouble,
)
from shared import clock
from shared.events import EndpointTrouble
from shared.ids import EndpointId, TenantId
from shared.webhook import Endpoint, EndpointStatus, Health

NOW = 1_700_000_000_000
MANY = 2 * ENOUGH_FAILURES


def failing(share: float, failures: int = MANY, *, opened: int = 1, warned: int = 1) -> Health:
    """An endpoint that has been failing for so much of the time it has."""
    return Health(
        failing_since=NOW - round(share * PATIENCE),
        failures=failures,
        last_error="timeout",
        opened=opened,
        open_until=NOW if opened else None,
        warned=warned,
    )


def follows(health: Health) -> Consequence | None:
    return consequence(health, health, NOW)


def warned(health: Health) -> int | None:
    told = follows(health)
    return told.health.warned if isinstance(told, Warn) else None


def test_a_few_failures_are_nothing_to_tell() -> None:
    """Before the breaker opens or half of the time is gone, nobody is bothered."""
    assert follows(failing(0.49, opened=0, warned=0)) is None


def test_it_is_told_that_the_breaker_opened() -> None:
    """Once in a run of failures, with the day on which it will be disabled."""
    told = follows(failing(0.01, 5, warned=0))
    assert told == Warn(
        failing(0.01, 5, warned=1),
        "It keeps failing, and is left alone for growing pauses between attempts.",
        NOW - round(0.01 * PATIENCE) + PATIENCE,
    )
    assert follows(failing(0.01, 5, warned=1)) is None


@pytest.mark.parametrize(
    ("share", "failures", "before", "level"),
    [
        (0.5, MANY, 1, 2),
        (0.5, MANY, 2, None),
        (0.9, MANY, 2, 3),
        (0.9, MANY, 3, None),
        (0.95, MANY, 0, 3),  # who was not told before is told once
        (0.9, ENOUGH_FAILURES // 2, 1, 2),  # the failures are only half of what is needed
        (2.0, ENOUGH_FAILURES - 2, 2, 3),
        (0.9, 3, 1, None),
    ],
)
def test_warnings_come_at_half_and_at_nine_tenths(
    share: float, failures: int, before: int, level: int | None
) -> None:
    """Of the time and of the failures, whichever is less; each once."""
    assert warned(failing(share, failures, warned=before)) == level


def test_an_endpoint_that_hears_little_is_warned_of_too() -> None:
    """Its breaker need not have opened."""
    assert warned(failing(0.5, opened=0, warned=0)) == 2


def test_a_warning_names_a_day_that_is_not_over() -> None:
    """Where only failures are missing, the next ones decide."""
    told = follows(failing(1.5, ENOUGH_FAILURES - 1, warned=1))
    assert isinstance(told, Warn)
    assert told.disable_at == NOW
    assert told.reason == "Nothing has succeeded for 7 days."


@pytest.mark.parametrize(
    ("share", "failures", "disabled"),
    [
        (1.0, ENOUGH_FAILURES, True),
        (0.999, MANY, False),
        (3.0, ENOUGH_FAILURES - 1, False),
    ],
)
def test_it_is_disabled_after_five_days_and_twenty_failures(
    share: float, failures: int, *, disabled: bool
) -> None:
    """Both, without any success."""
    assert isinstance(follows(failing(share, failures, warned=3)), Disable) is disabled


def test_the_reason_is_in_words() -> None:
    """A person reads it."""
    assert follows(failing(1.0, 31, warned=3)) == Disable(
        "Nothing succeeded for 5 days, and 31 attempts failed."
    )


def test_recovery_is_told_to_who_was_warned() -> None:
    """And to nobody else: a few failures were never spoken of."""
    assert consequence(failing(0.1, warned=1), Health(), NOW) == Recovered()
    assert consequence(failing(0.1, warned=0, opened=0), Health(), NOW) is None
    assert consequence(Health(), Health(), NOW) is None


@given(
    steps=st.lists(
        st.tuples(st.integers(0, clock.DAY), st.integers(0, 5), st.booleans()), max_size=60
    )
)
def test_each_thing_is_told_once_in_a_run_of_failures(
    steps: list[tuple[int, int, bool]],
) -> None:
    """However failures are strewn over time, at most three warnings, in order, then the end."""
    now, health = NOW, Health(failing_since=NOW)
    told: list[Consequence] = []
    for passes, failures, opens in steps:
        now += passes
        after = msgspec.structs.replace(
            health, failures=health.failures + failures, opened=health.opened + opens
        )
        follow = consequence(health, after, now)
        health = after
        if isinstance(follow, Warn):
            health = follow.health
            assert follow.disable_at >= now
        if follow is not None:
            told.append(follow)
        if isinstance(follow, Disable):
            assert now - NOW >= PATIENCE
            assert health.failures >= ENOUGH_FAILURES
            break
    levels = [each.health.warned for each in told if isinstance(each, Warn)]
    assert levels == sorted(set(levels))


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (Answer(410), "It answered 410 Gone."),
        (Answer(200, control="disable"), "It asked to be disabled."),
        (Answer(500, control="disable"), "It asked to be disabled."),
        (Answer(200), None),
        (Answer(400, control="abort-message"), None),
        (Fault("timeout"), None),
    ],
)
def test_an_endpoint_may_ask_to_be_disabled(result: Result, reason: str | None) -> None:
    """By 410 Gone or by the header, at once."""
    assert asked(result) == (None if reason is None else Disable(reason))


def test_what_the_tenant_is_told() -> None:
    """The event names the endpoint, since when and how often it failed, and what will follow."""
    endpoint = Endpoint(
        id=EndpointId("ep"),
        tenant_id=TenantId("t"),
        url="https://example.com/hook?token=1",
        events=("*",),
        sealed_secret=b"",
        status=EndpointStatus.ENABLED,
        created_at=NOW,
        updated_at=NOW,
    )
    health = failing(0.5)
    warn = Warn(health, "Why.", NOW + clock.DAY)
    assert trouble(endpoint, health, warn) == EndpointTrouble(
        endpoint_id=endpoint.id,
        url="https://example.com/hook",
        reason="Why.",
        failing_since=clock.instant(NOW - PATIENCE // 2),
        failures=MANY,
        last_error="timeout",
        disable_at=clock.instant(NOW + clock.DAY),
    )
    gone = trouble(endpoint, Health(), Disable("It answered 410 Gone."))
    assert (gone.failing_since, gone.disable_at) == (None, None)
    assert trouble(endpoint, health, Recovered()).reason == "It answered with success again."
