"""How long a session's host, and what it waits for, may take before somebody steps in.

Each is longer than the slowest thing that is in order, by the library's own times: it pings every
20 to 30 seconds and gives WhatsApp 10 to answer, gives up a send after 75, and dials again two
seconds later each time, for ever and without a word.
"""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """All in seconds."""

    first_word: float = 90.0
    """From the dial to a QR or a login. The library waits for ever for a proxy that takes the
    connection and never answers."""
    login_after_pairing: float = 45.0
    """From the phone's confirmation to the first login: if its one dial fails, the library does
    not try again and says nothing."""
    redial: float = 90.0
    """From a lost connection to the next login, before a new process dials: one dial may hang for
    ever. Not shorter, because a process that ends forgets what recipients may ask for again."""
    silence: float = 70.0
    """Without a byte from WhatsApp while connected: two pings in a row were not answered."""
    unconnected: float = 15.0
    """Of being logged in without having a connection: the library leaves it for a moment where
    WhatsApp asks it to dial again, and says nothing if that one dial fails."""
    unsteady: float = 60.0
    """In which a connection may not drop more than a few times. One that lasts as long is
    steady: failures before it are forgotten."""
    take: float = 30.0
    """For one event to be journalled. The library goes on without order after five minutes."""
    send: float = 90.0
    """The library gives up a send after 75, unless the connection was cut meanwhile; then it may
    wait for ever, and every later send behind it."""
    pulse: float = 30.0
    """Without a pulse from the host: a slow disk may hold its loop for a while, but a host that
    stands still for longer keeps its session from being repaired."""

    @property
    def between_pulses(self) -> float:
        """From pulse to pulse of a host that has nothing new to say.

        Each wakes the gateway, which has hundreds of hosts.
        """
        return self.pulse / 6

    @property
    def faint(self) -> float:
        """Without a pulse: one is missing, and a host alone may be slow, but not most of them."""
        return 2 * self.between_pulses

    def scaled(self, patience: float) -> "Limits":
        """All of them, times `patience`."""
        given = msgspec.structs.asdict(self)
        return Limits(**{name: patience * seconds for name, seconds in given.items()})
