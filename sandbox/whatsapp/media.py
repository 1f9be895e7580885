"""Media: sealed files that clients put on the server and fetch from it, opaque to everybody here.

They live in a folder, named by the token the client chose, which is the hash of what it uploads.
"""

import base64
import hashlib
import re
from pathlib import Path

from aiohttp import web

HOST = "mmg.whatsapp.net"  # the name clients know us by, through the proxy
MAX_FILE = 100 * 1024 * 1024  # bytes; WhatsApp's own limit is of this order
MAX_TOTAL = 1024 * 1024 * 1024  # bytes; a sandbox is no store
TOKEN = re.compile(r"[A-Za-z0-9_=-]{1,128}")  # base64url: nothing that could leave the folder


class TooMuchError(Exception):
    """The folder is full."""


class Media:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._total = sum(path.stat().st_size for path in folder.iterdir())

    def put(self, data: bytes) -> str:
        """Keep a file; return its token.

        Raises:
            TooMuchError: the folder holds too much already.
        """
        token = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        path = self._folder / token
        if not path.exists():
            if self._total + len(data) > MAX_TOTAL:
                raise TooMuchError(f"more than {MAX_TOTAL} bytes of media")
            path.write_bytes(data)
            self._total += len(data)
        return token

    def find(self, token: str) -> Path | None:
        if not TOKEN.fullmatch(token):
            return None
        path = self._folder / token.rstrip("=")
        return path if path.is_file() else None

    def delete(self, token: str) -> bool:
        path = self.find(token)
        if path is None:
            return False
        self._total -= path.stat().st_size
        path.unlink()
        return True

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/mms/{kind}/{token}", self._upload),
            web.post("/newsletter/{kind}/{token}", self._upload),
            web.delete("/mms/{kind}/{token}", self._delete),
            web.get("/v/{token}", self._download),
        ]

    async def _upload(self, request: web.Request) -> web.Response:
        data = await request.read()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        if request.match_info["token"].rstrip("=") != digest:
            return web.json_response({"error": "the token is not the hash"}, status=400)
        try:
            token = self.put(data)
        except TooMuchError:
            return web.json_response({"error": "full"}, status=507)
        path = f"/v/{token}?ccb=1"
        return web.json_response(
            {
                "url": f"https://{HOST}{path}",
                "direct_path": path,
                "handle": token,
                "object_id": token,
            }
        )

    async def _download(self, request: web.Request) -> web.StreamResponse:
        path = self.find(request.match_info["token"])
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _delete(self, request: web.Request) -> web.Response:
        if not self.delete(request.match_info["token"]):
            raise web.HTTPNotFound
        return web.Response()
