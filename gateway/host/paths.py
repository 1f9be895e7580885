"""What lies in a session's folder, besides its journal."""

from typing import Final

STORE: Final = "device.db"
"""The credentials: the library's SQLite file."""
LAST_WORDS: Final = "host.log"
"""What the library printed, above all when it aborts."""
