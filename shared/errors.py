"""What can go wrong in the vocabulary, drawn once.

ZapgateError
├── Malformed            bytes are not what they claim to be: a row, a command, a cursor, a frame
│   ├── Forged           the signature does not fit
│   ├── Expired          it was signed, but its time is over
│   └── Foreign          it names a session of another tenant or shard
├── Unavailable          AWS did not answer, or not in time: try again, nothing is known to be done
├── NotHeld              no host of this gateway holds the session: the order belongs elsewhere
├── Contended            a conditional write kept losing to others: try again
└── Misconfigured        a setting is missing or wrong: stop and say which

What a caller did wrong is not an exception here: store operations return it as a value, and the
control plane turns it into an RFC 9457 problem.
"""


class ZapgateError(Exception):
    """The root. Never raised itself."""


class Malformed(ZapgateError):
    """Bytes are not what they claim to be."""


class Forged(Malformed):
    """A signature does not fit what it is said to sign."""


class Expired(Malformed):
    """It was signed, but its time is over."""


class Foreign(Malformed):
    """It names a session of another tenant or shard."""


class Unavailable(ZapgateError):
    """AWS did not answer, or not in time. Nothing is known to be done; try again."""

    def __init__(self, service: str, action: str, code: str) -> None:
        """`code` is AWS's error code, or the name of the transport's error."""
        super().__init__(f"{service}.{action}: {code}")
        self.service = service
        self.action = action
        self.code = code


class NotHeld(ZapgateError):
    """No host of this gateway holds the session, or not any more. Nothing was done."""


class Contended(ZapgateError):
    """A conditional write kept losing to other writers."""


class Misconfigured(ZapgateError):
    """A setting is missing or wrong; the message names it."""
