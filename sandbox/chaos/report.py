"""The table a person reads, and the sentences below it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median
from typing import Final

from sandbox.chaos.judge import Counts, Judgement, Verdict, summed
from sandbox.chaos.ledger import Round

_HEAD: Final = (
    *("fault", "rounds", "sessions hit", "recovery, median", "worst"),
    *("commands", "lost", "doubled (unsaid)", "uncertain"),
    *("events", "lost", "doubled", "two owners"),
)


COUNTING: Final = (
    "a recovery counts from the fault where another gateway could step in, and from the end of the "
    "fault where nobody could (table, queue, network, unreached)"
)


def table(judgement: Judgement) -> str:
    """A line for each kind of fault, and one for all; recovery in lease times."""
    kinds = list(dict.fromkeys(each.kind for each in judgement.rounds))
    by_kind = {kind: [r for r in judgement.rounds if r.kind == kind] for kind in kinds}
    lines = [
        _HEAD,
        *(_cells(kind, rounds, judgement) for kind, rounds in by_kind.items()),
        _cells("all", judgement.rounds, judgement),
    ]
    widths = [max(len(line[at]) for line in lines) for at in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def line(of: Round, recoveries: Mapping[str, float], lease_seconds: float) -> str:
    """One round in a sentence."""
    times = [each / lease_seconds for each in recoveries.values()]
    hit = f"{of.kind}: {of.what}; {len(times)} sessions hit"
    if not of.healed:
        return f"{hit}, not all were seen to work again"
    if not times:
        return hit
    return f"{hit}, back after {leases(median(times))}, {leases(max(times))} lease times at most"


def notes(judgement: Judgement) -> list[str]:
    """What the table has no column for."""
    offline, silences = judgement.offline.values(), judgement.silences.values()
    logins = list(judgement.logins.values()) or [0]
    return [
        f"longest silence of a session: {_seconds(silences)}",
        f"longest time a device was not connected: {_seconds(offline)}",
        f"most logins of a session: {max(logins)}, {mean(logins):.1f} on average",
        f"sessions that had to be paired again, or ended: {judgement.fell}",
        f"webhooks that came again under the id they had: {judgement.events_repeated}",
        f"latest command: {judgement.latest_command:.1f} s after it was accepted",
        f"latest webhook: {judgement.latest_webhook:.1f} s after its message",
        COUNTING,
    ]


def leases(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.2f}"


def _seconds(values: Iterable[float]) -> str:
    longest = max(values, default=0.0)
    return "without end" if math.isinf(longest) else f"{longest:.2f} s"


def _cells(name: str, rounds: Sequence[Verdict], judgement: Judgement) -> tuple[str, ...]:
    of: Counts = summed([each.counts for each in rounds])
    times = [t / judgement.lease_seconds for each in rounds for t in each.recoveries.values()]
    worst = max((judgement.leases(each)[1] for each in rounds), default=0.0)
    return (
        name,
        str(len(rounds)),
        str(len(times)),
        leases(median(times)) if times else "-",
        leases(worst) if times or worst else "-",
        str(of.commands),
        str(of.commands_lost),
        f"{of.commands_doubled} ({of.commands_doubled_silently})",
        str(of.commands_uncertain),
        str(of.events),
        str(of.events_lost),
        str(of.events_doubled),
        str(of.double_owners),
    )
