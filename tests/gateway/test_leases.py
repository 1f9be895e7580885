"""The plan of the leases, case by case."""

from gateway.leases import (
    BURY_SHARE,
    GRACE_SHARE,
    SAFE_SHARE,
    TURNS,
    Hold,
    Plan,
    Standing,
    View,
    bequests,
    deadline,
    overdue,
    plan,
    renewed,
    saw_leases,
    saw_workers,
    spread,
)
from shared.ids import WorkerId
from shared.store.leases import Lease, Worker

ME, OTHER, THIRD = WorkerId("gw_me"), WorkerId("gw_other"), WorkerId("gw_third")
TTL = 10.0


def lease(
    shard: int,
    owner: WorkerId | None = OTHER,
    wanted_by: WorkerId | None = None,
    *,
    stamp: str = "a",
) -> Lease:
    return Lease(shard=shard, epoch=3, stamp=stamp, owner=owner, wanted_by=wanted_by)


def alive(*names: WorkerId, stamp: str = "w", leaving: bool = False) -> list[Worker]:
    return [Worker(worker=name, stamp=stamp, leaving=leaving) for name in names]


def saw(known: View, shards: int, rows: list[Lease | Worker], now: float) -> View:
    """After a turn in which all was read."""
    workers = [row for row in rows if isinstance(row, Worker)]
    leases = [row for row in rows if isinstance(row, Lease)]
    return saw_leases(saw_workers(known, workers, now), shards, leases, now)


def view(*rows: Lease | Worker, at: float = 0, shards: int | None = None) -> View:
    count = sum(isinstance(row, Lease) for row in rows) if shards is None else shards
    return saw(View(), count, list(rows), at)


def planned(
    known: View,
    *,
    now: float = 0,
    holds: dict[int, Hold] | None = None,
    handing: frozenset[int] = frozenset(),
    closing: frozenset[int] = frozenset(),
) -> Plan:
    return plan(Standing(ME, known, now, TTL), holds or {}, handing, closing)


def holding(known: View) -> dict[int, Hold]:
    return {
        shard: Hold(seen.lease, until=8)
        for shard, seen in known.leases.items()
        if seen.lease.owner == ME
    }


def taken(todo: Plan) -> list[int]:
    return [lease.shard for lease in todo.take]


def test_a_shard_nobody_ever_held_is_taken() -> None:
    """A shard without a row is there for whoever comes first."""
    todo = planned(view(shards=2))
    assert [(lease.shard, lease.epoch) for lease in todo.take] == [(0, 0), (1, 0)]


def test_a_live_lease_is_left_alone() -> None:
    """Another's lease is not touched before one lease time without a new stamp."""
    assert planned(view(lease(0), *alive(OTHER)), now=TTL - 0.001) == Plan()


def test_a_lapsed_lease_is_taken() -> None:
    """A stamp unchanged for one lease time on our clock is free, with or without an owner's row."""
    assert planned(view(lease(0), *alive(OTHER)), now=TTL).take == (lease(0),)
    assert planned(view(lease(0)), now=TTL).take == (lease(0),)


def test_a_lapse_is_over_before_the_read_that_shows_it() -> None:
    """A word that came while the table was read may not have been seen."""
    known = view(lease(0), *alive(OTHER), at=0)
    later = saw(known, 1, [lease(0), *alive(OTHER)], now=TTL + 1)
    assert planned(later, now=TTL - 1).take == ()
    given_back = saw(known, 1, [lease(0, None, stamp="b")], now=TTL + 1)
    assert taken(planned(given_back, now=TTL)) == [0]


def test_a_lease_given_back_is_taken_at_once() -> None:
    """A resigned lease has no owner to wait for."""
    assert taken(planned(view(lease(0, owner=None)))) == [0]


def test_a_lease_won_by_a_lost_answer_is_taken_again() -> None:
    """What the table calls ours and we do not hold needs no waiting, only a new epoch."""
    known = view(lease(0, owner=ME), *alive(ME))
    assert taken(planned(known)) == [0]
    assert taken(planned(known, holds=holding(known))) == []


def test_nothing_is_taken_while_its_sockets_close() -> None:
    """A shard we lost is not ours again before its last socket is closed."""
    closing = frozenset({0, 1})
    assert taken(planned(view(lease(0, None), lease(1, ME)), closing=closing)) == []


def test_what_the_table_gave_to_another_is_lost() -> None:
    """Owner and fencing token must be ours; a lease without a row is nobody's."""
    known = view(lease(0, owner=ME), lease(1), *alive(ME, OTHER), shards=3)
    held = {shard: Hold(lease(shard, ME), 8) for shard in range(3)}
    assert planned(known, holds=held).lost == (1, 2)
    wanted = view(lease(0, OTHER, THIRD), lease(1, OTHER, THIRD), *alive(ME, OTHER, THIRD))
    held = {shard: Hold(lease(shard, ME), 8) for shard in range(2)}
    assert planned(wanted, holds=held).hand_over == ()
    later = {0: Hold(Lease(shard=0, epoch=4, stamp="b", owner=ME), 8)}
    assert planned(known, holds=later).lost == (0,)


def test_a_new_stamp_starts_the_watch_anew() -> None:
    """The time of a sighting is that of the lease's stamp and of its owner's."""
    first = view(lease(0), *alive(OTHER), at=1)
    same = saw(first, 1, [lease(0), *alive(OTHER)], now=2)
    vouched = saw(same, 1, [lease(0), *alive(OTHER, stamp="x")], now=3)
    other = saw(vouched, 1, [lease(0, stamp="b"), *alive(OTHER, stamp="x")], now=4)
    gone = saw(other, 1, [lease(0, stamp="b")], now=5)
    since = [
        at.free_since(at.view.leases[0]) - TTL
        for at in (Standing(ME, known, 5, TTL) for known in (first, same, vouched, other, gone))
    ]
    assert since == [1, 1, 3, 4, 5]
    assert [each.peers[OTHER].since for each in (first, same, vouched, other)] == [1, 1, 3, 3]


def test_an_unrenewed_lease_is_overdue_before_it_lapses() -> None:
    """The holder stops at four fifths of the lease time, counted from before its request."""
    hold = Hold(lease(0, ME), deadline(5.0, TTL))
    assert overdue({0: hold}, 5.0 + SAFE_SHARE * TTL - 0.01) == ()
    assert overdue({0: hold}, 5.0 + SAFE_SHARE * TTL) == (0,)


def test_an_answer_renews_only_what_is_still_held() -> None:
    """A word that came back too late may be younger than another's taking of the lease."""
    held = {0: Hold(lease(0, ME), until=8), 1: Hold(lease(1, ME), until=4)}
    after = renewed(held, 3, 5, TTL)
    assert [hold.until for hold in after.values()] == [11, 4]
    later = {0: Hold(lease(0, ME), until=20)}
    assert renewed(later, 3, 5, TTL) == later


def test_free_shards_go_to_whoever_has_least() -> None:
    """Whoever computes it, the outcome is the same, and as even as it can be."""
    assert spread({3, 1, 2, 0}, {ME: 2, OTHER: 0}) == {0: OTHER, 1: OTHER, 2: OTHER, 3: ME}
    assert spread([1], {}) == {}


def test_of_those_who_have_least_the_newest_gets_it() -> None:
    """Who came last stays longest, so in a rolling replacement a shard is not moved again."""
    old, new = WorkerId("gw_01"), WorkerId("gw_02")
    assert spread([0, 1], {old: 3, new: 3}) == {0: new, 1: old}


def test_heirs_are_alike_in_whatever_order_gateways_were_seen_to_die() -> None:
    """What is about to lapse is dealt out with what has, and to nobody who may be dying too."""
    rows = [*(lease(n, OTHER) for n in range(2)), *(lease(n, THIRD) for n in range(2, 4))]
    known = saw(view(*rows, *alive(THIRD)), 4, [*rows, *alive(THIRD), *alive(OTHER)], now=1)
    first, both = Standing(ME, known, TTL, TTL), Standing(ME, known, TTL + 1, TTL)
    assert first.free.keys() == {2, 3}
    assert first.heirs == both.heirs == dict.fromkeys(range(4), ME)


def test_who_came_too_late_to_know_of_a_death_inherits_nothing_of_it() -> None:
    """It would wait for a lease time of its own, though it has least; of later ones it does."""
    newcomer = WorkerId("gw_z")
    rows = [lease(0), lease(1, THIRD), lease(2, ME)]
    known = view(*rows, *alive(ME, OTHER, THIRD))
    beats = [*alive(ME, newcomer, stamp="x"), *alive(OTHER, THIRD)]
    joined = saw(known, 3, [*rows, *beats], now=2)
    assert Standing(ME, joined, 5, TTL).lapsing == {}
    assert Standing(ME, joined, 7, TTL).heirs == {0: ME, 1: ME}
    beats = [*alive(ME, newcomer, stamp="y"), *alive(THIRD, stamp="x"), *alive(OTHER)]
    heard = saw(joined, 3, [*rows, *beats], now=4)
    assert Standing(ME, heard, 8, TTL).heirs == {0: THIRD}
    beats = [*alive(ME, newcomer, stamp="z"), *alive(THIRD, stamp="x"), *alive(OTHER)]
    later = saw(heard, 3, [*rows, *beats], now=11)
    assert Standing(ME, later, 11, TTL).heirs == {0: ME, 1: newcomer}


def test_who_came_too_late_is_better_than_nobody() -> None:
    """It takes what was the others', a lease time after it came."""
    newcomer = WorkerId("gw_z")
    rows = [lease(0), lease(1, ME)]
    known = view(*rows, *alive(ME, OTHER, newcomer))
    assert Standing(newcomer, known, TTL - 1, TTL).heirs == dict.fromkeys(range(2), newcomer)


def test_who_goes_says_who_is_to_have_its_shards() -> None:
    """Whoever was told so before, if he is there; the rest go to whoever has least."""
    rows = (lease(0, ME, OTHER), lease(1, ME), lease(2, ME, WorkerId("gw_gone")))
    known = view(*rows, *alive(ME, OTHER, THIRD))
    at = Standing(ME, known, 0, TTL)
    assert bequests(at, holding(known)) == {0: OTHER, 1: THIRD, 2: THIRD}
    alone = view(lease(0, ME), *alive(ME))
    assert bequests(Standing(ME, alone, 0, TTL), holding(alone)) == {}


def test_a_shard_on_its_way_to_us_is_looked_out_for() -> None:
    """From when we asked for it, or were told, until it is ours."""
    known = view(lease(0, OTHER, ME), lease(1, None, ME), lease(2, ME, ME), lease(3, OTHER, THIRD))
    assert Standing(ME, known, 0, TTL).expected() == (0, 1)


def test_leases_are_read_while_they_may_change_hands() -> None:
    """All held by who is well, and evenly: then only where the others tell of a change."""
    even = (lease(0), lease(1, ME), *alive(ME, OTHER))
    assert not Standing(ME, view(*even), 0, TTL).restless()
    assert Standing(ME, view(*even), 0.7 * TTL, TTL).restless(), "one may be dying"
    assert Standing(ME, view(*even, lease(2, None)), 0, TTL).restless()
    uneven = view(lease(0), lease(1), lease(2), *alive(ME, OTHER))
    assert Standing(ME, uneven, 0, TTL).restless()
    assert not Standing(ME, uneven, 0, TTL, patience=1).restless(), "nobody asks yet"


def test_gateways_tell_of_what_they_wrote_and_that_they_go() -> None:
    """What we did ourselves we know."""
    wrote = Worker(worker=OTHER, stamp="w", moves=3)
    known = view(lease(0), wrote, *alive(THIRD, leaving=True), *alive(ME))
    assert Standing(ME, known, 0, TTL).news() == {OTHER: (False, 3), THIRD: (True, 0)}


def test_nobody_asks_before_the_fleet_is_steady() -> None:
    """In a rolling replacement those who go hand over what newcomers would ask others for."""
    rows = [*(lease(n) for n in range(4)), *(lease(n, ME) for n in (4, 5)), *alive(ME, OTHER)]
    known = view(*rows)
    assert not plan(Standing(ME, known, 1, TTL, patience=2), {}, (), ()).ask
    assert plan(Standing(ME, known, 2, TTL, patience=2), {}, (), ()).ask
    went = saw(known, 6, [*rows, *alive(THIRD, leaving=True)], now=2)
    assert plan(Standing(ME, went, 2, TTL, patience=2), {}, (), ()).ask, "it was not there"
    came = saw(known, 6, [*rows, *alive(THIRD)], now=2)
    assert not plan(Standing(ME, came, 2, TTL, patience=2), {}, (), ()).ask


def test_the_first_of_a_fleet_is_asked_at_once() -> None:
    """Who has more than twice its share cannot wait until the last has come."""
    alone = view(*(lease(n) for n in range(4)), *alive(ME, OTHER))
    assert not plan(Standing(ME, alone, 0, TTL, patience=2), {}, (), ()).ask
    crowd = view(*(lease(n) for n in range(6)), *alive(ME, OTHER, THIRD))
    assert plan(Standing(ME, crowd, 0, TTL, patience=2), {}, (), ()).ask


def test_each_takes_its_share_of_what_is_free() -> None:
    """While another may be on its way to the rest, the rest is left to it; not for long."""
    known = view(*(lease(shard, None) for shard in range(4)), *alive(ME, OTHER))
    assert taken(planned(known)) == [1, 3]
    assert taken(planned(known, now=GRACE_SHARE * TTL)) == [0, 1, 2, 3]


def test_what_is_kept_for_somebody_is_left_to_him() -> None:
    """A lease given back for a gateway is that gateway's, unless it is gone or does not come."""
    known = view(lease(0, None, OTHER), lease(1, None, ME), *alive(ME, OTHER))
    assert taken(planned(known)) == [1]
    assert taken(planned(known, now=GRACE_SHARE * TTL)) == [0, 1]
    gone = view(lease(0, None, OTHER), lease(1, None, ME), *alive(ME))
    assert sorted(taken(planned(gone))) == [0, 1]
    leaving = view(lease(0, None, OTHER), *alive(ME), *alive(OTHER, leaving=True))
    assert taken(planned(leaving)) == [0]


def test_who_has_too_little_asks_whoever_has_most() -> None:
    """A newcomer asks for two at a time, of the richest, until one more would change nothing."""
    rows = [lease(0, THIRD), *(lease(shard) for shard in range(1, 6))]
    todo = planned(view(*rows, *alive(ME, OTHER, THIRD)))
    assert {each.owner for each in todo.ask} == {OTHER}
    assert len(todo.ask) == 2
    rows[1:3] = [lease(1, OTHER, ME), lease(2, OTHER, ME)]
    assert planned(view(*rows, *alive(ME, OTHER, THIRD))).ask == ()
    even = view(lease(0), lease(1, ME), lease(2), *alive(ME, OTHER))
    assert planned(even, holds=holding(even)).ask == ()


def test_nobody_asks_for_what_another_asked_for() -> None:
    """Unless that one is gone."""
    rows = (lease(0, OTHER, THIRD), lease(1, OTHER, THIRD))
    assert planned(view(*rows, *alive(ME, OTHER, THIRD))).ask == ()
    assert len(planned(view(*rows, *alive(ME, OTHER))).ask) == 1


def test_nothing_moves_while_somebody_is_unwell() -> None:
    """A silent gateway, one that leaves, a free lease: first those, then evenness."""
    rows = (lease(0), lease(1), lease(2))
    known = view(*rows, *alive(ME, OTHER))
    assert planned(known).ask
    assert not planned(known, now=0.7 * TTL).ask
    assert not planned(view(*rows, *alive(ME), *alive(OTHER, leaving=True))).ask
    assert not planned(view(*rows, lease(3, None), *alive(ME, OTHER))).ask
    assert planned(view(*rows, lease(3, None, ME), *alive(ME, OTHER))).ask
    mine = view(*(lease(n, ME, OTHER) for n in range(2)), lease(2, None), *alive(ME, OTHER))
    assert not planned(mine, holds=holding(mine)).hand_over


def test_an_ask_that_is_needed_no_more_is_withdrawn() -> None:
    """It would only change who has more."""
    known = view(lease(0, OTHER, ME), lease(1, ME), *alive(ME, OTHER))
    assert planned(known, holds=holding(known)).withdraw == (lease(0, OTHER, ME),)
    dead = view(lease(0, OTHER, ME), lease(1, ME), *alive(ME))
    assert planned(dead, holds=holding(dead)).withdraw == ()


def test_a_holder_gives_what_it_has_too_much() -> None:
    """However many ask at once, it keeps its share, and moves two at a time."""
    rows = [lease(0, ME, OTHER), lease(1, ME, OTHER), lease(2, ME, THIRD)]
    known = view(*rows, *alive(ME, OTHER, THIRD))
    todo = planned(known, holds=holding(known))
    assert [each.shard for each in todo.hand_over] == [0, 2]
    todo = planned(known, holds=holding(known), handing=frozenset({0}))
    assert [each.shard for each in todo.hand_over] == [2]
    todo = planned(known, holds=holding(known), handing=frozenset({0, 2}))
    assert todo.hand_over == ()


def test_who_is_gone_is_buried() -> None:
    """A gateway that was silent for long, and holds nothing, leaves no row."""
    known = view(lease(0, ME), *alive(ME, OTHER))
    long = BURY_SHARE * TTL
    assert planned(known, now=long - 1, holds=holding(known)).bury == ()
    assert planned(known, now=long, holds=holding(known)).bury == tuple(alive(OTHER))


def test_one_buries_for_all() -> None:
    """The newest, or anybody where it does not."""
    rows = [lease(0, ME), *alive(ME, OTHER)]
    known = saw(view(*rows), 1, [*rows, *alive(THIRD)], now=2 * TTL)
    long = BURY_SHARE * TTL
    assert planned(known, now=long, holds=holding(known)).bury == ()
    still = saw(known, 1, [*rows, *alive(THIRD, stamp="x")], now=2 * long)
    assert planned(still, now=2 * long, holds=holding(known)).bury == tuple(alive(OTHER))


def test_the_next_turn_is_when_something_becomes_free() -> None:
    """So that it is taken then, not up to a turn later."""
    known = view(lease(0, ME), lease(1), *alive(ME, OTHER), at=2)
    turn = TTL / TURNS
    assert Standing(ME, known, 3, TTL).next_turn() == 3 + turn, "nothing is about to be free"
    assert Standing(ME, known, 1 + TTL, TTL).next_turn() == 2 + TTL
    assert Standing(ME, known, 2 + TTL, TTL).next_turn() == 2 + TTL + turn, "that took it"
    assert Standing(ME, view(lease(0, ME)), 3, TTL).next_turn() == 3 + turn


def test_what_becomes_free_during_a_look_is_looked_at_next() -> None:
    """The look judged by its beginning: whenever it ends, the moment is not missed."""
    known = view(lease(0, ME), lease(1), *alive(ME, OTHER), at=2)
    judged = Standing(ME, known, 2 + TTL - 0.001, TTL)
    assert judged.next_turn() == 2 + TTL, "although it may be past when it is asked for"


def test_who_is_no_heir_looks_when_the_heir_had_its_time() -> None:
    """A whole fleet that looks at every lapse would be too many readers at once."""
    known = view(lease(0), *alive(OTHER, WorkerId("gw_z"), ME), at=2)
    still = saw(known, 1, [lease(0), *alive(OTHER), *alive(WorkerId("gw_z"), stamp="x")], 1 + TTL)
    grace = GRACE_SHARE * TTL
    assert Standing(ME, still, 1 + TTL, TTL).next_turn() == 1 + TTL + TTL / TURNS
    assert Standing(ME, still, 2 + TTL, TTL).next_turn() == 2 + TTL + TTL / TURNS
    assert Standing(ME, still, TTL + grace, TTL).next_turn() == 2 + TTL + grace
