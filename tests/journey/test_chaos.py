"""A short run of `zapgate chaos`: real gateways, killed and frozen under traffic.

How soon sessions are back is a figure of a quiet machine and not of a test run; that they come
back, and that nothing is lost, doubled in silence or owned twice, holds on any.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import inherited
from tests.conftest import HOME

SMALL = ("--gateways", "2", "--sessions", "4", "--lease-seconds", "3", "--pace", "1", "--json")
BUSY = ("--bound", "8")
"""Lease times a recovery may take where all tests share the machine."""


async def chaos(folder: Path, *options: str) -> Any:
    """What a run proved."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "zapgate", "chaos", "--home", str(HOME), *SMALL, *BUSY, *options),
        cwd=folder,
        env=inherited(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, told = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, (told + output).decode()
    return json.loads(output)


@pytest.mark.timeout(240)
async def test_nothing_is_lost_whatever_dies(aws: object, tmp_path: Path) -> None:
    """A gateway is killed, one is frozen and thawed, a host aborts: every session comes back."""
    told = await chaos(tmp_path, "--rounds", "3", "--faults", "kill,freeze,host", "--seed", "7")

    assert told["wrongs"] == []
    assert {each["kind"] for each in told["rounds"]} == {"calm", "kill", "freeze", "host"}
    assert all(each["healed"] for each in told["rounds"])
    assert told["total"]["commands"] > 20
    assert told["total"]["events"] > 20


@pytest.mark.timeout(240)
async def test_a_rolling_replacement_moves_every_session(aws: object, tmp_path: Path) -> None:
    """Every gateway is replaced under traffic: nothing is lost, and nobody pairs again."""
    told = await chaos(tmp_path, "--rolling", "--rounds", "1", "--seed", "7")

    assert told["wrongs"] == []
    assert told["fell"] == 0
    assert len(told["logins"]) == 4
