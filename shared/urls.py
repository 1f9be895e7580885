"""Which URLs may be a webhook endpoint, judged by their text alone.

What a host name resolves to is asked elsewhere: when an endpoint is made, and again whenever the
gateway dials, because the answer may have changed.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from shared.addresses import NOTHING_DENIED, Denied, Targets, address_allowed
from shared.webhook import LONGEST_URL

PORTS: Final = frozenset({443, 8443})
"""Where HTTPS is served in public; other ports would make us a port scanner."""

LONGEST_HOST: Final = 253
"""Characters of a host name (RFC 1035)."""

PRIVATE_NAMES: Final = frozenset(
    {
        *("test", "example", "invalid", "localhost"),  # RFC 2606, 6761
        *("local", "home.arpa", "onion", "alt"),  # RFC 6762, 8375, 7686, 9476
        *("corp", "home", "mail", "internal"),  # ICANN: collisions with names in use, private use
        *("localdomain", "intranet", "lan", "svc"),  # customs; the last is of Kubernetes
    }
)
"""Names, and what is under them, that mean something only in one network, or nowhere."""

_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
"""Everything a URI may be written with (RFC 3986)."""
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOOPBACK: Final = "localhost"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be posted to, as far as its text goes."""

    url: str
    host: str
    """Lower case, without a closing dot or brackets."""
    port: int
    address: IPv4Address | IPv6Address | None
    """The address, where the host is one."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a URL may not be an endpoint: a code, and a sentence for whoever typed it."""

    code: str
    detail: str


def judge(url: str, targets: Targets, denied: Denied = NOTHING_DENIED) -> Target | Refused:
    """The target in `url`, or why it may not be one."""
    if len(url) > LONGEST_URL:
        return Refused("url_too_long", f"A URL has at most {LONGEST_URL} characters.")
    if not _CHARACTERS.fullmatch(url):
        return Refused(
            "url_malformed",
            "A URL is written in ASCII without spaces; write other host names as xn--… .",
        )
    try:
        parts = urlsplit(url)
        place = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return Refused("url_malformed", "This is not a URL.")
    if not parts.scheme or "://" not in url:
        return Refused("url_not_https", "A webhook endpoint's URL begins with https://.")
    if parts.netloc.endswith(":"):
        return Refused("url_port", "After the host's colon there is no port.")
    if "@" in parts.netloc:
        return Refused("url_credentials", "A URL must not carry a user name or password.")
    if "#" in url:
        return Refused("url_fragment", "A URL to post to has no fragment.")
    return _judge(url, parts.scheme, place, targets, denied)


def _judge(
    url: str, scheme: str, place: tuple[str, int | None], targets: Targets, denied: Denied
) -> Target | Refused:
    host, port = place
    if not is_host(host):
        return Refused("url_host", "The host is neither a host name nor an IP address.")
    free = is_here(host) and targets == "loopback"
    if scheme != "https" and not (free and scheme == "http"):
        return Refused("url_not_https", "A webhook endpoint's URL begins with https://.")
    judged = judge_host(host, targets, denied)
    if isinstance(judged, Refused):
        return Refused(f"url_{judged.code}", judged.detail)
    if port is None:
        port = 443 if scheme == "https" else 80
    elif port == 0 or (port not in PORTS and not free):
        allowed = "1 to 65535" if free else "443 or 8443"
        return Refused("url_port", f"The port is {allowed}.")
    return Target(url, host, port, judged.address)


@dataclass(frozen=True, slots=True)
class Host:
    """A host that may be dialled, as far as its text goes."""

    name: str
    address: IPv4Address | IPv6Address | None
    """The address, where it is one."""


def judge_host(host: str, targets: Targets, denied: Denied = NOTHING_DENIED) -> Host | Refused:
    """Whether a host may be dialled for a tenant.

    The code of a refusal is `host`, `not_public` or `own`, to stand behind what it is the host of.
    """
    address = _address(host)
    if not is_host(host):
        return Refused("host", "The host is neither a host name nor an IP address.")
    if address is not None and not address_allowed(address, targets, denied):
        return Refused("not_public", "The address is not a public one.")
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return Refused("host", "An address with a scope means something on one machine only.")
    if address is None and denied.host(host):
        return Refused("own", "The host is one of this service's own.")
    free = is_here(host) and targets == "loopback"
    if address is None and not free and _is_private(host):
        return Refused("not_public", "The host name is not a public one.")
    return Host(host, address)


def is_here(host: str) -> bool:
    """Whether the host is this machine, by its text."""
    address = _address(host)
    return host == _LOOPBACK or (address is not None and address.is_loopback)


def is_host(host: str) -> bool:
    """Whether it is an address as such are written, or a name that cannot be taken for one."""
    return _address(host) is not None or _is_name(host)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    labels = host.split(".")
    # A last label that is a number is an IPv4 address in one of its old spellings (127.1, 0x7f.1).
    return (
        len(host) <= LONGEST_HOST
        and all(_LABEL.fullmatch(label) for label in labels)
        and not _NUMBER.fullmatch(labels[-1])
    )


def _is_private(host: str) -> bool:
    labels = host.split(".")
    under = {".".join(labels[index:]) for index in range(len(labels))}
    return len(labels) == 1 or not under.isdisjoint(PRIVATE_NAMES)
