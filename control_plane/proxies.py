"""A session's own proxy, as its tenant gives it. Nobody is shown its credentials again."""

import secrets
from typing import Annotated, Final

from msgspec import Meta

from control_plane.call import Call
from control_plane.hosts import is_public
from control_plane.problems import invalid_value
from shared import proxy, sealing
from shared.ids import SessionId
from shared.proxy import LONGEST, LONGEST_PART, Proxy, Upstream
from shared.urls import Refused

FIELD: Final = "/proxy"

ABOUT: Final = (
    "Through what the session's socket goes: `http://host:port` or `socks5://host:port`, with "
    "`user:password@` before the host where the proxy asks for it, percent-encoded and of "
    f"{LONGEST_PART} bytes each at most. The host is public, and the port, which must be given, "
    "is 80, 443 or above 1023. All of the "
    "session goes through it, WhatsApp's names are left to it, and nothing goes another way while "
    "it fails. It is kept sealed, and shown as `scheme://***@host:port`."
)

ProxyUrl = Annotated[
    str, Meta(max_length=LONGEST, examples=["socks5://user:password@proxy.example.com:1080"])
]


async def checked(call: Call, url: str) -> Upstream:
    """The proxy, if it may be one as far as can be told now. Raises Problem."""
    settings = call.plane.settings
    judged = proxy.judge(url, settings.webhook_targets, settings.denied())
    if isinstance(judged, Refused):
        raise invalid_value(FIELD, judged.code, judged.detail)
    if judged.address is None and not await is_public(call, judged.host):
        raise invalid_value(FIELD, "proxy_not_public", "The host is not at a public address.")
    return judged


def sealed(call: Call, session_id: SessionId, upstream: Upstream) -> Proxy:
    """The proxy as that session's row has it."""
    return proxy.sealed(
        call.plane.keyring.seals,
        proxy.owner(call.tenant_id, session_id),
        upstream,
        secrets.token_bytes(sealing.NONCE_BYTES),
    )
