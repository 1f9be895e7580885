"""Where a client may put and get media: our own host, reached like everything through the proxy."""

from sandbox.whatsapp.directory import Device
from sandbox.whatsapp.media import HOST
from sandbox.whatsapp.wabinary import Node, node
from sandbox.whatsapp.world import World

LIFETIME = 3600  # seconds until a client asks again


def connection(world: World, _device: Device, _query: Node) -> tuple[Node, ...]:
    attrs = {
        "auth": world.rand(12).hex(),
        "ttl": str(LIFETIME),
        "auth_ttl": str(LIFETIME),
        "max_buckets": "12",
    }
    return (node("media_conn", attrs, node("host", {"hostname": HOST})),)
