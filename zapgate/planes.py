"""`zapgate api` and `zapgate gateway`: one plane, with the environment's settings."""

import click

from shared.env import settings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
def api(host: str, port: int) -> None:
    """Run the control plane with this environment's settings."""
    import uvicorn  # noqa: PLC0415 - a plane's dependencies are there only where it runs

    from control_plane.app import create_app  # noqa: PLC0415

    uvicorn.run(create_app(), host=host, port=port, access_log=False, log_config=None)


@click.command()
@click.option("--live", is_flag=True, help="Connect to WhatsApp itself.")
def gateway(live: bool) -> None:  # noqa: FBT001 - click hands flags over so
    """Run a gateway with this environment's settings."""
    led_to_sandbox = bool(settings().host_prelude)
    if not live and not led_to_sandbox:
        raise click.UsageError(
            "this environment does not lead to a sandbox network, so the gateway would connect "
            "to WhatsApp itself: say --live if you want that, or use `zapgate dev`"
        )
    if live and led_to_sandbox:
        raise click.UsageError(
            "--live means WhatsApp itself, but ZAPGATE_HOST_PRELUDE leads to a sandbox: unset it"
        )
    from gateway.__main__ import main as run  # noqa: PLC0415

    run()


COMMANDS = (api, gateway)
