"""`zapgate dev`: everything, with a first tenant and key, until Ctrl-C."""

import asyncio
import signal
import sys
from pathlib import Path

from sandbox.aws.errors import EmbeddedAwsError
from sandbox.processes import ProcessError
from sandbox.stack import Options, Stack, Tenant, make_tenant, run_stack
from sandbox.story import CONTACT, OWNER
from sandbox.whatsapp.control_client import ControlClient


def run(home: Path, *, port: int, live: bool) -> int:
    """Run until Ctrl-C or SIGTERM, or until a part of it ends by itself; the exit code."""
    try:
        asyncio.run(_run(home, Options(port=port, live=live)))
    except asyncio.CancelledError:
        say("stopped")
        return 0
    except (ProcessError, EmbeddedAwsError) as error:
        say(str(error))
    return 1


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _run(home: Path, options: Options) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - asyncio.run made one
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    async with run_stack(home, options, say) as stack:
        if stack.network is not None:
            await _people(stack)
        say(_guide(stack, await make_tenant(stack, "Development")))
        try:
            await _watch(stack)
        except asyncio.CancelledError:
            say("stopping")
            raise


async def _watch(stack: Stack) -> None:
    """Until a part of it ends by itself. Raises what that part has to say."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stack.aws.gone())
            for plane in stack.planes:
                tasks.create_task(plane.gone())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _people(stack: Stack) -> None:
    """Somebody to link and somebody to write to."""
    async with ControlClient(stack.control_url) as people:
        await people.create_person(OWNER, "Owner")
        await people.create_person(CONTACT, "Contact", reads=True)


def _guide(stack: Stack, tenant: Tenant) -> str:
    network = "WhatsApp itself"
    if stack.network is not None:
        network = f"{stack.control_url}      its own entry, a proxy: {stack.network.proxy_url}"
    return f"""
  API            {stack.api_url}/v1       documentation at {stack.api_url}/docs
  tenant         {tenant.id}
  API key        {tenant.key}
  operator key   {stack.operator_key}
  WhatsApp       {network}
  gateway        {stack.gateway.url}      /readyz, /metrics
  logs           {stack.home / "logs"}

  export ZAPGATE_URL={stack.api_url} ZAPGATE_KEY={tenant.key}
{"" if stack.network is None else _phones(stack)}
Ctrl-C stops it all; nothing is kept but the logs.
"""


def _phones(stack: Stack) -> str:
    return f"""  export PHONES={stack.control_url}

{OWNER} is a phone to link, {CONTACT} somebody to write to. With SESSION and CODE from the
answers (README, "Use it"): type the code on the phone; see what the contact received; let the
contact write.

  curl -s $PHONES/people/{OWNER}/code -d '{{"code": "'$CODE'"}}'
  curl -s $PHONES/people/{CONTACT}/received
  curl -s $PHONES/people/{CONTACT}/messages -d '{{"to": "{OWNER}", "text": "Hello"}}'
"""
