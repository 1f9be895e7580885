"""Which numbers get no linking code, and how that is said.

A number that is not on WhatsApp gets none, and one that was made to be refused gets none so many
times.
"""

from sandbox.whatsapp.jid import Jid
from sandbox.whatsapp.wabinary import Node, node
from sandbox.whatsapp.world import World

NOT_ON_WHATSAPP = 404
_TEXTS = {400: "bad-request", NOT_ON_WHATSAPP: "item-not-found", 429: "rate-overlimit"}


def refusal(world: World, number: Jid | None) -> Node | None:
    """The error for whoever asks a code for a number, None where it gets one."""
    user = world.directory.user(number)
    if user is None:
        return _error(NOT_ON_WHATSAPP)
    if user.faults.code_refusals:
        return _error(user.faults.code_refusals.popleft())
    return None


def _error(code: int) -> Node:
    return node("error", {"code": str(code), "text": _TEXTS.get(code, "internal-server-error")})
