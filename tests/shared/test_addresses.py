"""Which addresses are public: each special-purpose class by name, and the registries whole."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import NOT_PUBLIC_V4, Denied, address_allowed
from shared.errors import Misconfigured

CLASSES = {
    # IPv4
    "this-network": "0.0.0.0",  # noqa: S104 - an address to refuse
    "this-network-inside": "0.1.2.3",
    "private-10": "10.0.0.1",
    "carrier-grade-nat": "100.64.0.1",
    "loopback": "127.0.0.1",
    "loopback-other": "127.255.255.254",
    "cloud-metadata": "169.254.169.254",
    "ecs-task-credentials": "169.254.170.2",
    "vpc-name-server": "169.254.169.253",
    "private-172": "172.16.0.1",
    "protocol-assignments": "192.0.0.8",
    "documentation-1": "192.0.2.1",
    "6to4-relays": "192.88.99.1",
    "private-192": "192.168.0.1",
    "benchmarks": "198.18.0.1",
    "documentation-2": "198.51.100.1",
    "documentation-3": "203.0.113.1",
    "multicast": "224.0.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    # IPv6
    "v6-unspecified": "::",
    "v6-loopback": "::1",
    "v4-compatible": "::7f00:1",
    "v4-mapped-loopback": "::ffff:127.0.0.1",
    "v4-mapped-metadata": "::ffff:169.254.169.254",
    "v4-translated-siit": "::ffff:0:127.0.0.1",
    "nat64": "64:ff9b::7f00:1",
    "nat64-local": "64:ff9b:1::a00:1",
    "discard-only": "100::1",
    "dummy-prefix": "100:0:0:1::1",
    "teredo": "2001::1",
    "v6-benchmarks": "2001:2::1",
    "orchid-v2": "2001:20::1",
    "v6-documentation-1": "2001:db8::1",
    "6to4": "2002:7f00:1::",
    "v6-documentation-2": "3fff::1",
    "segment-routing": "5f00::1",
    "unique-local": "fc00::1",
    "v6-metadata": "fd00:ec2::254",
    "link-local": "fe80::1",
    "link-local-scoped": "fe80::1%lo",
    "site-local": "fec0::1",
    "v6-multicast": "ff02::1",
}
PUBLIC = {
    "google-dns": "8.8.8.8",
    "cloudflare-dns": "1.1.1.1",
    "before-carrier-grade-nat": "100.63.255.255",
    "after-private-172": "172.32.0.1",
    "v6-cloudflare": "2606:4700:4700::1111",
    "v6-google": "2a00:1450:4001:830::200e",
    "v4-mapped-public": "::ffff:8.8.8.8",
}

# IANA's special-purpose address registries (as of 2025), and what is set apart elsewhere: multicast
# (RFC 5771, 4291), class E (RFC 1112), IPv4-compatible and site-local (RFC 4291, 3879), SIIT
# (RFC 2765). Whole blocks, also the parts of 192.0.0.0/24 and 2001::/23 that are globally reachable
# (anycast for TURN and PCP, AS112, DETs): no receiver lives there.
REGISTRIES = """
0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
192.0.0.0/29 192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24
192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
255.255.255.255/32
::1/128 ::/128 ::/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23
2001::/32 2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48
2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16 3fff::/20 5f00::/16 fc00::/7
fe80::/10 fec0::/10 ff00::/8
""".split()  # noqa: SIM905 - a table to read


@pytest.mark.parametrize("text", CLASSES.values(), ids=CLASSES)
def test_no_class_of_special_addresses_is_posted_to(text: str) -> None:
    """Each of the 43 is refused; the development setting adds this machine itself and no more."""
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    assert not address_allowed(address, "public")
    assert address_allowed(address, "loopback") == (mapped or address).is_loopback


@pytest.mark.parametrize("text", PUBLIC.values(), ids=PUBLIC)
def test_what_is_public_is_posted_to(text: str) -> None:
    """Nothing is refused that anybody may have."""
    assert address_allowed(ip_address(text), "public")


def test_there_are_43_classes_and_7_good_ones() -> None:
    """None was lost, and none is there twice."""
    assert len(set(CLASSES.values())) == 43
    assert len(set(PUBLIC.values())) == 7


@pytest.mark.parametrize("block", REGISTRIES)
def test_the_registries_agree(block: str) -> None:
    """A registered block is refused from its first address to its last, and in the middle."""
    network = ip_network(block)
    middle = network[network.num_addresses // 2]
    for address in (network[0], middle, network[-1]):
        assert not address_allowed(address, "public"), address


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_what_it_maps(address: IPv4Address) -> None:
    """IPv6 spelling buys nothing."""
    mapped = IPv6Address(f"::ffff:{address}")
    assert address_allowed(mapped, "public") == address_allowed(address, "public")
    assert address_allowed(address, "public") == (not any(address in x for x in NOT_PUBLIC_V4))


@given(st.ip_addresses(v=6))
def test_only_global_unicast_is_public(address: IPv6Address) -> None:
    """Outside 2000::/3 only what maps an IPv4 address is ever posted to."""
    if address_allowed(address, "public"):
        assert address in ip_network("2000::/3") or address.ipv4_mapped is not None


DENIED = Denied.parse(
    "8.8.0.0/16, 2a05:d018:abc::/56 203.0.113.7 api.example.com HOOKS.Example.ORG."
)


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "::ffff:8.8.8.8", "2a05:d018:abc::1", "2a05:d018:abc:ff:ffff::"]
)
def test_our_own_networks_are_not_posted_to(text: str) -> None:
    """However public they are by their form, and mapped too."""
    assert address_allowed(ip_address(text), "public")
    assert not address_allowed(ip_address(text), "public", DENIED)


def test_what_lies_beside_our_own_networks_is_posted_to() -> None:
    """What is denied is a network, not a family."""
    assert address_allowed(ip_address("8.9.0.1"), "public", DENIED)
    assert address_allowed(ip_address("2a05:d018:abd::1"), "public", DENIED)


def test_what_is_denied_is_denied_in_development_too() -> None:
    """This machine may be what is denied."""
    here = Denied.parse("127.0.0.0/8")
    assert not address_allowed(ip_address("127.0.0.1"), "loopback", here)
    assert address_allowed(ip_address("::1"), "loopback", here)


@pytest.mark.parametrize(
    ("host", "denied"),
    [
        ("api.example.com", True),
        ("API.EXAMPLE.COM.", True),
        ("v1.api.example.com", True),
        ("hooks.example.org", True),
        ("example.com", False),
        ("notapi.example.com", False),
        ("api.example.com.evil.net", False),
        ("", False),
    ],
)
def test_our_own_hosts_and_what_is_under_them(host: str, *, denied: bool) -> None:
    """A name stands for itself and what is under it, in any spelling."""
    assert DENIED.host(host) is denied


@pytest.mark.parametrize("text", ["", "  ", ", ,"])
def test_nothing_may_be_denied(text: str) -> None:
    """An empty setting denies nothing."""
    assert Denied.parse(text) == Denied()


@pytest.mark.parametrize(
    "word",
    [
        "10.0.0.1/16",  # bits beyond the mask: which network is meant?
        "10.0.0.0/33",
        "10.0.0",
        "10.0.0.256",
        "2a05:d018::/129",
        "2a05:d018:::/32",
        "production",
        "https://api.example.com",
        "api.example.com:443",
        "api.example.com/path",
        "*.example.com",
        "a..example.com",
        "bücher.example",
    ],
)
def test_what_cannot_be_read_is_not_passed_over(word: str) -> None:
    """A mistake here would leave a door open: it stops the process, naming the word."""
    with pytest.raises(Misconfigured, match="ZAPGATE_WEBHOOK_DENIED"):
        Denied.parse(f"10.0.0.0/8 {word} api.example.com")
