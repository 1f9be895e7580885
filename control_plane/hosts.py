"""What a tenant's host name resolves to now. The gateway asks again whenever it dials."""

import asyncio
from typing import Final

from control_plane.call import Call
from shared.addresses import address_allowed

RESOLVE_SECONDS: Final = 2.0
"""Longest a host name may take to resolve; one that takes longer is left to the gateway."""


async def is_public(call: Call, host: str) -> bool:
    """Whether the name is at public addresses only, as far as can be told now."""
    settings = call.plane.settings
    loop = asyncio.get_running_loop()
    try:
        addresses = await asyncio.wait_for(
            loop.run_in_executor(call.plane.threads, call.plane.resolve, host), RESOLVE_SECONDS
        )
    except TimeoutError:
        addresses = ()
    return all(
        address_allowed(address, settings.webhook_targets, settings.denied())
        for address in addresses
    )
