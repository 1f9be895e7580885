"""What the library itself wrote down of a send, read from its credentials file.

neonize does not let the caller choose a message's id, so a send that was cut off cannot be asked
about. But before it writes the frame, whatsmeow stores the message's secret under the id it chose
(`send.go`, PutMessageSecret); we choose the secret. So a secret that is found has an id, by which a
receipt may yet settle the message; and one that is not found was never handed to the socket.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

_QUERY: Final = "SELECT message_id FROM whatsmeow_message_secrets WHERE key = ?"
_DEVICES: Final = "SELECT count(*) FROM whatsmeow_device"


def whatsapp_id(store: Path, secret: bytes) -> str | None:
    """The id the library gave the message with this secret; None if it never came to that.

    Raises sqlite3.Error where nothing is known: the file cannot be read, or the device was removed
    and took its secrets along.
    """
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
        if db.execute(_DEVICES).fetchone() == (0,):
            raise sqlite3.DataError("the device was removed")
        row = db.execute(_QUERY, (secret,)).fetchone()
    return None if row is None else str(row[0])
