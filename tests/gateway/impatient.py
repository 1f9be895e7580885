"""A prelude for hosts that wait two seconds for a first word, where others wait a minute and more.

It replaces a limit in the process it is installed in, which is a host's.
"""

from gateway.host import life
from sandbox import trust

FIRST_WORD = 2.0


def install() -> None:
    """Lead the library to the sandbox, and be impatient."""
    life.FIRST_WORD = FIRST_WORD  # pyright: ignore[reportAttributeAccessIssue] (what else is Final)
    trust.install()
