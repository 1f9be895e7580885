"""The life of a session on the whole product: what is ordered, what ends it, and what it says."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from sandbox import story
from sandbox.receiver import Receiver
from sandbox.whatsapp import control_types as faults
from tests.journey.conftest import Product, children

DEVICE = "device.db*"


def files(product: Product, session_id: str, pattern: str = "*") -> list[Path]:
    """What lies on the disk of a session."""
    return [path for path in product.devices.rglob(pattern) if session_id in path.parts]


def states(receiver: Receiver, session_id: str) -> list[tuple[str, str | None]]:
    """What the session's events told, in the order of their sequence."""
    told = {
        each.event["sequence"]: (
            each.event["type"].removeprefix("session."),
            each.event["data"].get("reason"),
        )
        for each in receiver.seen
        if each.event.get("session_id") == session_id and each.event["type"].startswith("session.")
    }
    return [told[sequence] for sequence in sorted(told)]


async def pairing_of(cast: story.Cast, *, number: str | None = None, error: bool = False) -> Any:
    """The attempt, once it has a code for a number, or says why there is none."""
    async with asyncio.timeout(story.PATIENCE):
        while True:
            answer = await cast.api.call("GET", f"{cast.session}/pairing", Prefer="wait=10")
            found: Any = answer.json if answer.status == 200 else {}
            wanted = found.get("code_error" if error else "code")
            if wanted and (number is None or found["phone_number"] == number):
                return found
            await asyncio.sleep(0.1)


async def test_a_session_is_reset_and_paired_again(product: Product) -> None:
    """Its keys are gone from the disk, the phone still lists the device, and a start pairs anew."""
    async with product.connected() as cast:
        assert files(product, cast.session_id, DEVICE)
        reset = await cast.api.ok("POST", f"{cast.session}/reset", Prefer="wait=20")

        assert (reset["state"], reset["reason"]) == ("logged_out", "credentials_reset")
        assert (reset["desired"], reset["pending"], reset["attended"]) == ("stopped", False, True)
        assert reset["connected_at"] is None
        async with asyncio.timeout(30):  # the state is written before the keys are erased
            while files(product, cast.session_id, DEVICE):
                await asyncio.sleep(0.05)
        person = await product.people.person(cast.owner)
        assert len(person.devices) == 1
        again = await cast.api.call("POST", f"{cast.session}/reset")
        assert again.status == 409

        before = len(cast.receiver.seen)
        await cast.api.ok("POST", f"{cast.session}/start", {"phone_number": cast.owner})
        offered = await pairing_of(cast)
        await cast.people.type_code(cast.owner, offered["code"])
        await cast.receiver.wait(
            lambda event: (
                event["type"] == "session.connected"
                and event["sequence"] > cast.receiver.seen[before - 1].event["sequence"]
            ),
            "the session connected again",
        )
        await story.confirm(cast, await story.send(cast, "with a new device"))
        (told,) = [each for each in states(cast.receiver, cast.session_id) if each[1]]
        assert told == ("logged_out", "credentials_reset")


async def test_a_pairing_is_begun_again_in_the_middle_with_another_number(
    product: Product,
) -> None:
    """What was shown first is void; a number without WhatsApp is told so beside a good QR."""
    async with product.cast() as cast:
        nobody = "+4930123456789"
        await product.people.create_person(nobody, "Landline", registered=False)
        await story.open_session(cast, "code")
        first = cast.facts["pairing"]
        body = {"phone_number": nobody}
        begun = await cast.api.ok("POST", f"{cast.session}/pairing", body, Prefer="wait=20")
        assert begun["code"] is None
        assert begun["code_error"].startswith("WhatsApp does not know this phone number.")
        assert begun["qr"] != first["qr"]

        await product.people.fault(cast.contact, faults.RefuseCode(429))
        await cast.api.ok("POST", f"{cast.session}/pairing", {"phone_number": cast.contact})
        refused = await pairing_of(cast, number=cast.contact, error=True)
        assert "no more codes" in refused["code_error"]

        await cast.api.ok("POST", f"{cast.session}/restart")
        offered = await pairing_of(cast, number=cast.contact)
        await cast.people.type_code(cast.contact, offered["code"])
        await cast.receiver.typed("session.connected")
        session = await cast.api.ok("GET", cast.session)
        assert (session["state"], session["phone_number"]) == ("connected", cast.contact)
        assert (await cast.api.call("GET", f"{cast.session}/pairing")).status == 409
        assert (await product.people.person(cast.owner)).devices == []


async def test_what_ended_keeps_its_reason_and_is_deleted_without_a_trace(
    product: Product,
) -> None:
    """A stop of a session that failed hides nothing; deleting it removes its device and keys."""
    async with product.cast() as cast:
        await story.open_session(cast, "code")
        await story.link(cast, "code")
        await product.people.fault(cast.owner, faults.Replaced())
        await cast.receiver.typed("session.failed")
        stopped = await cast.api.ok("POST", f"{cast.session}/stop", Prefer="wait=20")
        assert (stopped["state"], stopped["reason"]) == ("failed", "replaced")
        assert (stopped["desired"], stopped["pending"]) == ("stopped", False)

        await cast.api.ok("DELETE", cast.session, Prefer="wait=20")
        assert (await cast.api.call("GET", cast.session)).status == 404
        assert (await product.people.person(cast.owner)).devices == []
        assert files(product, cast.session_id) == []
        rows = await asyncio.to_thread(product.rows, cast.session_id)
        assert [row["PK"]["S"] for row in rows if "SESSION" in row["SK"]["S"]] == []
        assert [row for row in rows if "MESSAGE" in row["PK"]["S"]] == []
        assert [row for row in rows if "PAIRING" in row["SK"]["S"]] == []


async def test_a_session_that_is_banned_is_left_alone_until_a_restart(product: Product) -> None:
    """A start waits for the end of the ban; a restart asks WhatsApp, which has lifted it."""
    async with product.connected() as cast:
        await product.people.fault(cast.owner, faults.Ban(expire=3600))
        banned = await cast.receiver.typed("session.banned")
        started = await cast.api.ok("POST", f"{cast.session}/start", Prefer="wait=20")

        assert (started["state"], started["reason"]) == ("banned", "temporarily_banned")
        assert (started["until"], started["pending"]) == (banned.event["data"]["until"], False)
        assert "until" in started["detail"]
        restarted = await cast.api.ok("POST", f"{cast.session}/restart", Prefer="wait=20")
        assert restarted["state"] == "connected"
        told = states(cast.receiver, cast.session_id)
        assert ("banned", "temporarily_banned") in told


@pytest.mark.timeout(120)
async def test_a_session_whose_gateway_died_says_that_nobody_holds_it(
    own_product: Product,
) -> None:
    """And a store that is not there is waited for: no session pairs again because of it."""
    async with own_product.cast() as cast:
        async with own_product.gateway() as first:
            await story.open_session(cast, "code")
            await story.link(cast, "code")
            session = await cast.api.ok("GET", cast.session)
            assert (session["state"], session["attended"]) == ("connected", True)
            for pid in [*children(first.process.pid), first.process.pid]:
                os.kill(pid, signal.SIGKILL)
            await first.process.wait()
        async with asyncio.timeout(story.PATIENCE):
            while (session := await cast.api.ok("GET", cast.session))["attended"]:
                await asyncio.sleep(0.2)
        assert session["state"] == "connected"

        (device,) = files(own_product, cast.session_id, "device.db")
        away = device.with_name("away.db")
        device.rename(away)
        async with own_product.gateway():
            waiting = await cast.receiver.wait(
                lambda event: event["data"].get("reason") == "store_unavailable",
                "a session without its store",
            )
            assert waiting.event["data"]["state"] == "starting"
            away.rename(device)
            await cast.api.ok("POST", f"{cast.session}/restart", Prefer="wait=20")
            await story.confirm(cast, await story.send(cast, "with the same device"))
            kinds = [kind for kind, _ in states(cast.receiver, cast.session_id)]
            assert kinds.count("pairing") == len([k for k in kinds[:4] if k == "pairing"])
