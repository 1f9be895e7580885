"""A way to AWS that can be cut: what goes over it stands still until it is open again."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Freezer:
    """Between a gateway and AWS."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.url = ""

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy until the end, while open."""
        try:
            while data := await reader.read(65536):
                await self.open.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()


@asynccontextmanager
async def between(url: str) -> AsyncGenerator[Freezer]:
    """A freezer before an address; connections are taken even while it is shut."""
    freezer, target, tasks = Freezer(), urlsplit(url), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)
        for task in (
            asyncio.ensure_future(freezer.pass_on(reader, back)),
            asyncio.ensure_future(freezer.pass_on(there, writer)),
        ):
            tasks.add(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    freezer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield freezer
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
