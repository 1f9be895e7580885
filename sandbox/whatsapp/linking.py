"""How a person links a companion: scans its QR, or types the code it shows."""

import asyncio

from sandbox.whatsapp import adv, appstate, linkcode, plaintexts, writing
from sandbox.whatsapp.accounts import remove
from sandbox.whatsapp.directory import Device
from sandbox.whatsapp.pairing import (
    Candidate,
    NoSuchPairingError,
    PairingRefusedError,
    Pairings,
    new_device,
)
from sandbox.whatsapp.person import Person
from sandbox.whatsapp.sync_queries import publish
from sandbox.whatsapp.wabinary import leaf, node


async def scan(person: Person, pairings: Pairings, text: str) -> Device:
    """Link the client that shows a QR text.

    Raises:
        QrError: the text is no linking code.
        NoSuchPairingError: no client is showing it, or no longer.
        PairingRefusedError: the client did not accept, or the person has no room for it.
    """
    code = adv.parse_qr(text)
    candidate = pairings.by_reference(code.ref.encode())
    if candidate.registration.keys.identity != code.identity:
        raise NoSuchPairingError("the client that shows this QR has other keys")
    return await _link(person, pairings, candidate, code.adv_secret)


async def type_code(person: Person, pairings: Pairings, typed: str) -> Device:
    """Link the client that shows a code for this person's number.

    Raises:
        CodeFormatError: the text cannot be a code.
        WrongCodeError: the client shows another one.
        NoSuchPairingError: no client is waiting for this number.
        PairingRefusedError: the client did not accept, or the person has no room for it.
    """
    linkcode.normalise(typed)
    candidate, waiting = pairings.by_number(person.user.number)
    # Deriving the key takes a tenth of a second on purpose; the other clients need not wait.
    attempt = await asyncio.to_thread(
        linkcode.answer, typed, waiting.wrapped_ephemeral, person.world.rand
    )
    greeting = node(
        "link_code_companion_reg",
        {"stage": "primary_hello"},
        leaf("link_code_pairing_wrapped_primary_ephemeral_pub", attempt.hello),
        leaf("primary_identity_pub", person.account.identity.public),
        leaf("link_code_pairing_ref", waiting.reference),
    )
    stage = await pairings.hello(candidate, greeting)
    bundle = stage.child("link_code_pairing_wrapped_key_bundle")
    companion = stage.child("companion_identity_public")
    if bundle is None or companion is None:
        raise PairingRefusedError("the client's last message is incomplete")
    secret = linkcode.finish(attempt, person.account.identity, companion.data, bundle.data)
    return await _link(person, pairings, candidate, secret)


async def _link(
    person: Person, pairings: Pairings, candidate: Candidate, adv_secret: bytes
) -> Device:
    number = person.user.next_device_number()
    if number is None:
        raise PairingRefusedError("this account has no room for another device")
    world = person.world
    companion = candidate.registration.keys.identity
    person.account, offer = person.account.offer(companion, adv_secret, world.clock(), world.rand)
    device = new_device(candidate, person.user, number, offer.key_index)
    answer = await pairings.offer(candidate, device, offer.envelope)
    try:
        adv.accept(offer, answer)
    except adv.IdentityError as error:
        raise PairingRefusedError(str(error)) from error
    pairings.admit(candidate, device)
    return device


def greet(person: Person, companion: Device) -> None:
    """Give a new companion the key of the settings, and the settings: the person's name."""
    world = person.world
    now = world.clock() * 1000
    if not person.settings.version:
        name = appstate.push_name(person.user.push_name, now)
        sealed = appstate.seal(person.settings, person.sync_key, [name], world.rand)
        person.settings, patch = sealed
        publish(person.user, person.settings.name, patch)
    writing.send_to_companion(person, companion, plaintexts.share_key(person.sync_key, now))


def unlink(person: Person, companion: Device) -> None:
    """Log a companion out from the phone."""
    remove(person.world, companion)
