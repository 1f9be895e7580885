"""A session's own proxy: how its tenant writes it, what may be one, and how it is kept.

Its URL mostly carries credentials, so it is sealed like a webhook's secret, and what is shown
beside it says no more than where the proxy is. As with webhooks, what its host resolves to is
judged when it is given, and again whenever it is dialled.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import quote, unquote

import msgspec

from shared.addresses import NOTHING_DENIED, Denied, Targets
from shared.ids import SessionId, TenantId
from shared.sealing import seal, unseal
from shared.urls import Refused, is_here, judge_host

SCHEMES: Final = ("http", "socks5")
LONGEST: Final = 2_048
"""Characters of the URL: room for the longest credentials, each byte percent-encoded."""
LONGEST_PART: Final = 255
"""Bytes of a user name and of a password (RFC 1929: its lengths are a byte each)."""
PORTS: Final = ((80, 80), (443, 443), (1_024, 65_535))
"""Where proxies are served in public, first and last; behind the others are services of other
kinds, which we would be scanning."""

_NOT_HERE: Final = {
    "https": "TLS to a proxy is not supported, because proxies are dialled by their address, which "
    "no certificate names. What passes through an http:// one is encrypted all the same.",
    "socks5h": "Write socks5://: the proxy always resolves WhatsApp's names itself.",
    "socks4": "SOCKS4 is not supported: it does not resolve names.",
    "socks4a": "SOCKS4a is not supported, only SOCKS5.",
    "socks": "Say which: only SOCKS5 is supported, as socks5://.",
}
"""Schemes that other programs take, and why they are refused."""

_CHARACTERS: Final = re.compile(r"[!-~]+")
_PLACE: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:[0-9]{0,5})?")
_USERINFO: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:]|%[0-9A-Fa-f]{2})*")
"""What credentials are written with (RFC 3986, 3.2.1)."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Proxy(msgspec.Struct, frozen=True):
    """A proxy as stored."""

    sealed: bytes
    """Its URL under `shared.sealing`, for `owner`."""
    shown: str
    """Its URL without credentials."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a proxy asks for. The password may be empty for HTTP (RFC 7617), not for SOCKS5."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Upstream:
    """A proxy that may be dialled, as far as its text goes."""

    scheme: str
    host: str
    """Lower case, without a closing dot or brackets."""
    port: int
    address: IPv4Address | IPv6Address | None
    """The address, where the host is one."""
    login: Login | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The URL, with `***` for credentials."""
        return self._written(self.host, "" if self.login is None else "***@")

    @property
    def url(self) -> str:
        """The whole URL. It is a secret."""
        return self.at(self.host)

    def at(self, host: str) -> str:
        """The whole URL with another host, such as the address the name has now."""
        if self.login is None:
            return self._written(host, "")
        user, password = quote(self.login.user, safe=""), quote(self.login.password, safe="")
        return self._written(host, f"{user}:{password}@")

    def _written(self, host: str, login: str) -> str:
        place = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{login}{place}:{self.port}"


def owner(tenant_id: TenantId, session_id: SessionId) -> str:
    """What a session's proxy is sealed for."""
    return f"{tenant_id}/{session_id}"


def sealed(keys: Sequence[bytes], owner: str, upstream: Upstream, nonce: bytes) -> Proxy:
    """The proxy as it is stored; `nonce` is 12 fresh random bytes."""
    return Proxy(seal(keys, owner, upstream.url, nonce), upstream.shown)


def opened(keys: Sequence[bytes], owner: str, proxy: Proxy) -> str:
    """The whole URL again. Raises Forged."""
    return unseal(keys, owner, proxy.sealed)


def judge(url: str, targets: Targets, denied: Denied = NOTHING_DENIED) -> Upstream | Refused:
    """The proxy in `url`, or why it may not be one. A refusal repeats nothing of it."""
    if len(url) > LONGEST:
        return Refused("proxy_too_long", f"A proxy's URL has at most {LONGEST} characters.")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or not _CHARACTERS.fullmatch(url):
        return Refused(
            "proxy_malformed",
            "A proxy is written as http://host:port or socks5://user:password@host:port, in ASCII "
            "without spaces.",
        )
    if scheme not in SCHEMES:
        return Refused(
            "proxy_scheme", _NOT_HERE.get(scheme, "A proxy's URL begins with http:// or socks5://.")
        )
    rest = rest.removesuffix("/")
    if not {"/", "?", "#", "\\"}.isdisjoint(rest):
        return Refused(
            "proxy_path",
            "A proxy's URL ends with its port: it has no path, query or fragment. In credentials, "
            "percent-encode such characters.",
        )
    userinfo, at, place = rest.rpartition("@")
    login = _login(scheme, userinfo) if at else None
    return login if isinstance(login, Refused) else _judge(scheme, login, place, targets, denied)


def _judge(
    scheme: str, login: Login | None, place: str, targets: Targets, denied: Denied
) -> Upstream | Refused:
    found = _PLACE.fullmatch(place)
    if found is None:
        return Refused(
            "proxy_host",
            "After the credentials stand a host and a port; an IPv6 address is in brackets.",
        )
    name, port = found[1], (found[2] or ":")[1:]
    host = judge_host(name.strip("[]").rstrip(".").lower(), targets, denied)
    if isinstance(host, Refused):
        return Refused(f"proxy_{host.code}", host.detail)
    if name.startswith("[") is not isinstance(host.address, IPv6Address):
        return Refused("proxy_host", "An IPv6 address is written in brackets, and nothing else.")
    if not port:
        return Refused(
            "proxy_port", "Say the port, as in http://host:8080: proxies have none in common."
        )
    free = targets == "loopback" and is_here(host.name)
    if not any(first <= int(port) <= last for first, last in PORTS) and not (free and int(port)):
        return Refused("proxy_port", "The port is 80, 443 or 1024 to 65535.")
    return Upstream(scheme, host.name, int(port), host.address, login)


def _login(scheme: str, userinfo: str) -> Login | Refused:
    fault = None
    if not _USERINFO.fullmatch(userinfo):
        fault = "In credentials, percent-encode all but letters, digits and -._~!$&'()*+,;= ."
        return Refused("proxy_credentials", fault)
    try:
        user, password = (unquote(each, errors="strict") for each in _halves(userinfo))
    except UnicodeDecodeError:
        return Refused("proxy_credentials", "Credentials are percent-encoded UTF-8.")
    if not user:
        fault = "Before the @ stands a user name."
    elif _CONTROL.search(user + password):
        fault = "Credentials have no control characters."
    elif max(len(user.encode()), len(password.encode())) > LONGEST_PART:
        fault = f"A user name and a password have at most {LONGEST_PART} bytes each."
    elif scheme == "http" and ":" in user:
        fault = "A user name for an HTTP proxy has no colon (RFC 7617)."
    elif scheme == "socks5" and not password:
        fault = "A SOCKS5 proxy takes a user name with a password only (RFC 1929)."
    return Login(user, password) if fault is None else Refused("proxy_credentials", fault)


def _halves(userinfo: str) -> tuple[str, str]:
    user, _, password = userinfo.partition(":")
    return user, password
