"""What a run is made of."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What can go wrong, and what is done to it on purpose."""

    KILL = "kill"
    """SIGKILL of a gateway; another is started, as ECS would."""
    TERM = "term"
    """SIGTERM of a gateway; likewise."""
    FREEZE = "freeze"
    """SIGSTOP of a gateway, then SIGCONT: from half a lease time to two and a half."""
    HOST = "host"
    """SIGABRT or SIGKILL of a session's host process."""
    TABLE = "table"
    """DynamoDB fails for everybody."""
    QUEUE = "queue"
    """SQS fails for everybody."""
    NETWORK = "network"
    """Every connection to WhatsApp is cut, and none comes through for a while."""
    UNREACHED = "unreached"
    """The same, for one gateway."""
    CUT_OFF = "cut-off"
    """All of AWS fails for one gateway, which still has its sockets."""


class Plan(StrEnum):
    """What a run does."""

    FAULTS = "faults"
    """Faults of the chosen kinds, drawn by the seed."""
    ROLLING = "rolling"
    """Every gateway is replaced, one after the other; a round replaces all."""


@dataclass(frozen=True)
class Options:
    """Of a run; times in seconds."""

    plan: Plan = Plan.FAULTS
    rounds: int = 5
    seed: int = 0
    gateways: int = 3
    sessions: int = 24
    lease_seconds: float = 10.0
    every: float = 2.0
    """Between two texts of a session, each way."""
    kinds: tuple[Kind, ...] = tuple(Kind)
    bound: float = 1.5
    """Lease times a recovery may take."""
    calm: float = 10.0
    """How long the traffic runs before the first fault."""


def chosen(text: str) -> tuple[Kind, ...]:
    """The kinds of fault a text names, between commas; all if it is empty. Raises ValueError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in list(Kind)]
    if unknown:
        raise ValueError(f"no fault {', '.join(unknown)}: there are {', '.join(Kind)}")
    return tuple(Kind(name) for name in names) or tuple(Kind)
