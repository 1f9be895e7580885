"""What can be wrong with a Signal message.

SignalError
├── MalformedMessageError   not of this protocol, or of another version
├── NoSessionError          a message, or a wish to send one, where no session exists
├── NoPreKeyError           a first message to a prekey we never had, or gave away already
├── BadMacError             no session's keys made this message
├── BadSignatureError       a prekey or a group message not signed by whom it should be
├── DuplicateMessageError   its key was used up: seen before, or skipped too long ago
├── TooFarAheadError        more messages were skipped than keys are kept for
├── NoSenderKeyError        a group message from somebody who never handed out the key
└── BadPaddingError         decrypted, yet the padding inside is not WhatsApp's

All but BadPaddingError leave the device as it was: a refused message uses up no key.
"""

from collections.abc import Generator
from contextlib import contextmanager

from sandbox.whatsapp.curve import CurveError
from sandbox.whatsapp.symmetric import CipherError
from sandbox.whatsapp.wire import WireError


class SignalError(Exception):
    """A message cannot be made or read; catch this to answer with a retry receipt."""


class MalformedMessageError(SignalError):
    """The bytes are no message of this protocol and version."""


class NoSessionError(SignalError):
    """There is no session with this peer; a prekey bundle or a first message would start one."""


class NoPreKeyError(SignalError):
    """The first message names a prekey that we do not have."""


class BadMacError(SignalError):
    """The message was not made with the keys of any session, or was changed on its way."""


class BadSignatureError(SignalError):
    """The signature is not that of the identity, or of the sender key, that should have made it."""


class DuplicateMessageError(SignalError):
    """The key of this message was used before, or dropped with others skipped long ago."""


class TooFarAheadError(SignalError):
    """The message skips more messages than keys are kept for."""


class NoSenderKeyError(SignalError):
    """No sender key is known under this id for this sender and group."""


class BadPaddingError(SignalError):
    """The plaintext does not end in the padding WhatsApp puts there."""


@contextmanager
def malformed() -> Generator[None]:
    """Turn the errors of the layers below into MalformedMessageError."""
    try:
        yield
    except (WireError, CurveError, CipherError) as error:
        raise MalformedMessageError(str(error)) from error
