"""What is wrong with an endpoint, told from one attempt in words its owner can act on."""

from typing import Final

import msgspec

SLOW: Final = 10_000.0
"""Milliseconds after which an answer is dangerously late: attempts end after 15 seconds."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt tells of its endpoint."""

    code: str
    well: bool
    """Whether it arrived."""
    means: str
    then: str
    """What to do."""


def _fault(code: str, means: str, then: str) -> Diagnosis:
    return Diagnosis(code=code, well=False, means=means, then=then)


_SIGNATURE: Final = (
    "If you verify the signature: it is an HMAC-SHA256, in base64, over `webhook-id`, a dot, "
    "`webhook-timestamp`, a dot, and the raw body, byte for byte as it arrived, before any JSON "
    "parser; the key is this endpoint's newest secret, base64-decoded after `whsec_`; the header "
    "may hold several signatures, of which one must fit; and your clock must be right."
)

OK: Final = Diagnosis(code="ok", well=True, means="The endpoint answered 2xx.", then="Nothing.")
LATE: Final = Diagnosis(
    code="slow",
    well=True,
    means="The endpoint answered 2xx, but so late that it will be cut off when it is busier.",
    then="Store the event, answer at once, and do the work afterwards.",
)

FAULTS: Final = {
    each.code: each
    for each in (
        _fault(
            "dns_error",
            "The URL's host name does not resolve.",
            "Check the spelling, and that the name is in public DNS.",
        ),
        _fault(
            "dns_timeout",
            "The name servers of the URL's host did not answer in time.",
            "Check that all of the domain's name servers are up and delegated to.",
        ),
        _fault(
            "connection_refused",
            "Nothing listens at the URL's address and port, or a firewall refuses.",
            "Start the server; check the port and what stands before it.",
        ),
        _fault(
            "connection_reset",
            "The connection was opened, then closed without an answer.",
            "Look for a crash, a proxy's limit or a firewall; a server that speaks only HTTP "
            "behind an https URL does this too.",
        ),
        _fault(
            "connection_failed",
            "No connection could be made to the URL's address.",
            "Check that the server is reachable from the internet, by IPv4 or IPv6.",
        ),
        _fault(
            "timeout",
            "No complete answer came in time, counted from the name's resolution to the answer's "
            "last byte.",
            "Store the event, answer at once, and do the work afterwards; if nothing arrived at "
            "all, a firewall drops our packets.",
        ),
        _fault(
            "tls_error",
            "The TLS handshake failed: the port may speak no TLS, only versions below 1.2, or not "
            "know the URL's host name.",
            "Check what `openssl s_client -connect host:port -servername host` shows.",
        ),
        _fault(
            "tls_expired",
            "The server's certificate has expired.",
            "Renew it, and let the server load the new one.",
        ),
        _fault(
            "tls_wrong_host",
            "The server's certificate is not for the URL's host name.",
            "Get a certificate for that name, or change the URL to one the certificate names.",
        ),
        _fault(
            "tls_untrusted",
            "The server's certificate is self-signed, or no public authority's, or its chain lacks "
            "an intermediate.",
            "Use a public authority's certificate, and let the server send the whole chain.",
        ),
        _fault(
            "blocked_address",
            "The host name led to an address that is not public, which we never dial.",
            "Let the name resolve to public addresses only, over IPv4 and IPv6.",
        ),
        _fault(
            "protocol_error",
            "What came back is not an HTTP answer that can be read.",
            "Check that the port speaks HTTP/1.1, and that lengths and encodings are true.",
        ),
        _fault(
            "invalid_url",
            "The URL cannot be requested.",
            "Change the endpoint's URL.",
        ),
        _fault(
            "interrupted",
            "We stopped while the attempt was being made: whether it arrived is not known.",
            "Try again.",
        ),
        _fault(
            "secret_unreadable",
            "The endpoint's secret could not be opened, so nothing was sent. This is our fault.",
            "Rotate the endpoint's secret, and tell us.",
        ),
    )
}
"""By the code of an attempt that was not answered."""

STATUSES: Final = {
    400: _fault("bad_request", "The endpoint answered 400: it refused the request.", _SIGNATURE),
    401: _fault(
        "unauthorized", "The endpoint answered 401: it wants proof of who asks.", _SIGNATURE
    ),
    403: _fault(
        "forbidden",
        "The endpoint, or a firewall before it, answered 403.",
        f"Let our requests pass the firewall. {_SIGNATURE}",
    ),
    404: _fault(
        "not_found",
        "The server is there, but nothing is at the URL's path.",
        "Check the path, its closing slash included, and that the route is deployed.",
    ),
    405: _fault(
        "method_not_allowed",
        "The path does not take POST.",
        "Let the route take POST; a redirect or a wrong path often shows like this.",
    ),
    410: _fault(
        "gone",
        "The endpoint answered 410: it wants no more. Outside of a test this disables it.",
        "Answer 2xx, then enable the endpoint.",
    ),
    413: _fault(
        "too_large",
        "The server does not take bodies of this size.",
        "Raise its limit: an event may have 360 kB.",
    ),
    415: _fault(
        "unsupported_media_type",
        "The route does not take JSON.",
        "Let it take `application/json`.",
    ),
    429: _fault(
        "too_many_requests",
        "The endpoint limits our rate.",
        "Raise its limit, or answer with `Retry-After`, which is honoured.",
    ),
}
"""By the status of the answer; the classes below have those that are not here."""

CLASSES: Final = {
    1: _fault("protocol_error", "The endpoint answered with no final status.", "Answer 2xx."),
    3: _fault(
        "redirect",
        "The endpoint answered with a redirect, which is never followed: a POST that follows one "
        "can arrive without its body, and a login page would count as delivered.",
        "Set the endpoint's URL to where it leads, https and closing slash included.",
    ),
    4: _fault(
        "refused",
        "The endpoint refused the request.",
        "See the answer's body, and the receiver's log.",
    ),
    5: _fault(
        "server_error",
        "The endpoint, or a proxy before it, failed.",
        "See the receiver's log; 502, 503 and 504 mostly mean that the server behind the proxy is "
        "down or slow.",
    ),
}

UNKNOWN: Final = _fault(
    "failed", "The attempt failed.", "See the attempt's error, and the receiver's log."
)


def diagnose(status: int | None, error: str | None, took: float | None) -> Diagnosis:
    """What an attempt means that was answered with `status`, or failed with `error`.

    Args:
        status: of the answer, where there was one, or the beginning of one.
        error: the attempt's code: `http_…` where the answer was whole and no success.
        took: milliseconds, where they are known.
    """
    if status is None or (error is not None and error in FAULTS):
        return FAULTS.get(error or "", UNKNOWN)
    if 200 <= status < 300:
        return LATE if took is not None and took >= SLOW else OK
    return STATUSES.get(status) or CLASSES.get(status // 100, UNKNOWN)
