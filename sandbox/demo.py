"""`zapgate demo`: the story once, each step with its time; 0 only if every step was seen."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sandbox import story
from sandbox.receiver import run_receiver
from sandbox.stack import Options, make_tenant, run_stack
from sandbox.whatsapp.control_client import ControlClient


class Stage:
    """Prints each step as it is seen, with the seconds it took."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def say(self, line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self._begun:7.2f} s  {line}\n")
        sys.stdout.flush()

    def aside(self, line: str) -> None:
        self.say(f"   {line}")

    @asynccontextmanager
    async def step(self, what: str) -> AsyncGenerator[None]:
        begun = time.monotonic()
        try:
            yield
        except Exception as error:
            self.say(f"✗ {what}: {error or type(error).__name__}")
            raise
        self.say(f"✓ {what} ({(time.monotonic() - begun) * 1000:.0f} ms)")


def run(home: Path, *, pairing: story.Pairing, deployed: bool) -> int:
    """Play the story; the exit code."""
    stage = Stage()
    try:
        asyncio.run(_play(home, stage, pairing, deployed=deployed))
    except Exception as error:  # noqa: BLE001 - whatever it was, the demo was not seen to its end
        stage.say(f"the demo failed: {error or type(error).__name__}; logs are in {home / 'logs'}")
        return 1
    stage.say("every step was seen")
    return 0


async def _play(home: Path, stage: Stage, pairing: story.Pairing, *, deployed: bool) -> None:
    async with AsyncExitStack() as rest:
        async with stage.step("the stack is up"):
            options = Options(deployed=deployed)
            stack = await rest.enter_async_context(run_stack(home, options, stage.aside))
            receiver = await rest.enter_async_context(run_receiver())
            people = await rest.enter_async_context(ControlClient(stack.control_url))
        async with stage.step("a tenant is created, with its key"):
            tenant = await make_tenant(stack, "Demo")
        cast = story.Cast(tenant.api, people, receiver)
        async with stage.step("its webhook endpoint is created, with its secret"):
            await story.listen(cast)
        async with stage.step("two people are on WhatsApp"):
            await story.meet(cast)
        offered = "a pairing code" if pairing == "code" else "a QR"
        async with stage.step(f"a session is created and offers {offered}"):
            await story.open_session(cast, pairing)
        typed = "types the code" if pairing == "code" else "scans the QR"
        async with stage.step(f"the phone {typed}; the session is connected"):
            await story.link(cast, pairing)
        async with stage.step("a message goes out and the contact decrypts it"):
            message_id = await story.send(cast, "Hello from Zapgate")
        async with stage.step("webhooks say sent and delivered"):
            await story.confirm(cast, message_id)
        async with stage.step("the contact's reply comes back as a webhook"):
            await story.reply(cast, "Hello yourself")
        async with stage.step("every signature is accepted by the standardwebhooks library"):
            await story.judge(cast)
        async with stage.step("the session is stopped"):
            await story.stop(cast)
