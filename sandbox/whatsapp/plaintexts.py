"""What is inside a ciphertext: WhatsApp's `Message`, written and read for simulated people.

The message classes are neonize's generated ones. They are imported by their own folder, because
importing the package itself would start its Go library in the server's process.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from sandbox.whatsapp.appstate import SyncKey
from sandbox.whatsapp.jid import Jid

if TYPE_CHECKING:
    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message, ProtocolMessage

    AnyMessage = Message


class PlaintextError(ValueError):
    """What was decrypted is no message."""


def _generated() -> Any:
    spec = importlib.util.find_spec("neonize")  # finds, does not import
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("neonize is not installed: its message definitions are needed")
    folder = str(Path(spec.submodule_search_locations[0]) / "proto")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module("waE2E.WAWebProtobufsE2E_pb2")


_MODULE = _generated()


def _message() -> "Message":
    return _MODULE.Message()


def decode(data: bytes) -> "Message":
    """Read a plaintext without its padding.

    Raises:
        PlaintextError: it is no protobuf of this kind.
    """
    message = _message()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise PlaintextError("no message") from error
    return message


def text(body: str) -> bytes:
    message = _message()
    message.conversation = body
    return message.SerializeToString()


def sent_elsewhere(chat: Jid, plaintext: bytes) -> bytes:
    """What the sender's own other devices get of a message."""
    message = _message()
    message.deviceSentMessage.destinationJID = str(chat)
    message.deviceSentMessage.message.ParseFromString(plaintext)
    return message.SerializeToString()


def sender_key(group: Jid, distribution: bytes) -> bytes:
    """Hand out a group's sender key."""
    message = _message()
    message.senderKeyDistributionMessage.groupID = str(group)
    message.senderKeyDistributionMessage.axolotlSenderKeyDistributionMessage = distribution
    return message.SerializeToString()


def share_key(key: SyncKey, timestamp_ms: int) -> bytes:
    """Give a companion the key of the app state."""
    message = _message()
    protocol: ProtocolMessage = message.protocolMessage
    protocol.type = _MODULE.ProtocolMessage.APP_STATE_SYNC_KEY_SHARE
    shared = protocol.appStateSyncKeyShare.keys.add()
    shared.keyID.keyID = key.id
    shared.keyData.keyData = key.data
    shared.keyData.fingerprint.rawID = 1
    shared.keyData.fingerprint.currentIndex = 0
    shared.keyData.fingerprint.deviceIndexes.append(0)
    shared.keyData.timestamp = timestamp_ms
    return message.SerializeToString()


class Content(msgspec.Struct, frozen=True):
    """What a person sees of a message: its kind (a field of `Message`), text and all of it."""

    kind: str
    text: str
    fields: dict[str, Any]


# Fields that go along with a message and are not what it says.
_BESIDE = {"messageContextInfo", "senderKeyDistributionMessage"}
_TEXTS = ("text", "caption", "conversation", "name")


def content(message: "Message") -> Content | None:
    """Return what a message says, `None` if it only carries keys."""
    fields: dict[str, Any] = MessageToDict(message)
    said = {name: value for name, value in fields.items() if name not in _BESIDE}
    if not said:
        return None
    kind, value = next(iter(said.items()))
    if isinstance(value, str):
        return Content(kind, value, said)
    found = next((str(value[name]) for name in _TEXTS if name in value), "")
    return Content(kind, found, said)
