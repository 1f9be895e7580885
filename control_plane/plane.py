"""What every request needs, made once and handed on: the collaborators of the control plane."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from control_plane.attendance import Attendance
from control_plane.auth import Keys
from control_plane.aws import Runner
from control_plane.limits import Limiter
from shared.env import Settings
from shared.keyring import Keyring

Resolve = Callable[[str], tuple[IPv4Address | IPv6Address, ...]]
"""The addresses of a host name, none where it does not resolve. May block."""


@dataclass(frozen=True, slots=True)
class Plane:
    """The collaborators."""

    settings: Settings
    keyring: Keyring
    aws: Runner
    keys: Keys
    limiter: Limiter
    attendance: Attendance
    now: Callable[[], int]
    resolve: Resolve
    threads: ThreadPoolExecutor | None
    """Where requests to AWS wait; None where one request is answered at a time, as in Lambda."""
