"""Signatures: itsdangerous for what comes back to us, Standard Webhooks for what tenants receive.

Webhook signatures follow Standard Webhooks 1.0.0 byte for byte, so that any of its libraries
verifies ours: HMAC-SHA256 over `id.timestamp.body`, base64, behind `v1,`.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from itsdangerous import BadData, BadSignature, Signer, URLSafeSerializer

from shared.errors import Forged, Malformed

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - a public prefix
SECRET_BYTES: Final = 32
"""Standard Webhooks wants 24 to 64."""


def sign_command(keys: Sequence[bytes], payload: bytes) -> str:
    """The payload and its signature as text for a queue message. The first key signs."""
    return _signer(keys).sign(payload).decode()


def open_command(keys: Sequence[bytes], message: str) -> bytes:
    """The payload of a signed message, by any of the keys. Raises Forged."""
    try:
        return _signer(keys).unsign(message)
    except BadSignature:
        raise Forged("the command's signature does not fit") from None


def sign_cursor(keys: Sequence[bytes], purpose: str, value: object) -> str:
    """`value` (JSON-able) as an opaque URL-safe token, good only for the same `purpose`."""
    return str(_serializer(keys, purpose).dumps(value))


def open_cursor(keys: Sequence[bytes], purpose: str, token: str) -> object:
    """What `sign_cursor` was given. Raises Malformed for any other token or purpose."""
    try:
        return _serializer(keys, purpose).loads(token)
    except BadData:
        raise Malformed("the cursor was not made for this list") from None


def webhook_secret(random: bytes) -> str:
    """A new endpoint secret: `whsec_` and base64, as Standard Webhooks writes it."""
    return SECRET_PREFIX + base64.b64encode(random).decode()


def sign_webhook(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one `v1,…` per live secret, newest first, space-separated.

    `timestamp` is the attempt's, in whole seconds; `body` the exact bytes that are sent.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1,"
        + base64.b64encode(hmac.digest(_secret_bytes(secret), content, hashlib.sha256)).decode()
        for secret in secrets
    )


def _secret_bytes(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise Malformed("a webhook secret is not base64") from None


def _signer(keys: Sequence[bytes]) -> Signer:
    # itsdangerous signs with the last key of its list and verifies with all.
    return Signer(
        list(reversed(keys)),
        salt="zapgate.command",
        key_derivation="hmac",
        digest_method=hashlib.sha256,
    )


def _serializer(keys: Sequence[bytes], purpose: str) -> URLSafeSerializer:
    return URLSafeSerializer(
        list(reversed(keys)),
        salt=f"zapgate.cursor.{purpose}",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
