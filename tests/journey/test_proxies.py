"""A proxy of a session's own, from the API to the wire and back."""

import dataclasses
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from sandbox import story
from tests.journey.conftest import Product
from tests.way_out import WayOut, way_out

USER, PASSWORD = "someone", "hunter2-or-3"
LOGIN = f"{USER}:{PASSWORD}"


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


@asynccontextmanager
async def guarded(product: Product) -> AsyncGenerator[tuple[Product, WayOut]]:
    """The product with a watch on the way of sessions that have no proxy."""
    async with way_out("http", port_of(product.network.server_url)) as straight:
        network = msgspec.structs.replace(product.network, proxy_url=straight.url())
        yield dataclasses.replace(product, network=network), straight


async def _told(cast: story.Cast, reason: str, words: str = "") -> dict[str, Any]:
    """The webhook that says that the session changed for this reason."""
    told = await cast.receiver.wait(
        lambda event: (
            event["type"].startswith("session.")
            and event["data"].get("reason") == reason
            and words in (event["data"].get("detail") or "")
        ),
        reason,
    )
    return told.event["data"]


async def _again(cast: story.Cast) -> None:
    """The session connects once more."""
    seen = [each.id for each in cast.receiver.seen]
    await cast.receiver.wait(
        lambda event: event["type"] == "session.connected" and event["id"] not in seen,
        "connected again",
    )


async def _both_ways(cast: story.Cast, text: str) -> None:
    await story.confirm(cast, await story.send(cast, f"{text} out"))
    await story.reply(cast, f"{text} in")


async def test_a_session_is_led_through_its_proxy_and_another(own_product: Product) -> None:
    """Wrong credentials are told, a PATCH mends them, a dead proxy is waited for, nothing leaks."""
    target = port_of(own_product.network.server_url)
    async with (
        guarded(own_product) as (product, straight),
        product.gateway(),
        product.cast() as cast,
        way_out("socks5", target, (USER, PASSWORD)) as first,
    ):
        await story.create_session(cast, "code", first.url(f"{USER}:wrong-{PASSWORD}"))
        told = await _told(cast, "proxy_failed")
        assert told["detail"] == "the proxy did not accept the credentials, or asks for some"
        session = await cast.api.ok("GET", cast.session)
        assert session["reason"] == "proxy_failed"
        assert told["detail"] in session["detail"]
        assert session["proxy"] == f"socks5://***@127.0.0.1:{first.port}"

        mended = await cast.api.ok("PATCH", cast.session, {"proxy": first.url(LOGIN)})
        assert mended["proxy"] == session["proxy"]
        await story.offered(cast, "code")
        await story.link(cast, "code")
        await _both_ways(cast, "first")
        assert straight.came == 0

        async with way_out("http", target, (USER, PASSWORD)) as second:
            await cast.api.ok("PATCH", cast.session, {"proxy": second.url(LOGIN)})
            await _again(cast)
            await _both_ways(cast, "second")
        await _told(cast, "proxy_failed", "nobody listens")
        async with way_out("http", target, (USER, PASSWORD), port=second.port):
            await _again(cast)
            await _both_ways(cast, "third")
            assert straight.came == 0

            # The sandbox's own way in is a proxy too.
            sandbox = f"socks5://{LOGIN}@127.0.0.1:{port_of(own_product.network.proxy_url)}"
            await cast.api.ok("PATCH", cast.session, {"proxy": sandbox})
            await _again(cast)
            assert straight.came == 0
        await cast.api.ok("PATCH", cast.session, {"proxy": None})
        await _again(cast)
        assert straight.came > 0
        assert (await cast.api.ok("GET", cast.session))["proxy"] is None

        webhooks = str([each.event for each in cast.receiver.seen])
        logs = "".join(path.read_text() for path in (product.home / "logs").rglob("*.log*"))
        rows = str(product.rows(cast.session_id))
        for place in (webhooks, logs, rows):
            assert cast.session_id in place
            assert PASSWORD not in place
        assert "127.0.0.1" not in webhooks
        assert f":{first.port}" not in logs
        assert list(product.devices.rglob("*"))
        for path in product.devices.rglob("*"):
            assert path.is_dir() or PASSWORD.encode() not in path.read_bytes()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_the_next_gateway_goes_the_same_way(own_product: Product, scheme: Any) -> None:
    """One that takes over from a killed one, too; a proxy that is away is waited for."""
    target = port_of(own_product.network.server_url)
    async with guarded(own_product) as (product, straight), product.cast() as cast:
        async with (
            way_out(scheme, target, (USER, PASSWORD)) as way,
            product.gateway() as gateway,
        ):
            await story.create_session(cast, "qr", way.url(LOGIN))
            await story.offered(cast, "qr")
            await story.link(cast, "qr")
            gateway.process.kill()
        async with product.gateway():
            await _told(cast, "proxy_failed", "nobody listens")
            async with way_out(scheme, target, (USER, PASSWORD), port=way.port):
                await _both_ways(cast, "after")
            assert straight.came == 0
