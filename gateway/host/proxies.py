"""What is the matter with a session's own proxy: the library's words, and ours, in one table.

Each pattern was met with version 0.5.2 and a proxy that behaves so. The library gives an HTTP
proxy's refusal by its reason phrase alone, which proxies are free in: what is not known is a
refusal without a name. Nothing of the words themselves goes out, because the proxy chose them.
"""

import re
from enum import StrEnum
from typing import Final

from gateway.changes import Change
from gateway.host.verdict import Fate, Verdict
from shared.session import Reason, Trigger


class Trouble(StrEnum):
    """Why nothing gets through a proxy, in words for its tenant."""

    UNREADABLE = "the proxy's URL cannot be read any more: give it again"
    NAME_UNKNOWN = "the proxy's host name was not found"
    NAME_SILENT = "no name server answered for the proxy's host name in time"
    NOT_PUBLIC = "the proxy's host is not at a public address"
    REFUSED = "nobody listens at the proxy's address and port: the connection was refused"
    UNREACHABLE = "there is no way to the proxy's address"
    SILENT = "the proxy, or WhatsApp behind it, did not answer in time"
    CREDENTIALS = "the proxy did not accept the credentials, or asks for some"
    SPENT = "the proxy says that a quota is used up or a payment is due"
    TARGET_REFUSED = "the proxy does not allow connections to WhatsApp"
    TARGET_AWAY = "the proxy could not reach WhatsApp"
    NO_PROXY = "what answers at the proxy's port is not a proxy of the kind its URL says"
    NOT_WHATSAPP = "what the proxy leads to is not WhatsApp, by its certificate"
    CUT = "the proxy closed the connection before WhatsApp answered"
    OTHER = "the proxy refused the connection"


_DIALLING: Final = re.compile(
    r"failed to (?:dial|WebSocket dial)\b.*: (?:Get|GET) \"[^\"]*\": ?(.*)", re.DOTALL
)
"""The library's words for a dial that failed before anything of WhatsApp's was heard."""
_UNANSWERED: Final = re.compile(r"WhatsApp (?:did not answer|was silent)")
"""A host's own, where the library would have waited on."""

_TABLE: Final = tuple(
    (re.compile(pattern), trouble)
    for pattern, trouble in (
        (r"x509: |tls: |HTTP response to HTTPS client", Trouble.NOT_WHATSAPP),
        (r"dial tcp .*connection refused", Trouble.REFUSED),
        (r"dial tcp .*(timed out|timeout)", Trouble.SILENT),
        (r"dial tcp ", Trouble.UNREACHABLE),
        (r"unexpected protocol version|malformed HTTP|unknown status code", Trouble.NO_PROXY),
        (r"no acceptable authentication methods|authentication failed", Trouble.CREDENTIALS),
        (r"unknown error (connection not allowed|command not)", Trouble.TARGET_REFUSED),
        (r"unknown error (address type not|unknown code)", Trouble.NO_PROXY),
        (r"unknown error ", Trouble.TARGET_AWAY),
        (r"\bEOF\b|connection reset|broken pipe|use of closed", Trouble.CUT),
        (r"deadline exceeded|i/o timeout", Trouble.SILENT),
        (r"(?i)\bauth|unauthori[sz]ed", Trouble.CREDENTIALS),
        (r"(?i)payment|too many requests|quota|limit", Trouble.SPENT),
        (r"(?i)bad gateway|timeout|timed out|unavailable|server error", Trouble.TARGET_AWAY),
        (
            r"(?i)forbidden|not (allowed|found|implemented)|bad request|denied",
            Trouble.TARGET_REFUSED,
        ),
    )
)
"""What each means, the first that is met. First the library's own words, then reason phrases."""


def failure(text: str) -> Trouble | None:
    """What the library, or a host, says is the matter with the proxy; None if it is not that."""
    if _UNANSWERED.search(text):
        return Trouble.SILENT
    found = _DIALLING.search(text)
    if found is None:
        return None
    for pattern, trouble in _TABLE:
        if pattern.search(found[1]):
            return trouble
    return Trouble.OTHER


def change(trouble: Trouble) -> Change:
    """What becomes of a session whose proxy is in trouble."""
    return Change(trigger=Trigger.DROP, reason=Reason.PROXY_FAILED, detail=trouble.value)


def blamed(verdict: Verdict) -> Verdict:
    """The verdict on a session that has a proxy: whatever its proxy did is said to be so."""
    lost = verdict.change
    if verdict.fate is not Fate.AGAIN or lost is None or lost.reason is not Reason.CONNECTION_LOST:
        return verdict
    trouble = None if lost.detail is None else failure(lost.detail)
    return verdict if trouble is None else Verdict(Fate.AGAIN, change(trouble))
