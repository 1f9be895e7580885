"""What the library says of a proxy, and what a tenant is told of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.host.disconnects import DROPPED, undialled, words
from gateway.host.proxies import Trouble, blamed, change, failure
from gateway.host.socket import DIGITS
from gateway.host.verdict import Fate, Verdict
from shared.session import Reason, Trigger

DIALLING = (
    "failed to dial whatsapp web websocket: failed to WebSocket dial: "
    'failed to send handshake request: Get "https://web.whatsapp.com/ws/chat": '
)
AGAIN = "Error reconnecting after autoreconnect sleep: "
SOCKS = "socks connect tcp 127.0.0.1:1080->web.whatsapp.com:443: "

SAID = {
    # To the proxy.
    "proxyconnect tcp: dial tcp 127.0.0.1:46609: connect: connection refused": Trouble.REFUSED,
    f"{SOCKS}dial tcp 127.0.0.1:1080: connect: connection refused": Trouble.REFUSED,
    "proxyconnect tcp: dial tcp [2001:db8::1]:8080: connect: no route to host": (
        Trouble.UNREACHABLE
    ),
    f"{SOCKS}dial tcp [2001:db8::1]:8080: connect: no route to host": Trouble.UNREACHABLE,
    "proxyconnect tcp: dial tcp 127.0.0.1:52849: i/o timeout": Trouble.SILENT,
    "proxyconnect tcp: dial tcp 127.0.0.1:8080: connect: connection timed out": Trouble.SILENT,
    # With it.
    "read tcp 127.0.0.1:55522->127.0.0.1:42673: read: connection reset by peer": Trouble.CUT,
    "EOF": Trouble.CUT,
    f"{SOCKS}read tcp 127.0.0.1:59870->127.0.0.1:1080: read: connection reset by peer": (
        Trouble.CUT
    ),
    'malformed HTTP status code "mail.example.com"': Trouble.NO_PROXY,
    'malformed HTTP response "\\x05\\xff"': Trouble.NO_PROXY,
    "unknown status code": Trouble.NO_PROXY,
    f"{SOCKS}unexpected protocol version 50": Trouble.NO_PROXY,
    "Proxy Authentication Required": Trouble.CREDENTIALS,
    "Unauthorized": Trouble.CREDENTIALS,
    "auth failed": Trouble.CREDENTIALS,
    f"{SOCKS}no acceptable authentication methods": Trouble.CREDENTIALS,
    f"{SOCKS}username/password authentication failed": Trouble.CREDENTIALS,
    "Payment Required": Trouble.SPENT,
    "Too Many Requests": Trouble.SPENT,
    "Forbidden": Trouble.TARGET_REFUSED,
    "Not Found": Trouble.TARGET_REFUSED,
    "Method Not Allowed": Trouble.TARGET_REFUSED,
    "Bad Request": Trouble.TARGET_REFUSED,
    f"{SOCKS}unknown error connection not allowed by ruleset": Trouble.TARGET_REFUSED,
    f"{SOCKS}unknown error command not supported": Trouble.TARGET_REFUSED,
    f"{SOCKS}unknown error address type not supported": Trouble.NO_PROXY,
    f"{SOCKS}unknown error unknown code: 9": Trouble.NO_PROXY,
    "Moved Permanently": Trouble.OTHER,
    "": Trouble.OTHER,
    # From it onwards.
    "Bad Gateway": Trouble.TARGET_AWAY,
    "Gateway Timeout": Trouble.TARGET_AWAY,
    "Service Unavailable": Trouble.TARGET_AWAY,
    "Internal Server Error": Trouble.TARGET_AWAY,
    f"{SOCKS}unknown error general SOCKS server failure": Trouble.TARGET_AWAY,
    f"{SOCKS}unknown error network unreachable": Trouble.TARGET_AWAY,
    f"{SOCKS}unknown error host unreachable": Trouble.TARGET_AWAY,
    f"{SOCKS}unknown error connection refused": Trouble.TARGET_AWAY,
    f"{SOCKS}unknown error TTL expired": Trouble.TARGET_AWAY,
    "http: server gave HTTP response to HTTPS client": Trouble.NOT_WHATSAPP,
    "tls: failed to verify certificate: x509: certificate signed by unknown authority": (
        Trouble.NOT_WHATSAPP
    ),
}
"""What was heard of version 0.5.2 behind `DIALLING`, and behind `AGAIN` in its log."""


@pytest.mark.parametrize("said", SAID, ids=[f"{n}-{t.name}" for n, t in enumerate(SAID.values())])
def test_the_librarys_words_have_a_meaning(said: str) -> None:
    """At the first dial, at a later one, and as a host passes them on."""
    for text in (DIALLING + said, AGAIN + DIALLING + said, words(DIALLING + said)):
        assert failure(text) is SAID[said]


@pytest.mark.parametrize(
    "text",
    [
        "required field Neonize.TemporaryBan.Code not set",
        "failed to get reader: failed to read frame header: EOF",
        "failed to WebSocket dial: expected handshake response status code 101 but got 502",
        "noise handshake failed: timed out waiting for handshake response",
        "the library stopped",
    ],
)
def test_what_whatsapp_does_is_not_the_proxys_fault(text: str) -> None:
    """Once something of WhatsApp's was heard, the proxy did its part."""
    assert failure(text) is None
    assert blamed(undialled(text)) == undialled(text)


def test_a_host_that_waited_for_nothing_blames_the_proxy() -> None:
    """The library says nothing of one that never answers."""
    for text in ("WhatsApp did not answer", "WhatsApp was silent for too long"):
        assert failure(text) is Trouble.SILENT


def test_blame_is_only_for_lost_connections() -> None:
    """What ended for another reason, or goes on, keeps its reason."""
    found = blamed(undialled(DIALLING + "EOF"))
    assert found == Verdict(Fate.AGAIN, change(Trouble.CUT))
    assert found.change is not None
    assert (found.change.trigger, found.change.reason) == (Trigger.DROP, Reason.PROXY_FAILED)
    for verdict in (DROPPED, Verdict(Fate.AGAIN, DROPPED.change), Verdict(Fate.AGAIN), found):
        assert blamed(verdict) == verdict


@given(st.text())
def test_nothing_a_proxy_says_reaches_its_tenant(text: str) -> None:
    """Whatever its answer was, the words are ours; no answer is an error of ours."""
    trouble = failure(DIALLING + text)
    assert trouble in Trouble
    failure(text)


def test_addresses_do_not_reach_the_log() -> None:
    """Neither a proxy's nor ours."""
    for said in SAID:
        for place in ("127.0.0.1", "2001:db8"):
            assert place not in DIGITS.sub("…", said)
