"""Asks a folder for a send's id while another copy of SQLite writes to the file, in one process."""

import ctypes
import shutil
import sys
import threading
from pathlib import Path

from gateway.host.folder import CREDENTIALS, Folder
from gateway.host.store import Unreadable

SECONDS = 2.0


def main() -> None:
    folder, library = Path(sys.argv[1]), Path(sys.argv[2])
    copy = folder / "other.so"
    shutil.copy(library, copy)
    sqlite = ctypes.CDLL(str(copy))
    db = ctypes.c_void_p()
    assert sqlite.sqlite3_open(str(folder / CREDENTIALS).encode(), ctypes.byref(db)) == 0

    def run(statement: str) -> None:
        assert sqlite.sqlite3_exec(db, statement.encode(), None, None, None) == 0

    run("PRAGMA journal_mode=WAL")
    run("PRAGMA synchronous=OFF")
    run("CREATE TABLE whatsmeow_device (jid)")
    run("INSERT INTO whatsmeow_device VALUES (1)")
    run("CREATE TABLE whatsmeow_message_secrets (message_id, key)")
    over = threading.Event()
    threading.Timer(SECONDS, over.set).start()
    written = 0

    def write() -> None:
        nonlocal written
        while not over.is_set():
            number = written + 1
            secret = b"%d" % number
            run(f"INSERT INTO whatsmeow_message_secrets VALUES ('3EB{number}', x'{secret.hex()}')")  # noqa: S608 (a number)
            written = number

    writer = threading.Thread(target=write)
    writer.start()
    store = Folder(folder)
    store.library_opens()
    while True:
        number = written
        asked = store.whatsapp_id(b"%d" % number)
        assert asked == (f"3EB{number}" if number else None), f"{number} is {asked}"
        if over.is_set():
            break
    writer.join()
    assert number > 0, "nothing was written meanwhile"
    locks = Path("/proc/locks").read_text()
    for name in (CREDENTIALS, f"{CREDENTIALS}-shm"):
        assert f":{(folder / name).stat().st_ino} " in locks, f"{name} is locked no more"
    run("INSERT INTO whatsmeow_message_secrets VALUES ('3EBA', x'6f6e65')")
    assert store.whatsapp_id(b"one") == "3EBA"
    assert store.whatsapp_id(b"two") is None
    run("DELETE FROM whatsmeow_device")
    try:
        store.whatsapp_id(b"one")
    except Unreadable as error:
        assert "removed" in str(error)  # noqa: PT017 (pytest is not here)
    else:
        raise AssertionError("a removed device took its secrets along")


if __name__ == "__main__":
    main()
