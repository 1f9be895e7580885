"""The one WhatsApp socket of this process: neonize, with its hazards fenced in.

Importing this module loads the Go library. One `Neonize()` call is made per process life; it never
ends in an orderly way before pairing, so nothing here waits for it, and the process is ended by
`os._exit`. Events are taken synchronously on the library's thread: WhatsApp goes on only after they
are in the journal. The default handlers would queue them without bound, acknowledged and unsaved.
"""

import asyncio
import ctypes
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

# First: neonize cannot be imported without libmagic, and this brings one.
import pylibmagic as pylibmagic  # noqa: PLC0414 (imported for its effect)
from neonize._binder import ProxySettings
from neonize.aioze.client import NewAClient
from neonize.exc import GetJIDFromStoreError, LogoutError, PairPhoneError, SendMessageError
from neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2 import DeviceProps
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message, MessageContextInfo
from neonize.utils.enum import ClientType
from neonize.utils.log import log as library_log

from gateway.host.events import CODES
from gateway.host.jid import address, as_jid, recipient
from gateway.host.wire import NoCode, NotRemoved, Undelivered
from shared.env import JournalMode


class _Client(NewAClient):
    """neonize's client, with the callback it leaves empty."""

    on_status: Callable[[str], None]

    def keep(self) -> None:
        self._stop_finalizer.detach()  # pyright: ignore[reportUnknownMemberType] (untyped there)

    # The name the base class calls, mangled: all that is heard of a failed pairing comes here.
    def _NewAClient__onLoginStatus(self, _uuid: int, status: int) -> None:  # noqa: N802
        self.on_status(ctypes.string_at(status).decode(errors="replace"))


def dsn(path: Path, mode: JournalMode, *, sync: bool) -> str:
    """The library's name of an SQLite file, with our pragmas.

    It appends `?_foreign_keys=on` to the name; the trailing `_x=` swallows that.
    """
    level = "FULL" if sync else "NORMAL"
    return (
        f"{quote(str(path))}?_journal_mode={mode.upper()}&_busy_timeout=15000"
        f"&_synchronous={level}&_txlock=immediate&_foreign_keys=on&_x="
    )


class Socket:
    """Neonize for one session.

    `take(code, payload)` is called on the library's thread for each event and returns when it is
    safe; `offer(qr)` and `status(text)` are called on the loop.
    """

    def __init__(
        self,
        *,
        name: str,
        uuid: str,
        take: Callable[[int, bytes], None],
        offer: Callable[[str], None],
        status: Callable[[str], None],
    ) -> None:
        # Below it the library writes phone numbers into its lines.
        library_log.setLevel(logging.ERROR)
        loop = asyncio.get_running_loop()
        self._client = _Client(name, props=device(), uuid=uuid)
        # It would stop the session when this object is collected.
        self._client.keep()
        self._client.on_status = lambda text: _call_soon(loop, status, text)
        # Only the keys are read, as the list of what to subscribe to.
        self._client.event.list_func = dict.fromkeys(CODES, _nothing)
        self._take = take
        self._client.event.execute = self._execute

        async def on_qr(_: NewAClient, qr: bytes) -> None:
            offer(qr.decode())

        self._client.event.qr(on_qr)

    async def connect(self, proxy: str) -> "asyncio.Task[None]":
        """Dial. The task lasts as long as the library's loop does; its end is never good news."""
        return await self._client.connect(ProxySettings(proxy))

    async def send(self, to: str, text: str, secret: bytes) -> str:
        """Send a text; the WhatsApp id it was acknowledged under. Raises Undelivered."""
        message = Message(
            conversation=text, messageContextInfo=MessageContextInfo(messageSecret=secret)
        )
        try:
            response = await self._client.send_message(as_jid(recipient(to)), message)
        except SendMessageError as error:
            raise Undelivered(str(error)) from error
        return response.ID

    async def pair(self, phone_number: str) -> str:
        """A pairing code for a number. Raises NoCode."""
        try:
            return await self._client.PairPhone(
                phone_number,
                True,  # noqa: FBT003 (show_push_notification)
                client_type=ClientType.CHROME,
            )
        except PairPhoneError as error:
            raise NoCode(str(error)) from error

    async def number_of(self, lid: str) -> str | None:
        """The phone number behind a LID, if the library has seen it."""
        try:
            jid = await self._client.get_pn_from_lid(as_jid(recipient(lid)))
        except GetJIDFromStoreError:
            return None
        found = address(jid)
        return None if found is None else found.number

    async def log_out(self) -> None:
        """Remove the device from the account. Raises NotRemoved."""
        try:
            await self._client.logout()
        except LogoutError as error:
            raise NotRemoved(str(error)) from error

    async def disconnect(self) -> None:
        await self._client.disconnect()

    def _execute(self, uuid: int, binary: int, size: int, code: int) -> None:
        self._take(code, ctypes.string_at(binary, size))


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


async def _nothing(*_: Any) -> None:
    """Never called: stands where the library looks for a handler."""


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[str], None], text: str) -> None:
    loop.call_soon_threadsafe(function, text)
