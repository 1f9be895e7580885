"""The `zapgate` command, as a person types it."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sandbox.bench.main import FIGURES, TOGETHER
from sandbox.chaos.options import Kind
from sandbox.processes import free_port, inherited
from shared.keyring import Keyring
from tests.conftest import HOME
from tests.journey.conftest import Product, family_of
from zapgate.__main__ import main

SECRET = json.dumps({"master": "m" * 64})


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


async def operator(product: Product, *arguments: str) -> Result:
    """Type an operator's command against a running API."""
    key = Keyring.parse(product.tables.environment["ZAPGATE_SECRET"]).operator_keys[0]
    environment = {"ZAPGATE_URL": product.api.url, "ZAPGATE_OPERATOR_KEY": key}
    return await asyncio.to_thread(lambda: invoke(*arguments, **environment))


async def test_an_operator_keeps_tenants_by_command(product: Product) -> None:
    """Create, list, make a key, suspend, resume, delete: each prints what the API said."""
    created = await operator(product, "tenants", "create", "By command")
    tenant: Any = json.loads(created.output)
    assert tenant["name"] == "By command"

    key: Any = json.loads((await operator(product, "keys", "create", tenant["id"])).output)
    api = product.operator.with_key(key["key"])
    assert (await api.call("GET", "/v1/sessions")).status == 200

    listed: Any = json.loads((await operator(product, "tenants", "list")).output)
    assert tenant["id"] in [each["id"] for each in listed["data"]]

    for verb, status in (("suspend", "suspended"), ("resume", "active")):
        changed: Any = json.loads((await operator(product, "tenants", verb, tenant["id"])).output)
        assert changed["status"] == status

    deleted = await operator(product, "tenants", "delete", "--yes", tenant["id"])
    assert deleted.exit_code == 0
    assert (await api.call("GET", "/v1/sessions")).status == 401


async def test_a_problem_ends_the_command_with_its_text(product: Product) -> None:
    """What the API refuses is printed as it said it, and the exit code is not 0."""
    refused = await operator(product, "tenants", "suspend", "ten_unknown")

    assert refused.exit_code == 1
    assert '"code":"not_found"' in refused.output


def test_an_api_that_is_not_there_is_said_plainly() -> None:
    """No trace of Python in what a person reads."""
    url = f"http://127.0.0.1:{free_port()}"
    failed = invoke("tenants", "list", "--url", url, "--key", "k")

    assert failed.exit_code == 1
    assert f"{url} does not answer" in failed.output
    assert invoke("tenants", "list", "--url", "file:///x", "--key", "k").exit_code == 2


def test_the_operator_s_key_comes_from_the_secret() -> None:
    """Whoever may read the installation's secret may be its operator."""
    assert invoke("operator-key", ZAPGATE_SECRET=SECRET).output.startswith("zg_oper_")
    assert "ZAPGATE_SECRET is not set" in invoke("operator-key", ZAPGATE_SECRET="").output


def test_a_gateway_dials_whatsapp_only_when_told_to() -> None:
    """Neither by accident without `--live`, nor into a sandbox with it."""
    alone = invoke("gateway", ZAPGATE_HOST_PRELUDE="")
    mixed = invoke("gateway", "--live", ZAPGATE_HOST_PRELUDE="sandbox.trust")

    assert (alone.exit_code, mixed.exit_code) == (2, 2)
    assert "say --live" in alone.output
    assert "leads to a sandbox" in mixed.output


@pytest.mark.parametrize(
    "command", ["", "dev", "demo", "sandbox", "bench", "chaos", "api", "gateway", "tenants", "keys"]
)
def test_every_command_explains_itself(command: str) -> None:
    """`--help` ends well everywhere."""
    assert invoke(*command.split(), "--help").exit_code == 0


async def typed(arguments: Sequence[str], folder: Path) -> asyncio.subprocess.Process:
    """A command as a process of its own, in an empty folder, with the tools already installed."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "zapgate", *arguments, "--home", str(HOME)),
        cwd=folder,
        env=inherited(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [[], ["--pairing", "qr"], ["--deployed"]])
async def test_the_demo_sees_every_step(aws: object, tmp_path: Path, options: list[str]) -> None:
    """The story by code, by QR, and through Lambda and the HTTP API, from the command line."""
    process = await typed(["demo", *options], tmp_path)
    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    assert output.decode().count("✓") == 11
    assert output.decode().rstrip().endswith("every step was seen")


async def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    """Whoever listens there already is not mistaken for ours."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        process = await typed(["dev", "--port", str(port)], tmp_path)
        output, _ = await process.communicate()

    assert process.returncode == 1
    assert output.decode().startswith(f"port {port} cannot be had")
    assert output.count(b"\n") == 1


def test_wrong_settings_are_said_in_a_sentence() -> None:
    """Python's trail is for us, not for whoever set a variable wrongly."""
    for arguments, environment in (
        (("operator-key",), {"ZAPGATE_SECRET": "hunter2"}),
        (("api",), {"ZAPGATE_SECRET": ""}),
        (("api",), {"ZAPGATE_SHARDS": "many"}),
    ):
        failed = invoke(*arguments, **environment)
        assert failed.exit_code == 1
        assert failed.output.startswith("Error: ")
        assert "hunter2" not in failed.output
    assert invoke("dev", "--port", "99999").exit_code == 2


async def test_dev_says_where_everything_is_and_goes_without_a_trace(
    aws: object, tmp_path: Path
) -> None:
    """Ctrl-C ends it with 0, and every process it started."""
    process = await typed(["dev", "--port", str(free_port())], tmp_path)
    assert process.stdout is not None
    said = b""
    async with asyncio.timeout(40):
        while b"Ctrl-C stops it all" not in said:
            line = await process.stdout.readline()
            assert line, said.decode()
            said += line
    family = family_of(process.pid)
    assert len(family) >= 3
    os.kill(process.pid, signal.SIGINT)
    async with asyncio.timeout(40):
        rest = await process.stdout.read()
        assert await process.wait() == 0, (said + rest).decode()

    assert b"zg_live_" in said
    assert b"Traceback" not in said + rest
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.parametrize(
    ("command", "names"), [("bench", {*FIGURES, *TOGETHER}), ("chaos", set(Kind))]
)
def test_a_command_s_help_names_what_can_be_chosen(command: str, names: set[str]) -> None:
    """Nobody has to guess one wrong to be told the right ones."""
    said = set(re.findall(r"[a-z]+(?:-[a-z]+)?", invoke(command, "--help").output))

    assert names <= said
