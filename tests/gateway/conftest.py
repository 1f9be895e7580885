"""neonize's protobuf modules without its library, as a host has them before it connects."""

from gateway.zygote import protobufs

protobufs()
