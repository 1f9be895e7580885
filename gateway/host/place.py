"""Where a session's part of the device store is: here alone the two kinds are told apart."""

from pathlib import Path
from typing import Final

from gateway.host.folder import Folder
from gateway.host.store import Store
from shared import ids
from shared.env import JournalMode
from shared.errors import Malformed, Misconfigured
from shared.session import Session

LAST_WORDS: Final = "host.log"
"""What the library printed, above all when it aborts. Of use to this machine only."""
DATABASE: Final = "gateway.host.schema"
"""The module that speaks to a database server, imported only where there is one."""


def in_database(device_store: str) -> bool:
    """Whether a device store is a URL and no folder."""
    return "://" in device_store


def place(
    device_store: str, session: Session, *, mode: JournalMode = "wal", sync: bool = True
) -> Store:
    """A session's part. Raises Malformed for ids that are none: they become a path, or a name."""
    if not ids.is_id(ids.TENANT, session.tenant_id) or not ids.is_id(ids.SESSION, session.id):
        raise Malformed("a session's folder is named by ids")
    if in_database(device_store):
        from gateway.host.schema import Schema, Server  # noqa: PLC0415 (its driver may be absent)

        return Schema(Server.parse(device_store), session.id, epoch=session.epoch, sync=sync)
    path = Path(device_store).absolute() / session.tenant_id / session.id
    return Folder(path, mode=mode, sync=sync)


def check(device_store: str) -> None:
    """Whether it can be used. A folder is made when it is needed.

    Raises Misconfigured for what has to be mended first, StoreFailed where it does not answer.
    """
    if not in_database(device_store):
        return
    try:
        from gateway.host.schema import Server  # noqa: PLC0415 (likewise)
    except ImportError as error:
        raise Misconfigured(
            f"ZAPGATE_DEVICE_STORE: a database takes zapgate[postgres] ({error})"
        ) from error
    Server.parse(device_store).check()
