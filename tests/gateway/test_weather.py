"""What a gateway's sessions make of failed dials together."""

import heapq
import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.backoff import LONGEST
from gateway.weather import FEW, SPACING, Weather
from shared.ids import SessionId


def missing(number: int, held: int) -> tuple[Weather, list[int]]:
    """Weather in which so many of those held do not get through, and who was woken."""
    weather, woken = Weather(lambda: held), list[int]()
    for each in range(number):
        weather.missed(SessionId(f"ses_{each}"), lambda each=each: woken.append(each))
    return weather, woken


@given(st.integers(0, 40), st.integers(1, 40))
def test_it_is_foul_when_most_do_not_get_through(number: int, held: int) -> None:
    """A few may have troubles of their own, however few are held."""
    weather, _ = missing(min(number, held), held)
    assert weather.foul is (weather.waiting >= FEW and weather.waiting > held / 2)


def test_who_gets_through_wakes_the_others() -> None:
    """Each once; who left meanwhile is not waited for."""
    weather, woken = missing(8, 10)
    weather.left(SessionId("ses_3"))
    weather.reached(SessionId("ses_0"))
    assert woken == [1, 2, 4, 5, 6, 7]
    assert (weather.foul, weather.waiting) == (False, 0)
    weather.reached(SessionId("ses_1"))
    assert len(woken) == 6


def test_troubles_of_ones_own_are_not_mended_by_others() -> None:
    """While most get through, one more that does is no news to the few that do not."""
    weather, woken = missing(8, 100)
    weather.reached(SessionId("ses_50"))
    assert woken == []
    assert weather.waiting == 8
    assert weather.pause(SessionId("ses_0"), 1, 0.0) == 0.5


def test_only_who_will_be_woken_waits_for_long() -> None:
    """One whose connection was lost, or whose proxy fails, is on no list: it dials by itself."""
    weather, _ = missing(8, 10)
    assert weather.foul
    assert weather.pause(SessionId("ses_9"), 1, 0.0) == 0.5
    weather.left(SessionId("ses_0"))
    assert weather.pause(SessionId("ses_0"), 1, 0.0) == 0.5


def test_who_waits_for_long_is_woken_though_many_came_meanwhile() -> None:
    """A shard that was won makes those that do not get through a minority."""
    held = 10
    weather, woken = Weather(lambda: held), list[int]()
    for each in range(8):
        weather.missed(SessionId(f"ses_{each}"), lambda each=each: woken.append(each))
    assert weather.pause(SessionId("ses_0"), 1, 0.0) > 2
    held = 100
    weather.reached(SessionId("ses_50"))
    assert len(woken) == 8


@given(st.integers(FEW, 1000), st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_in_foul_weather_a_pause_grows_with_the_company(
    number: int, failures: int, jitter: float
) -> None:
    """So that together they dial as often as one alone would."""
    weather, _ = missing(number, number)
    seconds = weather.pause(SessionId("ses_0"), failures, jitter)
    assert number * SPACING / 2 <= seconds <= number * SPACING * 1.5


def test_hundreds_that_failed_together_dial_apart() -> None:
    """An outage of an hour costs a dial every few seconds, never many in one second."""
    chance, hour, sessions = random.Random(1), 3600.0, 500
    weather = Weather(lambda: sessions)
    turns = [(chance.random(), each, 0) for each in range(sessions)]
    heapq.heapify(turns)
    dials = list[float]()
    while turns[0][0] < hour:
        now, each, failures = heapq.heappop(turns)
        dials.append(now)
        weather.missed(SessionId(f"ses_{each}"), lambda: None)
        later = now + weather.pause(SessionId(f"ses_{each}"), failures + 1, chance.random())
        heapq.heappush(turns, (later, each, failures + 1))
    steady = [at for at in dials if at > 2 * LONGEST]
    seconds = [sum(start <= at < start + 1 for at in steady) for start in range(600, 3600)]
    assert max(seconds) <= 4
    assert len(steady) / (hour - 2 * LONGEST) < 1.5 / SPACING
    assert max(b - a for a, b in pairwise(steady)) < 60
