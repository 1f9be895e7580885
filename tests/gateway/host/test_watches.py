"""What is overdue, by a clock of the test's own."""

import pytest

from gateway.frames import Watch
from gateway.host.disconnects import WATCHES
from gateway.host.verdict import Fate
from gateway.host.watches import DROPS, Watches
from gateway.limits import Limits
from shared.session import Trigger

LIMITS = Limits()


def watches(*, connected: bool = False, jitter: float = 0.5) -> Watches:
    made = Watches(LIMITS, jitter)
    made.dialled(0.0)
    if connected:
        made.connected()
    return made


def test_a_dial_is_given_its_time() -> None:
    """Then it is said that nothing was heard; a login ends the waiting."""
    dialled = watches()
    assert dialled.login(LIMITS.first_word, sending=False) is None
    assert dialled.login(LIMITS.first_word + 1, sending=True) is Watch.FIRST_WORD
    dialled.connected()
    assert dialled.login(1e9, sending=False) is None


def test_a_phone_that_confirmed_is_followed_by_a_login() -> None:
    """Sooner than a first word: the library dials once, and says nothing if that fails."""
    linked = watches()
    linked.paired(100.0)
    until = 100.0 + LIMITS.login_after_pairing
    assert linked.login(until, sending=False) is None
    assert linked.login(until + 1, sending=False) is Watch.LOGIN_AFTER_PAIRING


@pytest.mark.parametrize(("jitter", "share"), [(0.0, 0.8), (0.5, 1.0), (0.999, 1.2)])
def test_a_lost_connection_comes_back_in_time(jitter: float, share: float) -> None:
    """Hosts that lost it together give up apart; none while the library has a message in hand."""
    lost = watches(connected=True, jitter=jitter)
    assert lost.dropped(10.0) is None
    assert lost.dropped(11.0) is None
    until = 10.0 + share * LIMITS.redial
    assert lost.login(until - 1, sending=False) is None
    assert lost.login(until + 1, sending=True) is None
    assert lost.login(until + 1, sending=False) is Watch.REDIAL


def test_a_try_that_fails_is_not_a_lost_connection() -> None:
    """Before the first login a drop changes nothing of what is waited for."""
    dialled = watches()
    assert all(dialled.dropped(float(each)) is None for each in range(2 * DROPS))
    assert dialled.login(LIMITS.first_word + 1, sending=False) is Watch.FIRST_WORD


def test_a_connection_that_drops_again_and_again_is_left_alone_for_a_while() -> None:
    """A few times in an hour are none of that."""
    flapping = watches(connected=True)
    for each in range(1, 2 * DROPS):
        seldom = flapping.dropped(each * LIMITS.unsteady / 2)
        assert seldom is None
        flapping.connected()
    often = list[Watch | None]()
    for each in range(DROPS):
        often.append(flapping.dropped(10_000.0 + each))
        flapping.connected()
    assert often == [*[None] * (DROPS - 1), Watch.FLAPPING]


def test_silence_is_told_from_quiet() -> None:
    """The library pings, so a connection that is well is never quiet for long."""
    here = watches(connected=True)
    assert here.hearing(0.0, LIMITS.silence) is None
    assert here.hearing(0.0, LIMITS.silence + 1) is Watch.SILENCE
    here.dropped(1.0)
    assert here.hearing(2.0, 1e9) is None


def test_a_login_without_a_connection_is_no_login() -> None:
    """For a moment it may be so: the library dials again where WhatsApp asks for it."""
    here = watches(connected=True)
    assert here.hearing(0.0, None) is None
    assert here.hearing(LIMITS.unconnected, None) is None
    assert here.hearing(LIMITS.unconnected + 1, None) is Watch.UNCONNECTED
    assert here.hearing(100.0, 0.1) is None
    assert here.hearing(200.0, None) is None


def test_every_watch_of_the_host_has_a_verdict() -> None:
    """A new process tries again; the others are seen from outside."""
    outside = {Watch.PULSE, Watch.SEND, Watch.TAKE, Watch.STOP, Watch.DEAF}
    assert WATCHES.keys() == set(Watch) - outside
    for verdict in WATCHES.values():
        assert verdict.fate is Fate.AGAIN
        assert verdict.change is not None
        assert verdict.change.trigger is Trigger.DROP


def test_limits_scale_together() -> None:
    """Their order stays, and with it what is noticed first."""
    assert LIMITS.scaled(1.0) == LIMITS
    assert LIMITS.scaled(0.1).send == pytest.approx(LIMITS.send / 10)
