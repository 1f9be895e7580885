"""Asks the library's file which id it gave a send: a script too, for a process of its own.

SQLite's locks belong to a process and to the copy of SQLite that took them. The library brings
another copy than Python's, so in the library's process ours would read under its writing, take its
shared index for a dead one and cut it off, and take its locks along on closing the file. A process
of its own shares the locks as SQLite means it. It imports only what Python brings, so that it
starts in some 20 ms.
"""

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import Final

_PATIENCE: Final = 5.0
"""Seconds that a writer may keep the file."""
_LIMIT: Final = 15.0
"""Seconds for a process that asks, from its start to its end."""
_DEVICES: Final = "SELECT count(*) FROM whatsmeow_device"
_SENT_WITH: Final = "SELECT message_id FROM whatsmeow_message_secrets WHERE key = ?"


class Untraceable(Exception):
    """The file does not tell: it is missing, locked or damaged, or the device was removed."""


def sent_as(uri: str, secret: bytes) -> str | None:
    """The id in the file at a `file:` URI, or None. Not beside the library. Raises Untraceable."""
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE)) as db:
            if db.execute(_DEVICES).fetchone() == (0,):
                raise Untraceable("the device was removed")
            row = db.execute(_SENT_WITH, (secret,)).fetchone()
    except sqlite3.Error as error:
        raise Untraceable(error) from error
    return None if row is None else str(row[0])


def asked_apart(uri: str, secret: bytes) -> str | None:
    """As `sent_as`, by a process of its own. Raises Untraceable, or OSError if none can be had."""
    command = [sys.executable, "-I", "-S", __file__, uri]
    try:
        # By standard input: every user of the machine may read a command line.
        done = subprocess.run(  # noqa: S603 (our own file)
            command, input=secret, capture_output=True, timeout=_LIMIT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Untraceable("it took too long to ask") from error
    if done.returncode != 0:
        raise Untraceable(done.stderr.decode(errors="replace").strip())
    return done.stdout.decode() or None


if __name__ == "__main__":
    try:
        sys.stdout.write(sent_as(sys.argv[1], sys.stdin.buffer.read()) or "")
    except Untraceable as why:
        sys.exit(str(why))
