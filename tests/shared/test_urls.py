"""Where a webhook may go: the rule of URLs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import Denied
from shared.urls import Refused, Target, judge

FORMS = {
    "ipv4": "127.0.0.1",
    "name": "localhost",
    "ipv6": "[::1]",
    "mapped": "[::ffff:127.0.0.1]",
    "decimal": "2130706433",
    "hexadecimal": "0x7f.1",
    "short": "127.1",
    "zero": "0",
    "metadata": "169.254.169.254",
    "octal": "017700000001",
    "circled-digits": "①②⑦.0.0.1",
    "scoped": "[fe80::1%lo]",
}


@pytest.mark.parametrize("host", FORMS.values(), ids=FORMS)
def test_no_spelling_of_an_inner_address_is_taken(host: str) -> None:
    """The twelve forms in which the inside is written to get past a filter."""
    for url in (f"https://{host}/", f"https://{host}:8443/hook", f"https://{host}./"):
        assert isinstance(judge(url, "public"), Refused), url


def test_our_own_hosts_are_refused() -> None:
    """A webhook to ourselves would go round in circles; a network of ours is not public."""
    denied = Denied.parse("api.example.com 8.8.8.0/24 2a05:d018::/32")
    for url, code in (
        ("https://api.example.com/v1/messages", "url_own"),
        ("https://API.example.com.:8443/", "url_own"),
        ("https://any.api.example.com/", "url_own"),
        ("https://8.8.8.8/", "url_not_public"),
        ("https://[2a05:d018::1]/", "url_not_public"),
        ("https://[::ffff:8.8.8.8]/", "url_not_public"),
    ):
        refused = judge(url, "public", denied)
        assert isinstance(refused, Refused)
        assert refused.code == code
    assert isinstance(judge("https://example.com/", "public", denied), Target)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "https://example.com:8443/a?b=c",
        "https://EXAMPLE.com./",
        "https://home.example.com/",
        "https://svc.corp.example.org/",
        "https://mytest.dev/",
        "https://not-home.net/",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]/",
        "https://xn--bcher-kva.example.com/",
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
        ("https://localhost.localdomain/", "url_not_public"),
        ("https://hooks.test/", "url_not_public"),
        ("https://hooks.invalid/", "url_not_public"),
        ("https://hooks.EXAMPLE./", "url_not_public"),
        ("https://foo.corp/", "url_not_public"),
        ("https://foo.home/", "url_not_public"),
        ("https://foo.mail/", "url_not_public"),
        ("https://router.home.arpa/", "url_not_public"),
        ("https://kubernetes.default.svc/", "url_not_public"),
        ("https://kubernetes.default.svc.cluster.local/", "url_not_public"),
        ("https://[2606:4700:4700::1111%25eth0]/", "url_not_public"),
        ("https://example.com:", "url_port"),
        ("https://example.com:/hook", "url_port"),
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


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:0/", "url_port"),
        ("http://localhost:0/", "url_port"),
        ("http://localhost:/", "url_port"),
        ("https://[::1%25lo]/", "url_host"),
        ("https://[::1%25lo]:1234/", "url_host"),
    ],
)
def test_development_may_not_post_to_what_is_nowhere(url: str, code: str) -> None:
    """Port 0 cannot be dialled, and a scope belongs to the machine it was read on."""
    refused = judge(url, "loopback")

    assert isinstance(refused, Refused)
    assert refused.code == code


@given(st.text())
def test_judging_never_fails(url: str) -> None:
    """Whatever is typed gets a verdict."""
    assert isinstance(judge(f"https://{url}", "public"), Target | Refused)
