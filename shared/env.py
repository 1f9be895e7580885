"""Settings: what the environment says, decoded once into one frozen value.

Names are the fields' names in capitals behind `ZAPGATE_`. AWS's own variables (region, endpoint,
credentials) are read by botocore itself, so an emulator needs only `AWS_ENDPOINT_URL`.
"""

import os
from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from shared.addresses import Denied
from shared.errors import Misconfigured

JournalMode = Literal["wal", "delete"]
"""SQLite's journal in the device store: `wal` on a local disk, `delete` on a network file system
(EFS, NFS), where the shared memory that a write-ahead log needs does not exist."""


class Places(msgspec.Struct, frozen=True):
    """Where the rows and the queues are: what a store or queue operation is bound to."""

    table: str = "zapgate"
    command_queue_url: str = ""
    """URL of a shard's FIFO queue, with the literal `{shard}` where its number goes."""
    command_dead_url: str = ""
    """The command queues' dead-letter queue: refused commands are parked there. Where it is empty,
    they stay in their queue until its redrive policy moves them."""
    command_receives: int = 100
    """How often a command queue gives out a command before it moves it to the dead-letter queue:
    its `maxReceiveCount`."""
    delivery_queue_url: str = ""
    media_bucket: str = ""
    shards: int = 16
    """How many command queues there are. Changing it moves sessions: see README."""

    def command_queue(self, shard: int) -> str:
        return self.command_queue_url.replace("{shard}", str(shard))


class Settings(Places, frozen=True):
    """Everything a process is told from outside."""

    secret: str = ""
    """JSON `{"master": …, "previous": […]}`; in Lambda read from `secret_arn` instead."""
    secret_arn: str = ""
    log_level: str = "INFO"
    webhook_targets: Literal["public", "loopback"] = "public"
    """`loopback` also allows http and 127.0.0.1, for development; the template cannot carry it. It
    speaks for sessions' own proxies too: both are whom a tenant may have us dial."""
    webhook_denied: str = ""
    """Networks (CIDR) and host names of our own that webhooks are never posted to, nor sessions'
    proxies dialled at, between commas or spaces; a name stands for what is under it too.
    `public_url`'s host is one by itself."""
    endpoint_memory: float = 1.0
    """Seconds a gateway remembers a tenant's endpoints. Making or changing one is answered when it
    can no longer be missed, that long after it was written."""
    rate_limit: int = 6_000
    """Requests a tenant may make in a minute."""
    device_store: str = ".zapgate/devices"
    """Folder of the sessions' credentials and journals, or a `postgresql://` URL with all that is
    needed to connect: hosts are given no other variable of PostgreSQL's."""
    journal_sync: bool = True
    """Whether a journal entry is on the disk, not only in its cache, before WhatsApp goes on."""
    journal_mode: JournalMode = "wal"
    """`delete` where the device store is on a network file system such as EFS."""
    lease_seconds: float = 10.0
    patience: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """Times every limit of a host that falls silent or hangs. Below 1 it is for tests alone, whose
    library pings sooner, too."""
    balance_seconds: float = 0.0
    """How long no gateway has come or gone before shards are moved to even out shares. In a rolling
    replacement, longer than from a gateway's start to the end of the one it replaces: then who goes
    hands its shards to who came, and none moves twice."""
    health_host: str = "127.0.0.1"
    health_port: int = 8080
    public_url: str = ""
    """Where the API is reached from outside, for links in problems and OpenAPI."""
    host_prelude: str = ""
    """Module a session host imports before it connects; its `install()` is called. Sandbox only."""
    whatsapp_proxy: str = ""
    """Proxy for the socket of every session that has none of its own; empty is a direct
    connection."""

    def denied(self) -> Denied:
        """What webhooks are never posted to. What `settings` has read is known to be right."""
        return _denied(self.webhook_denied, self.public_url)


@cache
def _denied(listed: str, public_url: str) -> Denied:
    host = urlsplit(public_url).hostname or ""
    return Denied.parse(listed if _is_local(host) else f"{listed} {host}")


def _is_local(host: str) -> bool:
    """Whether a host is this machine: development's own API has receivers beside it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return "." not in host


def settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Decode the process's environment. Raises Misconfigured, naming the variable."""
    source = os.environ if environment is None else environment
    given = {
        field: source[name]
        for field in Settings.__struct_fields__
        if (name := f"ZAPGATE_{field.upper()}") in source
    }
    try:
        read = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise Misconfigured(f"environment: {error}, in ZAPGATE_* of the field named") from error
    read.denied()
    return read


_FOR_PRELUDE: Final = "ZAPGATE_SANDBOX_"
"""What `host_prelude` reads begins with it; never set in production."""
_FOR_HOSTS: Final = frozenset(
    {
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONHOME",
        "PYTHONPATH",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
    }
)


def for_hosts(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What session hosts may see of the environment: no AWS credentials, no secret, no proxy."""
    source = os.environ if environment is None else environment
    return {
        name: value
        for name, value in source.items()
        if name in _FOR_HOSTS or name.startswith(_FOR_PRELUDE)
    }
