"""What Linux tells of processes: descendants, processor time, memory (proc_pid_stat(5), smaps)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_LIBRARY: Final = "neonize"


@dataclass(frozen=True)
class Memory:
    """Of one process, in MiB."""

    proportional: float
    """PSS: what it shares is divided among the sharers."""
    private: float
    """What would be free again if it ended."""


def memory(pid: int) -> Memory:
    """Raises OSError where the process is gone."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0])
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Memory(sizes["Pss"] / 1024, private / 1024)


def available() -> float:
    """MiB that programs may still take (proc_meminfo(5))."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    found = next(line for line in lines if line.startswith("MemAvailable:"))
    return int(found.split()[1]) / 1024


def processor_seconds(pid: int) -> float:
    """User and system time of a process and all its threads, so far. Raises OSError."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) * _TICK


def descendants(pid: int) -> Iterator[int]:
    """A process's children, theirs, and so on."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from _of(child)


def _of(pid: int) -> list[int]:
    try:
        return list(descendants(pid))
    except OSError:
        return []


def hosts(gateway: int) -> set[int]:
    """A gateway's session hosts: its descendants that have the WhatsApp library loaded."""
    return {pid for pid in descendants(gateway) if _LIBRARY in _read(pid, "maps")}


def usage() -> dict[int, tuple[str, float]]:
    """Every process of ours, what it is, and its processor time so far."""
    found: dict[int, tuple[str, float]] = {}
    for pid in (os.getpid(), *descendants(os.getpid())):
        try:
            found[pid] = (_role(pid), processor_seconds(pid))
        except OSError:
            continue
    return found


def spent(before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]]) -> str:
    """Who used the processors in between, most first: `embedded AWS 41 %, …`."""
    by_role: dict[str, float] = {}
    for pid, (role, seconds) in after.items():
        by_role[role] = by_role.get(role, 0.0) + seconds - before.get(pid, (role, 0.0))[1]
    total = sum(by_role.values()) or 1.0
    shares = sorted(by_role.items(), key=lambda each: -each[1])
    return ", ".join(
        f"{role} {share / total:.0%}" for role, share in shares if share / total > 0.01
    )


_ROLES: Final = (
    ("sandbox.bench.recorder", "recorder"),
    ("sandbox.bench.bare_postman", "bare posts"),
    ("sandbox.bench.postman", "our webhooks"),
    ("sandbox.bench.sink", "receiver"),
    ("sandbox.network", "WhatsApp network"),
    (" ministack", "embedded AWS"),
    ("uvicorn", "control plane"),
    ("raw_client.py", "raw neonize"),
    ("cold_driver.py", "handler"),
    (" gateway", "gateway"),
)


def _role(pid: int) -> str:
    if pid == os.getpid():
        return "load and clock"
    if _LIBRARY in _read(pid, "maps"):
        return "raw neonize" if "raw_client.py" in _read(pid, "cmdline") else "session hosts"
    command = _read(pid, "cmdline")
    return next((role for part, role in _ROLES if part in command), "other")


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""
