"""Webhooks on the whole product: what a receiver goes through, and nothing is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sandbox import story
from sandbox.receiver import run_receiver, verifies
from tests.journey.conftest import Product, fit, judge_of


async def until(asked: Callable[[], Awaitable[Any]], good: Callable[[Any], bool]) -> Any:
    """The first good answer. Raises TimeoutError."""
    async with asyncio.timeout(story.PATIENCE):
        while not good(answer := await asked()):
            await asyncio.sleep(0.1)
        return answer


async def test_a_failing_receiver_is_left_alone_and_then_gets_everything(product: Product) -> None:
    """Its tenant is told elsewhere; once a test succeeds, what it was owed comes by itself."""
    async with product.connected() as cast, run_receiver() as other:
        watching = {"url": other.url, "events": ["endpoint.*", "delivery.*"]}
        made = await cast.api.ok("POST", "/v1/webhooks", watching)
        other.secret = made["secret"]
        endpoint = next(
            each
            for each in (await cast.api.ok("GET", "/v1/webhooks"))["data"]
            if each["url"] == cast.receiver.url
        )
        path = f"/v1/webhooks/{endpoint['id']}"
        cast.receiver.refusal = 503, {}
        texts = [f"are you there? {n}" for n in range(6)]
        for text in texts:
            await cast.people.send(cast.contact, cast.owner, text)
        failing = await other.typed("endpoint.failing")
        assert failing.event["data"]["endpoint_id"] == endpoint["id"]
        resting = await cast.api.ok("GET", path)
        assert resting["health"]["state"] == "resting"
        await cast.people.send(cast.contact, cast.owner, "and now?")

        tried = await cast.api.ok("POST", f"{path}/test", {}, Prefer="wait=20")
        assert tried["diagnosis"]["code"] == "server_error"
        cast.receiver.refusal = None
        tried = await cast.api.ok("POST", f"{path}/test", {}, Prefer="wait=20")
        assert tried["diagnosis"]["well"]
        await other.typed("endpoint.recovered")
        # What was held comes by itself; retries keep their pauses, unless they are asked for now.
        await story.told(cast, "and now?")
        session = await cast.api.ok("GET", cast.session)
        order = {"since": session["created_at"], "states": ["waiting"]}
        await cast.api.ok("POST", f"{path}/recover", order)
        for text in texts:
            await story.told(cast, text)
        assert (await cast.api.ok("GET", path))["health"]["state"] == "healthy"
        fit(await judge_of(cast.api), other)


async def test_a_rotated_secret_is_followed_without_a_gap(product: Product) -> None:
    """Both secrets verify while they overlap; a revoked one verifies nothing any more."""
    async with product.cast() as cast:
        (endpoint,) = (await cast.api.ok("GET", "/v1/webhooks"))["data"]
        path = f"/v1/webhooks/{endpoint['id']}"
        old = cast.receiver.secret
        new = (await cast.api.ok("POST", f"{path}/secret/rotate", {}))["secret"]
        assert old is not None
        again = await cast.api.call("POST", f"{path}/secret/rotate", {})
        assert again.status == 409
        await cast.api.ok("POST", f"{path}/test", {}, Prefer="wait=20")
        assert judged(cast, old, new) == [True, True]

        await cast.api.ok("POST", f"{path}/secret/revoke-previous")
        await cast.api.ok("POST", f"{path}/test", {}, Prefer="wait=20")
        assert judged(cast, old, new) == [False, True]


async def test_what_was_given_up_is_recovered_under_the_same_ids(product: Product) -> None:
    """The log says why it failed; a recovery sends it again, and says how far it is."""
    async with product.connected() as cast:
        endpoint = (await cast.api.ok("GET", "/v1/webhooks"))["data"][0]
        path = f"/v1/webhooks/{endpoint['id']}"
        before = len(cast.receiver.seen)
        cast.receiver.refusal = 500, {"webhook-delivery": "abort-message"}
        await cast.people.send(cast.contact, cast.owner, "not now")

        def given_up() -> Awaitable[Any]:
            return cast.api.ok("GET", f"{path}/deliveries?state=gave_up")

        (lost,) = (await until(given_up, lambda page: len(page["data"]) == 1))["data"]
        cast.receiver.refusal = None
        read = await cast.api.ok("GET", f"{path}/deliveries/{lost['event_id']}")
        (attempt,) = read["log"]
        assert (attempt["status"], attempt["outcome"]) == (500, "gave_up")
        assert attempt["request_headers"]["webhook-id"] == lost["event_id"]

        session = await cast.api.ok("GET", cast.session)
        order = {"since": session["created_at"], "dry_run": True}
        assert (await cast.api.ok("POST", f"{path}/recover", order))["found"] == 1
        job = await cast.api.ok("POST", f"{path}/recover", {**order, "dry_run": False})

        def at() -> Awaitable[Any]:
            return cast.api.ok("GET", f"{path}/recoveries/{job['id']}")

        done = await until(at, lambda found: found["state"] == "done")
        assert (done["moved"], done["progress"]) == (1, 1.0)
        await story.told(cast, "not now")
        assert cast.receiver.seen[before].id == lost["event_id"]


def judged(cast: story.Cast, *secrets: str) -> list[bool]:
    """Which secrets the last webhook verifies with."""
    last = cast.receiver.seen[-1]
    return [verifies(secret, last.body, last.headers) for secret in secrets]
