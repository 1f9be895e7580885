"""Which URLs may be a session's proxy, and what is said of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import Denied
from shared.errors import Forged
from shared.ids import SessionId, TenantId
from shared.proxy import (
    LONGEST,
    LONGEST_PART,
    PORTS,
    SCHEMES,
    Login,
    Upstream,
    judge,
    opened,
    owner,
    sealed,
)
from shared.urls import Refused

KEYS = (b"k" * 32,)
NONCE = b"n" * 12
OWN = Denied.parse("93.184.0.0/16 api.example.org")

parts = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=LONGEST_PART
).filter(lambda text: len(text.encode()) <= LONGEST_PART)
logins = st.builds(Login, parts.filter(lambda user: ":" not in user), parts)
hosts = st.sampled_from(
    ["proxy.example.com", "93.184.216.34", "2606:2800:220:1::1", "xn--bcher-kva.example.net"]
)
ports = st.sampled_from(PORTS).flatmap(lambda both: st.integers(*both))


def upstream(url: str) -> Upstream:
    found = judge(url, "public")
    assert isinstance(found, Upstream), found
    return found


def code(url: str) -> str:
    found = judge(url, "public", OWN)
    assert isinstance(found, Refused)
    return found.code


@given(scheme=st.sampled_from(SCHEMES), host=hosts, port=ports, login=st.none() | logins)
def test_what_is_written_is_read(scheme: str, host: str, port: int, login: Login | None) -> None:
    """Whatever its credentials are, a proxy's URL says the same when it is read again."""
    address = upstream(f"http://{f'[{host}]' if ':' in host else host}:80").address
    meant = Upstream(scheme, host, port, address, login)
    if len(meant.url) > LONGEST:
        assert code(meant.url) == "proxy_too_long"
    else:
        assert upstream(meant.url) == meant


@given(host=hosts, port=ports, login=logins)
def test_what_is_shown_is_no_secret(host: str, port: int, login: Login) -> None:
    """Shown are scheme, host and port; that there are credentials is all that is said of them."""
    one, other = (
        Upstream("socks5", host, port, None, each) for each in (login, Login("user", "password"))
    )
    assert one.shown == other.shown
    assert one.shown.startswith("socks5://***@")
    assert repr(one) == repr(other)


@given(st.text(max_size=60))
def test_any_text_is_judged(text: str) -> None:
    """Nothing that is typed is an error of ours, and what is accepted is read the same again."""
    for url in (text, f"http://{text}", f"socks5://{text}:1080", f"http://{text}@example.com:80"):
        found = judge(url, "loopback")
        if isinstance(found, Upstream):
            assert judge(found.url, "loopback") == found


def test_a_url_is_made_plain() -> None:
    """Case, a closing dot and a closing slash mean nothing; a password may be left empty."""
    assert upstream("HTTP://User@Proxy.Example.COM.:3128/") == Upstream(
        "http", "proxy.example.com", 3128, None, Login("User", "")
    )
    assert upstream("http://a:b:c%40d@proxy.example.com:80").login == Login("a", "b:c@d")
    assert upstream("socks5://proxy.example.com:1080").shown == "socks5://proxy.example.com:1080"
    six = upstream("socks5://u:p@[2606:2800:220:1::1]:1080")
    assert six.shown == "socks5://***@[2606:2800:220:1::1]:1080"
    assert six.at("93.184.216.34") == "socks5://u:p@93.184.216.34:1080"


@pytest.mark.parametrize(
    ("url", "expected"),
    {
        "": "proxy_malformed",
        "proxy.example.com:8080": "proxy_malformed",
        "http:proxy.example.com:8080": "proxy_malformed",
        "http://proxy.example.com :8080": "proxy_malformed",
        "http://pröxy.example.com:8080": "proxy_malformed",
        "http://proxy.example.com:8080\n": "proxy_malformed",
        "https://proxy.example.com:8080": "proxy_scheme",
        "socks5h://proxy.example.com:1080": "proxy_scheme",
        "socks4://proxy.example.com:1080": "proxy_scheme",
        "socks4a://proxy.example.com:1080": "proxy_scheme",
        "socks://proxy.example.com:1080": "proxy_scheme",
        "ftp://proxy.example.com:21": "proxy_scheme",
        "://proxy.example.com:8080": "proxy_scheme",
        "http://proxy.example.com": "proxy_port",
        "http://proxy.example.com:": "proxy_port",
        "http://proxy.example.com:0": "proxy_port",
        "http://proxy.example.com:25": "proxy_port",
        "http://proxy.example.com:1023": "proxy_port",
        "http://proxy.example.com:65536": "proxy_port",
        "http://proxy.example.com:99999": "proxy_port",
        "http://proxy.example.com:123456": "proxy_host",
        "http://proxy.example.com:8080/path": "proxy_path",
        "http://proxy.example.com:8080//": "proxy_path",
        "http://proxy.example.com:8080?a=b": "proxy_path",
        "http://proxy.example.com:8080#a": "proxy_path",
        "http://proxy.example.com\\@10.0.0.1:8080": "proxy_path",
        "http://": "proxy_host",
        "http://:8080": "proxy_host",
        "http://u:p@:8080": "proxy_host",
        "http://a:b:8080": "proxy_host",
        "http://2606:2800:220:1::1:8080": "proxy_host",
        "http://[93.184.1.1]:8080": "proxy_not_public",
        "http://[8.8.8.8]:8080": "proxy_host",
        "http://[::1%25lo]:8080": "proxy_host",
        "http://1.2.3:8080": "proxy_host",
        "http://0x7f.1:8080": "proxy_host",
        "http://[::1]:8080": "proxy_not_public",
        "http://127.0.0.1:8080": "proxy_not_public",
        "http://10.0.0.1:8080": "proxy_not_public",
        "http://169.254.170.2:80": "proxy_not_public",
        "http://[::ffff:169.254.169.254]:80": "proxy_not_public",
        "http://localhost:8080": "proxy_not_public",
        "http://proxy.internal:8080": "proxy_not_public",
        "http://proxy:8080": "proxy_not_public",
        "http://93.184.216.34:8080": "proxy_not_public",
        "http://a.api.example.org:8080": "proxy_own",
        "http://@proxy.example.com:8080": "proxy_credentials",
        "http://:password@proxy.example.com:8080": "proxy_credentials",
        "http://a@b:c@proxy.example.com:8080": "proxy_credentials",
        "http://us<er:p@proxy.example.com:8080": "proxy_credentials",
        "http://user:100%@proxy.example.com:8080": "proxy_credentials",
        "http://user:%ff@proxy.example.com:8080": "proxy_credentials",
        "http://user:a%0d%0aX:b@proxy.example.com:8080": "proxy_credentials",
        "http://us%3Aer:p@proxy.example.com:8080": "proxy_credentials",
        "socks5://user@proxy.example.com:1080": "proxy_credentials",
        f"socks5://{'u' * 256}:p@proxy.example.com:1080": "proxy_credentials",
        f"http://u:{'%C3%BC' * 128}@proxy.example.com:80": "proxy_credentials",
        f"http://{'u' * LONGEST}@proxy.example.com:80": "proxy_too_long",
    }.items(),
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_proxy_is_refused_by_name(url: str, expected: str) -> None:
    """Each rule has a code; own addresses and hosts are refused as for webhooks."""
    assert code(url) == expected


def test_a_refusal_repeats_nothing() -> None:
    """Not the credentials either: a refusal is shown and logged."""
    for url in ("https://user:hunter2@proxy.example.com:80", "http://user:hunter2@10.0.0.1:80"):
        found = judge(url, "public")
        assert isinstance(found, Refused)
        assert "hunter2" not in found.detail


def test_development_may_use_its_own_machine() -> None:
    """`loopback` lets 127.0.0.1, ::1 and localhost through, on any port."""
    for host in ("127.0.0.1", "[::1]", "localhost"):
        assert isinstance(judge(f"socks5://u:p@{host}:9050", "loopback"), Upstream)
    assert isinstance(judge("socks5://localhost:81", "loopback"), Upstream)
    for url in ("socks5://10.0.0.1:9050", "http://localhost:0", "http://proxy.example.com:81"):
        assert isinstance(judge(url, "loopback"), Refused)


def test_a_proxy_is_kept_sealed_for_its_session() -> None:
    """Another session's or tenant's seal does not open; the row shows no credentials."""
    given = upstream("http://user:hunter2@proxy.example.com:8080")
    one, other = (
        owner(TenantId("ten_a"), SessionId(session_id)) for session_id in ("ses_a", "ses_b")
    )
    kept = sealed(KEYS, one, given, NONCE)
    assert kept.shown == "http://***@proxy.example.com:8080"
    assert b"hunter2" not in kept.sealed
    assert opened(KEYS, one, kept) == given.url
    with pytest.raises(Forged):
        opened(KEYS, other, kept)
