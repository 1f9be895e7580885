"""Which addresses a webhook may be posted to.

The rule is data of our own, not `ipaddress.is_global`, whose answer changes with the interpreter
and which lets multicast, NAT64 and 6to4 pass. IPv4: all but the special-purpose blocks. IPv6: only
global unicast (2000::/3), less the blocks in it that stand for something else. Source: the IANA
special-purpose address registries (RFC 6890). An installation whose own network has public
addresses closes them at its security group: no class of address can tell them.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Literal

Targets = Literal["public", "loopback"]
"""`loopback` adds 127.0.0.0/8 and ::1 to the public addresses, for development."""

_FORBIDDEN_V4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local: cloud metadata and task credentials
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # IETF protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays, deprecated
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarking
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_FORBIDDEN_V6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # IETF protocol assignments: Teredo, benchmarking, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "3fff::/20",  # documentation
        ),
    )
)
_LOOPBACK_V4: Final = IPv4Network("127.0.0.0/8")
_LOOPBACK_V6: Final = IPv6Address("::1")


def address_allowed(address: str, targets: Targets) -> bool:
    """Whether a webhook may be posted to this IP address. Anything unreadable is not allowed."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if isinstance(parsed, IPv4Address):
        if targets == "loopback" and parsed in _LOOPBACK_V4:
            return True
        return not any(parsed in network for network in _FORBIDDEN_V4)
    if targets == "loopback" and parsed == _LOOPBACK_V6:
        return True
    return parsed in _GLOBAL_V6 and not any(parsed in network for network in _FORBIDDEN_V6)
