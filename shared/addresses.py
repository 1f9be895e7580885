"""Which addresses a webhook may be posted to: only ones that are public for everybody.

The ranges are data, from the IANA special-purpose address registries (RFC 6890 and its updates):
Python's own `is_global` changes between releases, and lets multicast, 6to4 and NAT64 through. The
gateway asks this of every address it is about to dial; the control plane asks it early, to refuse a
hopeless endpoint when it is made. An address of one's own network can be public by this rule: keep
it out by the security group too.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Literal

Targets = Literal["public", "loopback"]
"""`loopback` is for development: it also allows this machine itself."""

NOT_PUBLIC_V4: Final = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local: cloud metadata, task credentials
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)

PUBLIC_V6: Final = IPv6Network("2000::/3")
"""All of global unicast: NAT64, unique-local, link-local and multicast lie outside."""

NOT_PUBLIC_V6: Final = tuple(
    IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",  # documentation
    )
)


def address_allowed(address: IPv4Address | IPv6Address, targets: Targets) -> bool:
    """Whether a webhook may be posted to this address."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if targets == "loopback" and address.is_loopback:
        return True
    if isinstance(address, IPv4Address):
        return not any(address in block for block in NOT_PUBLIC_V4)
    return (
        address.scope_id is None
        and address in PUBLIC_V6
        and not any(address in block for block in NOT_PUBLIC_V6)
    )
