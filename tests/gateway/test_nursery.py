"""The zygote and its children as processes."""

import asyncio
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from gateway import nursery as nursery_module
from gateway import zygote
from gateway.frames import Begin, Pulse
from gateway.host.life import EXIT_ALONE
from gateway.nursery import Nursery, Unborn
from shared.env import for_hosts
from tests.gateway.gateway import new_session


@pytest.fixture
async def nursery() -> AsyncGenerator[Nursery]:
    made = Nursery(for_hosts(), "INFO")
    yield made
    await made.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_gone(*pids: int) -> None:
    async with asyncio.timeout(30):
        while any(alive(pid) for pid in pids):
            await asyncio.sleep(0.02)


async def test_the_zygote_has_one_thread_and_no_library(nursery: Nursery) -> None:
    """A fork of a process with threads, or with the Go library, would never connect."""
    child = await nursery.fork()
    pid = nursery.pid
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "neonize-" not in maps
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    child.kill()
    assert await child.ended() == -signal.SIGKILL
    await child.channel.close()


async def test_hosts_leave_their_gateway_the_processor(nursery: Nursery) -> None:
    """Hundreds that start at once must not keep it from renewing the leases they live by."""
    child = await nursery.fork()
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    theirs = os.getpriority(os.PRIO_PROCESS, child.pid)
    assert theirs == min(19, ours + zygote.NICENESS)
    child.kill()
    await child.ended()
    await child.channel.close()


def test_a_fork_that_fails_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """All hosts live below the zygote: it must not end because there is no room for one more."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert zygote.fork(7, [], ()) == zygote.Failed(
            7, "the socket did not arrive: too many open files"
        )

        def no_fork() -> int:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

        monkeypatch.setattr(os, "fork", no_fork)
        report = zygote.fork(8, [os.dup(theirs.fileno())], ())
        assert isinstance(report, zygote.Failed)
        assert "temporarily unavailable" in report.why


async def test_a_host_that_cannot_be_forked_is_unborn(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason comes back at once, and the hosts there are go on."""
    child = await nursery.fork()
    monkeypatch.setattr("gateway.nursery.socket.send_fds", _without_descriptor)
    with pytest.raises(Unborn, match="too many open files"):
        await nursery.fork()
    assert nursery.matter is not None
    assert "too many open files" in nursery.matter
    assert alive(child.pid)
    monkeypatch.undo()
    other = await nursery.fork()
    assert nursery.matter is None
    await other.channel.close()
    await child.channel.close()


async def test_a_zygote_that_hangs_is_replaced_and_its_hosts_live_on(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts would die with it: it is kept for them, frozen as it is, and ends with the last."""
    first, second = await nursery.fork(), await nursery.fork()
    hung = nursery.pid
    assert hung is not None
    os.kill(hung, signal.SIGSTOP)
    monkeypatch.setattr(nursery_module, "FORK_LIMIT", 0.5)
    others = await asyncio.gather(*(nursery.fork() for _ in range(3)))
    assert nursery.pid not in {hung, None}
    assert nursery.replaced == {"hung": 1}
    assert nursery.matter is None
    assert alive(hung)
    assert all(alive(child.pid) for child in (first, second, *others))
    first.kill()
    assert await first.ended() is None, "nobody is there to report its status"
    assert alive(hung)
    second.kill()
    await until_gone(second.pid, hung)
    assert all(alive(child.pid) for child in others)
    for child in (first, second, *others):
        await child.channel.close()


async def test_a_zygote_that_hangs_for_a_moment_does_no_harm(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host it forks when nobody waits any more ends by itself."""
    child = await nursery.fork()
    hung = nursery.pid
    assert hung is not None
    os.kill(hung, signal.SIGSTOP)
    monkeypatch.setattr(nursery_module, "FORK_LIMIT", 0.5)
    other = await nursery.fork()
    os.kill(hung, signal.SIGCONT)
    async with asyncio.timeout(30):
        while len(children(hung)) != 1:
            await asyncio.sleep(0.02)
    assert alive(child.pid)
    child.kill()
    assert await child.ended() in {None, -signal.SIGKILL}, "it may be gone before it reports"
    await until_gone(hung)
    for each in (child, other):
        await each.channel.close()


async def test_a_zygote_that_was_killed_is_replaced(nursery: Nursery) -> None:
    """Its hosts die with it and are noticed; the next host comes from another zygote."""
    child = await nursery.fork()
    killed = nursery.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    async with asyncio.timeout(30):
        assert await child.ended() is None
    other = await nursery.fork()
    assert nursery.replaced == {"ended": 1}
    assert nursery.pid not in {killed, None}
    await child.channel.close()
    await other.channel.close()


async def test_a_host_whose_zygote_ends_before_it_first_runs_ends_too() -> None:
    """Nobody would send it the signal that its siblings die of."""
    script = """
import os, sys, time
from gateway import zygote
from shared import logs

fork, pid = os.fork, os.getpid()

def fork_and_end():
    if fork() != 0:
        os._exit(0)
    while os.getppid() == pid:
        time.sleep(0.01)
    return 0

os.fork = fork_and_end
logs.configure("INFO")
zygote.fork(1, [int(sys.argv[1])], ())
"""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                script,
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stderr=asyncio.subprocess.PIPE,
            )
        # The host prints there too: its end is the end of both.
        _, printed = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert printed == b"", "a host that lives says after a while that nothing was asked of it"


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _without_descriptor(to: socket.socket, packets: list[bytes], _: list[int]) -> None:
    to.send(packets[0])


async def test_a_host_sees_no_secret(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither AWS credentials nor our keys reach the process that parses strangers' messages."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    monkeypatch.setenv("ZAPGATE_SECRET", "sesame")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    other = Nursery(for_hosts(), "INFO")
    child = await other.fork()
    environment = Path(f"/proc/{child.pid}/environ").read_text()
    await child.channel.close()
    await other.close()
    assert "sesame" not in environment
    assert "PROXY" not in environment
    assert "NEONIZE_BOT_TAG=off" in environment


async def test_a_host_without_a_lease_is_ended(nursery: Nursery, tmp_path: Path) -> None:
    """Its shard may be another's by now: even one that was frozen does nothing any more."""
    silent = socket.create_server(("127.0.0.1", 0))
    child = await nursery.fork()
    folder = tmp_path / "session"
    folder.mkdir()
    until = time.monotonic() + 8
    child.channel.post(
        Begin(
            session=new_session(),
            store=str(tmp_path),
            scratch=str(folder),
            proxy=f"http://127.0.0.1:{silent.getsockname()[1]}",
            until=until,
        )
    )
    async with asyncio.timeout(30):
        while not any(isinstance(frame, Pulse) for frame in await child.channel.receive()):
            pass
        os.kill(child.pid, signal.SIGSTOP)
        await asyncio.sleep(until - time.monotonic())
        os.kill(child.pid, signal.SIGCONT)
        assert await child.ended() == -signal.SIGALRM
    await child.channel.close()
    silent.close()


async def test_a_host_ends_with_its_channel(nursery: Nursery) -> None:
    """The gateway's end closes the socket pair, and with it the host's life."""
    child = await nursery.fork()
    await child.channel.close()
    async with asyncio.timeout(30):
        assert await child.ended() == EXIT_ALONE


async def test_nothing_survives_a_killed_gateway() -> None:
    """Zygote and hosts die with the process that started them, however it ends."""
    script = (
        "import asyncio\n"
        "from gateway.nursery import Nursery\n"
        "from shared.env import for_hosts\n"
        "async def main():\n"
        "    nursery = Nursery(for_hosts(), 'INFO')\n"
        "    child = await nursery.fork()\n"
        "    print(nursery.pid, child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    below, host = map(int, (await process.stdout.readline()).split())
    assert alive(below)
    assert alive(host)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    await until_gone(below, host)


async def test_what_the_library_prints_is_bounded(tmp_path: Path) -> None:
    """It prints as long as the host lives, into a file beside the credentials."""
    path = tmp_path / "host.log"
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from gateway.zygote import protobufs\n"
        "protobufs()\n"
        "from gateway.host import life\n"
        "life.LARGEST_LAST_WORDS = 1000\n"
        "life.set_aside_stderr(Path(sys.argv[1]))\n"
        "os.write(2, b'x' * 2000)\n"
        "life.bound_stderr()\n"
        "os.write(2, b'fatal error: x')\n"
        "life.bound_stderr()\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(path))
    assert await process.wait() == 0
    assert path.read_bytes() == b"fatal error: x"
