"""The way out, against servers as they come."""

import asyncio
import gzip
import ipaddress
import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway import egress as egress_module
from gateway.delivery import Answer, Fault, Post
from gateway.egress import Egress, fault_code
from shared.addresses import Targets
from tests.gateway.receivers import Receiver, read_request, response, served

DEADLINE = 0.6


@asynccontextmanager
async def opened(
    targets: Targets = "loopback", trusted: ssl.SSLContext | None = None
) -> AsyncGenerator[Egress]:
    async with Egress(targets, deadline=DEADLINE, trusted=trusted) as egress:
        yield egress


def post(url: str, body: bytes = b'{"a": 1}') -> Post:
    return Post(url, {"content-type": "application/json", "user-agent": "Zapgate/0"}, body)


async def test_a_post_arrives_as_it_was_made() -> None:
    """Method, headers and bytes are ours; nothing is added that says more."""
    receiver = Receiver()
    async with opened() as egress, served(receiver) as url:
        attempt = await egress.post(post(url, "{“ü”}".encode()))
    assert attempt.result == Answer(204)
    (request,) = receiver.requests
    assert request.line == "POST /hook HTTP/1.1"
    assert request.body == "{“ü”}".encode()
    assert request.headers.keys() == {"host", "content-type", "user-agent", "content-length"}


async def test_what_a_receiver_says_in_headers_is_heard() -> None:
    """`Retry-After` and `webhook-delivery` come with the status."""
    receiver = Receiver([response(503, "retry-after: 120", "webhook-delivery: abort-message")])
    async with opened() as egress, served(receiver) as url:
        attempt = await egress.post(post(url))
    assert attempt.result == Answer(503, "120", "abort-message")


async def test_a_redirect_is_not_followed() -> None:
    """302 to a page that would answer 200 is a 302, and that page is never asked."""
    trap = Receiver([response(200)])
    async with opened() as egress, served(trap) as elsewhere:
        receiver = Receiver([response(302, f"location: {elsewhere}")])
        async with served(receiver) as url:
            attempt = await egress.post(post(url))
    assert attempt.result == Answer(302)
    assert trap.requests == []


async def test_cookies_are_not_kept() -> None:
    """What a receiver sets is not sent to it, or to anybody, the next time."""
    receiver = Receiver([response(200, "set-cookie: a=b; path=/")])
    async with opened() as egress, served(receiver) as url:
        await egress.post(post(url))
        await egress.post(post(url))
    assert "cookie" not in receiver.requests[1].headers
    assert receiver.connections == 1, "but the connection is"


async def test_a_kept_connection_that_died_is_not_the_events_fault() -> None:
    """A server that closed an idle connection gets the post on a new one."""
    count = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await read_request(reader)
        writer.write(response(204))
        await writer.drain()
        # Closes with the next request in its hands.
        if count == 1:
            await reader.readexactly(1)

    async with opened() as egress, served(once) as url:
        assert (await egress.post(post(url))).result == Answer(204)
        assert (await egress.post(post(url))).result == Answer(204)
    assert count == 2


async def test_silence_ends_at_the_deadline() -> None:
    """A server that takes the request and says nothing is a timeout."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with opened() as egress, served(silent) as url:
        began = time.monotonic()
        attempt = await egress.post(post(url))
    assert attempt.result == Fault("timeout")
    assert time.monotonic() - began < DEADLINE + 0.5
    assert attempt.phases.total >= DEADLINE * 1000


async def test_dripping_ends_at_the_deadline() -> None:
    """The time is counted over the body, not from byte to byte."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with opened() as egress, served(drip) as url:
        assert (await egress.post(post(url))).result == Fault("timeout")


async def test_an_endless_body_is_cut_off() -> None:
    """No more than 16 KiB are read, and the status stands."""
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536

    async with opened() as egress, served(flood) as url:
        attempt = await egress.post(post(url))
        assert attempt.result == Answer(200)
    assert sent < 16 * 1024 * 1024


async def test_a_gzip_bomb_is_not_unpacked() -> None:
    """A body is never decompressed: it stays as small as it came."""
    bomb = gzip.compress(bytes(50_000_000))
    receiver = Receiver([response(200, "content-encoding: gzip", body=bomb)])
    async with opened() as egress, served(receiver) as url:
        attempt = await egress.post(post(url))
    assert attempt.result == Answer(200)
    assert attempt.phases.total < 300


async def test_a_reset_is_told_from_a_refusal() -> None:
    """A connection cut off and a port where nobody listens have codes of their own."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.transport.abort()

    async with opened() as egress:
        async with served(reset) as url:
            assert (await egress.post(post(url))).result == Fault("connection_reset")
        assert (await egress.post(post(url))).result == Fault("connection_refused")


@pytest.mark.parametrize(
    "answer",
    [
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_http_is_a_protocol_error(answer: bytes) -> None:
    """Garbage, endless headers and broken bodies are failures with one code."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with opened() as egress, served(speak) as url:
        assert (await egress.post(post(url))).result == Fault("protocol_error")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://127.1:{port}/",
        "http://0:{port}/",
        "http://0.0.0.0:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://169.254.170.2/v2/credentials",
        "http://10.0.0.1/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://[64:ff9b::7f00:1]/",
        "http://①②⑦.0.0.1:{port}/",
    ],
)
async def test_the_inside_is_never_dialled(url: str) -> None:
    """However an inner address is written, no connection is made to it."""
    receiver = Receiver()
    async with opened("public") as egress, served(receiver) as local:
        port = local.rsplit(":", 1)[1].split("/")[0]
        attempt = await egress.post(post(url.format(port=port)))
    assert attempt.result in {Fault("blocked_address"), Fault("invalid_url"), Fault("dns_error")}
    assert receiver.connections == 0


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 signed by itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])

    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2099, 1, 1, tzinfo=UTC))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / "receiver.pem"
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return file, context


async def test_tls_is_verified(tmp_path: Path) -> None:
    """A certificate nobody vouches for, a foreign name, or no TLS at all: nothing is sent."""
    file, context = certificate(tmp_path)
    receiver = Receiver()
    trusting = ssl.create_default_context(cafile=str(file))
    async with served(receiver, context) as url:
        async with opened() as egress:
            assert (await egress.post(post(url))).result == Fault("tls_error")
        async with opened(trusted=trusting) as egress:
            assert (await egress.post(post(url))).result == Answer(204)
            elsewhere = url.replace("127.0.0.1", "localhost")
            assert (await egress.post(post(elsewhere))).result == Fault("tls_error")

    async def plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(response(400))
        await writer.drain()

    async with opened() as egress, served(plainly) as plain:
        result = (await egress.post(post(plain.replace("http:", "https:")))).result
        assert result == Fault("tls_error")
    assert len(receiver.requests) == 1


async def test_old_tls_is_not_spoken(tmp_path: Path) -> None:
    """TLS 1.1 is refused by whatever context we are given."""
    trusting = ssl.create_default_context()
    async with opened(trusted=trusting):
        assert trusting.minimum_version is ssl.TLSVersion.TLSv1_2


def test_codes_name_the_innermost_known_cause() -> None:
    """Errors of several layers get one code; unknown ones say no more than that it failed."""
    key: Any = mock.Mock()
    dns = aiohttp.ClientConnectorDNSError(key, OSError("x"))
    assert fault_code(dns) == "dns_error"
    assert fault_code(aiohttp.ClientConnectorError(key, TimeoutError())) == "timeout"
    assert fault_code(aiohttp.ClientConnectorError(key, OSError(113, "no route"))) == (
        "connection_failed"
    )
    assert fault_code(ValueError("x")) == "protocol_error"
    assert egress_module.DEADLINE <= 15
