"""The README's echo bot, run as it stands there."""

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


@asynccontextmanager
async def bot(folder: Path, **environment: str) -> AsyncGenerator[None]:
    """The bot as a process; it answers when this is entered."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (folder / "bot.py").write_text(code)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, LEASH, str(os.getpid()), "SIGKILL", "bot"),
        cwd=folder,
        env={**inherited(), **environment},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
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
