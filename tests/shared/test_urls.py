"""Where a webhook may go: the address rule and the URL rule."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import NOT_PUBLIC_V4, address_allowed
from shared.urls import Refused, Target, judge

BLOCKED = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.255 169.254.169.254
169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.171 192.0.2.1 192.88.99.1 192.168.1.1
198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1
255.255.255.255 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:0:127.0.0.1
64:ff9b::7f00:1 64:ff9b:1::1 100::1 100:0:0:1::1 2001::1 2001:2::1 2001:20::1 2001:db8::1
2002:7f00:1:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%lo fec0::1 ff02::1
""".split()  # noqa: SIM905 - a table to read
ALLOWED = """
1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.255.255 172.32.0.1 198.17.255.255
223.255.255.255 2600::1 2606:4700:4700::1111 2a00:1450:4001:830::200e ::ffff:8.8.8.8
""".split()  # noqa: SIM905 - a table to read


@pytest.mark.parametrize("text", BLOCKED)
def test_no_special_address_is_posted_to(text: str) -> None:
    """Every special-purpose range of the IANA registries is refused, in each of its spellings."""
    assert not address_allowed(ip_address(text), "public")


@pytest.mark.parametrize("text", ALLOWED)
def test_public_addresses_are_posted_to(text: str) -> None:
    """What lies just outside the ranges is not refused."""
    assert address_allowed(ip_address(text), "public")


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.9.9.9"])
def test_development_may_reach_this_machine_and_nothing_else_private(text: str) -> None:
    """`loopback` adds this machine's own addresses only."""
    assert address_allowed(ip_address(text), "loopback")
    assert not address_allowed(ip_address("10.0.0.1"), "loopback")
    assert not address_allowed(ip_address("169.254.169.254"), "loopback")


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_what_it_maps(address: IPv4Address) -> None:
    """IPv6 spelling buys nothing."""
    mapped = IPv6Address(f"::ffff:{address}")

    assert address_allowed(mapped, "public") == address_allowed(address, "public")
    assert address_allowed(address, "public") == (not any(address in x for x in NOT_PUBLIC_V4))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "https://example.com:8443/a?b=c",
        "https://EXAMPLE.com./",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_public_https_urls_are_taken(url: str) -> None:
    """Https to a public host on 443 or 8443 is what an endpoint looks like."""
    assert isinstance(judge(url, "public"), Target)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/", "url_not_https"),
        ("ftp://example.com/", "url_not_https"),
        ("//example.com/", "url_not_https"),
        ("example.com", "url_not_https"),
        ("localhost:8000/hook", "url_not_https"),
        ("https://", "url_host"),
        ("https:///path", "url_host"),
        ("https://user:pass@example.com/", "url_credentials"),
        ("https://@example.com/", "url_credentials"),
        ("https://example.com/#part", "url_fragment"),
        ("https://example.com:22/", "url_port"),
        ("https://example.com:0/", "url_port"),
        ("https://example.com:99999/", "url_malformed"),
        ("https://example.com:x/", "url_malformed"),
        ("https://[::1/", "url_malformed"),
        ("https://bücher.example/", "url_malformed"),
        ("https://exa mple.com/", "url_malformed"),
        ("https://example.com/\n", "url_malformed"),
        ("https://example.com\\@127.0.0.1/", "url_malformed"),
        ("https://127.0.0.1/", "url_not_public"),
        ("https://169.254.169.254/latest/meta-data", "url_not_public"),
        ("https://[::1]/", "url_not_public"),
        ("https://[::ffff:10.0.0.1]/", "url_not_public"),
        ("https://[fe80::1%25lo]/", "url_not_public"),
        ("https://localhost/", "url_not_public"),
        ("https://printer.local/", "url_not_public"),
        ("https://intern/", "url_not_public"),
        ("https://127.1/", "url_host"),
        ("https://0x7f.1/", "url_host"),
        ("https://2130706433/", "url_host"),
        ("https://017700000001/", "url_host"),
        ("https://-.example/", "url_host"),
        ("https://example.com/" + "a" * 2_048, "url_too_long"),
    ],
)
def test_other_urls_are_refused_with_their_reason(url: str, code: str) -> None:
    """Each rule has its own code, and private targets are refused in every spelling."""
    refused = judge(url, "public")

    assert isinstance(refused, Refused)
    assert refused.code == code


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/", "http://localhost:9/x", "https://[::1]:1234/"]
)
def test_development_may_post_to_this_machine(url: str) -> None:
    """`loopback` allows plain http and any port, to this machine only."""
    assert isinstance(judge(url, "loopback"), Target)
    assert isinstance(judge("http://example.com/", "loopback"), Refused)
    assert isinstance(judge("http://10.0.0.1/", "loopback"), Refused)


@given(st.text())
def test_judging_never_fails(url: str) -> None:
    """Whatever is typed gets a verdict."""
    assert isinstance(judge(f"https://{url}", "public"), Target | Refused)
