"""Which addresses a webhook may be posted to: only ones that are public for everybody.

The ranges are data, from the IANA special-purpose address registries (RFC 6890 and its updates):
Python's own `is_global` changes between releases, and lets multicast, 6to4 and NAT64 through. The
gateway asks this of every address it is about to dial; the control plane asks it early, to refuse a
hopeless endpoint when it is made. An address of one's own network can be public by this rule, an
IPv6 one always is: those have to be named (`Denied`). No security group does it, because it can
only allow, and webhooks go anywhere.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Literal, Self

from shared.errors import Misconfigured

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


_NAME: Final = re.compile(r"([a-z0-9_-]{1,63}\.)+(?=[0-9-]*[a-z])[a-z0-9-]{1,63}")
"""A host name of two parts or more. No last part is a number, so a misspelt address is none."""


@dataclass(frozen=True, slots=True)
class Denied:
    """What is ours, and so is never posted to, however public it is."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    """Names, lower case; what is under them is ours too."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Networks, addresses and host names, between commas or spaces. Raises Misconfigured."""
        networks: list[IPv4Network | IPv6Network] = []
        hosts: set[str] = set()
        for word in text.replace(",", " ").split():
            name = word.lower().rstrip(".")
            try:
                networks.append(ip_network(word))
            except ValueError as error:
                if not _NAME.fullmatch(name):
                    raise Misconfigured(
                        f"ZAPGATE_WEBHOOK_DENIED: {word!r} is neither a network nor a host name"
                    ) from error
                hosts.add(name)
        return cls(tuple(networks), frozenset(hosts))

    def address(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether the address is in one of the networks."""
        return any(address in network for network in self.networks)

    def host(self, host: str) -> bool:
        """Whether the name is one of the hosts, or under one."""
        labels = host.lower().rstrip(".").split(".")
        return any(".".join(labels[start:]) in self.hosts for start in range(len(labels)))


NOTHING_DENIED: Final = Denied()


def address_allowed(
    address: IPv4Address | IPv6Address, targets: Targets, denied: Denied = NOTHING_DENIED
) -> bool:
    """Whether a webhook may be posted to this address."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if denied.address(address):
        return False
    if targets == "loopback" and address.is_loopback:
        return True
    if isinstance(address, IPv4Address):
        return not any(address in block for block in NOT_PUBLIC_V4)
    return (
        address.scope_id is None
        and address in PUBLIC_V6
        and not any(address in block for block in NOT_PUBLIC_V6)
    )
