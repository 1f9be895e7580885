"""The README's programs, run as they stand there."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sandbox import story
from sandbox.processes import LEASH, free_port, inherited
from tests.journey.conftest import Product

README = Path(__file__).parents[2] / "README.md"


def program(which: int) -> str:
    """The echo bot is the first, the reader of the event log the second."""
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[which]


@asynccontextmanager
async def bot(folder: Path, **environment: str) -> AsyncGenerator[None]:
    """The bot as a process; it answers when this is entered."""
    (folder / "bot.py").write_text(program(0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, LEASH, str(os.getpid()), "SIGKILL", "bot"),
        cwd=folder,
        env={**inherited(), **environment},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", environment["PORT"])
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    await writer.wait_closed()
                    break
        yield
    finally:
        process.kill()
        await process.wait()


async def test_the_echo_bot_of_the_readme_echoes(product: Product, tmp_path: Path) -> None:
    """Twenty lines, copied out of the README, answer a contact."""
    async with product.connected() as cast:
        port = str(free_port())
        body = {"url": f"http://127.0.0.1:{port}/", "events": ["message.received"]}
        endpoint = await cast.api.ok("POST", "/v1/webhooks", body)
        async with bot(
            tmp_path,
            PORT=port,
            WEBHOOK_SECRET=endpoint["secret"],
            ZAPGATE_URL=product.api.url,
            ZAPGATE_KEY=cast.api.key,
        ):
            await story.reply(cast, "is there an echo?")
            heard = await story.hear(cast, "is there an echo?")

        assert heard.text == "is there an echo?"


@asynccontextmanager
async def reader(folder: Path, **environment: str) -> AsyncGenerator[asyncio.StreamReader]:
    """What the reader of the event log prints."""
    (folder / "reader.py").write_text(program(1))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, LEASH, str(os.getpid()), "SIGKILL", "reader"),
        cwd=folder,
        env={**inherited(), **environment, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def test_the_reader_of_the_readme_goes_on_where_it_was(
    product: Product, tmp_path: Path
) -> None:
    """Killed and started again, it prints every event of the tenant, in order."""
    async with product.connected() as cast:
        environment = {"ZAPGATE_URL": product.api.url, "ZAPGATE_KEY": cast.api.key}
        printed: list[str] = []
        for text in ("before", "meanwhile"):
            await story.reply(cast, text)
            last = cast.receiver.seen[-1].id
            async with reader(tmp_path, **environment) as lines, asyncio.timeout(story.PATIENCE):
                while not printed or printed[-1] != last:
                    printed.append((await lines.readline()).decode().split()[0])
                # It notes its place once it has dealt with what came, and then waits for more.
                while not (tmp_path / "cursor").exists():
                    await asyncio.sleep(0.05)
        page = await cast.api.ok("GET", "/v1/events?order=oldest&limit=100")

    once = list(dict.fromkeys(printed))
    assert once == [event["id"] for event in page["data"]]
