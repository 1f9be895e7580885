"""The one WhatsApp socket of this process: neonize's library, with its hazards fenced in.

Making a `Socket` loads the Go library. One connecting call is made per process life; it never ends
in an orderly way before pairing, so nothing here waits for it, and the process is ended by
`os._exit`. Events are taken synchronously on the library's thread: WhatsApp goes on only after they
are in the journal.
"""

import asyncio
import ctypes
import logging
import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

from neonize.proto.Neonize_pb2 import (
    GetJIDFromStoreReturnFunction,
    LogEntry,
    PairPhoneParams,
    PairPhoneReturnFunction,
    SendMessageReturnFunction,
)
from neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2 import DeviceProps
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message, MessageContextInfo

from gateway.host.disconnects import words
from gateway.host.events import CODES
from gateway.host.jid import address, as_jid, recipient
from gateway.host.library import ON_EVENT, ON_LOG, ON_TEXT, Library, Proxy
from gateway.host.wire import NoCode, NotRemoved, Undelivered
from shared.env import JournalMode
from shared.logs import fields

log = logging.getLogger(__name__)

_LOG_LEVEL: Final = b"ERROR"
"""Below it the library writes a line for every node that it does not understand."""
DIGITS: Final = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?|\[[0-9A-Fa-f:.]+\](?::\d+)?|\d{5,}")
"""Phone numbers and LIDs in the library's words, and addresses: they may be of a tenant's proxy."""
_CHROME: Final = 1
"""PairPhoneClientType of whatsmeow; the display name must fit it, the server looks."""
_DISPLAY_NAME: Final = "Chrome (Linux)"


def dsn(path: Path, mode: JournalMode, *, sync: bool) -> str:
    """The library's name of an SQLite file, with our pragmas.

    It appends `?_foreign_keys=on` to the name; the trailing `_x=` swallows that.
    """
    level = "FULL" if sync else "NORMAL"
    return (
        f"{quote(str(path))}?_journal_mode={mode.upper()}&_busy_timeout=15000"
        f"&_synchronous={level}&_txlock=immediate&_foreign_keys=on&_x="
    )


def device() -> DeviceProps:
    """What the account's owner sees under linked devices, and how little history is asked for."""
    return DeviceProps(
        os="Zapgate",
        platformType=DeviceProps.CHROME,
        requireFullSync=False,
        historySyncConfig=DeviceProps.HistorySyncConfig(
            fullSyncDaysLimit=1,
            fullSyncSizeMbLimit=1,
            storageQuotaMb=1,
            inlineInitialPayloadInE2EeMsg=True,
            recentSyncDaysLimit=1,
            supportCallLogHistory=False,
        ),
    )


class Socket:
    """One session's connection.

    `take(code, payload)` is called on the library's thread for each event and returns when it is
    safe; `offer(qr)`, `status(text)` and `error(words)` are called on the loop.
    """

    def __init__(
        self,
        *,
        name: str,
        uuid: str,
        take: Callable[[int, bytes], None],
        offer: Callable[[str], None],
        status: Callable[[str], None],
        error: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._name = name.encode()
        self._id = uuid.encode()
        self._loop = asyncio.get_running_loop()
        self._library = Library()
        self._take = take
        # The library keeps only their addresses: they must live as long as the process.
        self._on_qr = ON_TEXT(partial(self._say, offer))
        self._on_status = ON_TEXT(partial(self._say, status))
        self._on_event = ON_EVENT(self._event)
        self._on_log = ON_LOG(self._hear)
        self._error = error
        self._proxy: Proxy | None = None

    def connect(self, proxy: str) -> "asyncio.Future[str]":
        """Dial, on a thread of the library's own.

        The future lasts as long as the library's loop, and then says why that ended; that is never
        good news.
        """
        ended: asyncio.Future[str] = self._loop.create_future()
        self._proxy = Proxy(proxy.encode(), False, False, False)  # noqa: FBT003 (C's order)
        properties = device().SerializeToString()
        codes = bytes(CODES)

        def run() -> None:
            error = self._library.connect(
                self._name,
                self._id,
                b"",
                0,
                0,
                _LOG_LEVEL,
                self._on_qr,
                self._on_status,
                self._on_event,
                self._on_log,
                codes,
                len(codes),
                properties,
                len(properties),
                b"",
                0,
                ctypes.byref(self._proxy) if self._proxy is not None else None,
            )
            self._loop.call_soon_threadsafe(ended.set_result, error)

        threading.Thread(target=run, name="neonize", daemon=True).start()
        return ended

    async def send(self, to: str, text: str, secret: bytes) -> str:
        """Send a text; the WhatsApp id it was acknowledged under. Raises Undelivered."""
        message = Message(
            conversation=text, messageContextInfo=MessageContextInfo(messageSecret=secret)
        )
        jid = as_jid(recipient(to)).SerializeToString()
        answer = SendMessageReturnFunction.FromString(
            await self._call("SendMessage", jid, message.SerializeToString())
        )
        if answer.Error:
            raise Undelivered(answer.Error)
        if not answer.SendResponse.ID:
            # An empty answer is none: nobody knows whether it went out.
            raise Undelivered("the library gave no answer")
        return answer.SendResponse.ID

    async def pair(self, phone_number: str) -> str:
        """A pairing code for a number. Raises NoCode."""
        wanted = PairPhoneParams(
            phone=phone_number,
            showPushNotification=True,
            clientType=_CHROME,
            clientDisplayName=_DISPLAY_NAME,
        )
        answer = PairPhoneReturnFunction.FromString(
            await self._call("PairPhone", wanted.SerializeToString())
        )
        if answer.Error:
            raise NoCode(answer.Error)
        if not answer.Code:
            raise NoCode("the library gave no answer")
        return answer.Code

    async def number_of(self, lid: str) -> str | None:
        """The phone number behind a LID, if the library has seen it. Only while logged in."""
        jid = as_jid(recipient(lid)).SerializeToString()
        answer = GetJIDFromStoreReturnFunction.FromString(await self._call("GetPNFromLID", jid))
        found = None if answer.Error else address(answer.Jid)
        return None if found is None else found.number

    async def log_out(self) -> None:
        """Remove the device from the account. Raises NotRemoved."""
        error = await asyncio.to_thread(self._library.log_out, self._id)
        if error:
            raise NotRemoved(error)

    async def disconnect(self) -> None:
        """Close the socket; what was received is still handed over."""
        await asyncio.to_thread(self._library.disconnect, self._id)

    async def _call(self, name: str, *messages: bytes) -> bytes:
        return await asyncio.to_thread(self._library.call, name, self._id, *messages)

    def _event(self, _id: bytes, payload: int, size: int, code: int) -> None:
        self._take(code, ctypes.string_at(payload, size))

    def _hear(self, payload: int, size: int) -> None:
        """A log line of the library."""
        entry = LogEntry.FromString(ctypes.string_at(payload, size))
        why = DIGITS.sub("…", words(entry.Message))
        log.warning("library.says", extra=fields(part=entry.Name, level=entry.Level, why=why))
        self._loop.call_soon_threadsafe(self._error, entry.Message)

    def _say(self, listener: Callable[[str], None], _id: int, text: int) -> None:
        self._loop.call_soon_threadsafe(listener, ctypes.string_at(text).decode(errors="replace"))
