"""The `zapgate` command: everything a person starts by hand.

What needs the sandbox or a plane's own dependencies is imported only when it is asked for:
production images contain one plane and no sandbox.
"""

import sys
from pathlib import Path
from typing import Any, Literal

import click

from shared.errors import Misconfigured
from zapgate import operator, planes

PORT = click.IntRange(1, 65_535)

HOME = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".zapgate"),
    show_default=True,
    help="Folder for installed tools and logs.",
)


class _Plain(click.Group):
    """A group whose commands end with a sentence where a setting or a folder is wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (Misconfigured, OSError) as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Plain, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zapgate")
def main() -> None:
    """A multi-tenant WhatsApp gateway."""


@main.command()
@HOME
@click.option("--port", type=PORT, default=8000, show_default=True, help="The API's port.")
@click.option("--live", is_flag=True, help="Connect to WhatsApp itself.")
def dev(home: Path, port: int, live: bool) -> None:  # noqa: FBT001 - click hands flags over so
    """Run everything here, with a first tenant and key, until Ctrl-C."""
    from sandbox.dev import run  # noqa: PLC0415 - see the module's docstring

    sys.exit(run(home, port=port, live=live))


@main.command()
@HOME
@click.option("--pairing", type=click.Choice(["code", "qr"]), default="code", show_default=True)
@click.option(
    "--deployed",
    is_flag=True,
    help="Go through the Lambda and HTTP API of template.yaml, deployed to the embedded AWS.",
)
def demo(home: Path, pairing: Literal["code", "qr"], deployed: bool) -> None:  # noqa: FBT001
    """Play the whole story once; exit 0 only if every step was seen."""
    from sandbox.demo import run  # noqa: PLC0415

    sys.exit(run(home, pairing=pairing, deployed=deployed))


@main.command()
@HOME
@click.option("--proxy-port", default=0, help="Where clients are led; any free port if 0.")
@click.option("--control-port", default=0, help="Where people are moved; any free port if 0.")
@click.option("--server-port", default=0, help="TLS and WebSocket; any free port if 0.")
def sandbox(home: Path, proxy_port: int, control_port: int, server_port: int) -> None:
    """Run the WhatsApp network alone, for any client, until Ctrl-C."""
    from sandbox.network import main as run  # noqa: PLC0415

    ports = (proxy_port, control_port, server_port)
    names = ("--proxy-port", "--control-port", "--server-port")
    given = [text for name, port in zip(names, ports, strict=True) for text in (name, str(port))]
    run(["--home", str(home / "network"), *given])


@main.command()
@HOME
@click.option("--rounds", default=5, show_default=True, help="Runs of each figure.")
@click.option(
    "--sessions", default="25,100,250,500", show_default=True, help="Of density: at how many."
)
@click.option(
    "--minutes",
    type=click.FloatRange(0.05),
    default=20.0,
    show_default=True,
    help="Of density: how long the traffic at the last number lasts.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.01),
    default=1.0,
    show_default=True,
    help="Of density: texts a session and minute, each way.",
)
@click.option(
    "--raw",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="Of density: raw neonize processes beside, at most.",
)
@click.option(
    "--cycles",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Of sharing: starts, and stops.",
)
@click.argument("figures", nargs=-1)
def bench(home: Path, rounds: int, figures: tuple[str, ...], sessions: str, **long: Any) -> None:
    """Measure, as ratios to bare loops in the same run.

    FIGURES: latency, throughput, memory, cpu, cold, start, requests, fleet, and webhooks, which is
    deliveries, first-byte, neighbours and owed; all if none. Only if named, because they take long:
    density and sharing.
    """
    from sandbox.bench import run  # noqa: PLC0415
    from sandbox.bench.options import Options, steps  # noqa: PLC0415

    try:
        options = Options(sessions=steps(sessions), **long)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(run(home, rounds=rounds, figures=figures, options=options))


@main.command()
@HOME
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--rolling", is_flag=True, help="Replace every gateway, one by one, each round.")
@click.option("--seed", type=int, help="Of an earlier run, to draw the same faults again.")
@click.option("--gateways", type=click.IntRange(2, 8), default=3, show_default=True)
@click.option("--sessions", type=click.IntRange(1, 80), default=24, show_default=True)
@click.option("--lease-seconds", type=click.FloatRange(2), default=10.0, show_default=True)
@click.option(
    "--pace",
    type=click.FloatRange(0.1),
    default=2.0,
    show_default=True,
    help="Seconds between two texts of a session, each way.",
)
@click.option(
    "--faults",
    default="",
    help="Kinds to choose from, between commas: kill, term, freeze, cut-off, host, table, queue, "
    "network, unreached; all if none.",
)
@click.option(
    "--bound",
    type=click.FloatRange(0, min_open=True),
    default=1.5,
    show_default=True,
    help="Lease times a recovery may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was proved as JSON.")
def chaos(home: Path, **how: Any) -> None:
    """Break gateways under traffic; exit 0 only if every session came back and nothing was lost."""
    from sandbox.chaos.main import play, understood  # noqa: PLC0415

    as_json: bool = how.pop("as_json")
    try:
        options = understood(**how)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(play(home, options, as_json=as_json))


for command in (*planes.COMMANDS, *operator.COMMANDS):
    main.add_command(command)


if __name__ == "__main__":
    main()
