"""Entry of a gateway: `python -m gateway`.

SIGTERM or SIGINT ends it in order, a second one at once. It says nothing on stdout; its log is on
stderr.
"""

import asyncio
import logging
import os
import signal
import sys
from typing import Final

from gateway import garbage
from gateway.run import run
from shared import env, logs
from shared.env import Settings
from shared.errors import Misconfigured

log = logging.getLogger(__name__)

CUT_SHORT: Final = 1
"""Exit code after a second signal, or when ending in order takes too long."""
STOP_SECONDS: Final = 30.0
"""Longer than everything that may hang on the way out is waited for, less than the orchestrator
waits. What is not done by then is in journals and queues, and leases lapse by themselves."""
LARGEST_LIST: Final = 20
"""Names of what is still under way then that are logged."""
MISCONFIGURED: Final = 78
"""Exit code for settings that cannot work (EX_CONFIG of sysexits.h): starting again is no use."""


async def serve(settings: Settings) -> None:
    """Run until told to stop."""
    stop = asyncio.Event()

    loop = asyncio.get_running_loop()

    def cut_short() -> None:
        left = sorted({task.get_name() for task in asyncio.all_tasks(loop)})
        log.warning("gateway.cut_short", extra=logs.fields(left=left[:LARGEST_LIST]))
        os._exit(CUT_SHORT)

    def asked() -> None:
        if stop.is_set():
            cut_short()
        stop.set()
        loop.call_later(STOP_SECONDS, cut_short)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    await run(settings, stop)


def main() -> None:
    """Read the settings, configure the log, run."""
    try:
        settings = env.settings()
        logs.configure(settings.log_level)
        garbage.settle()
        asyncio.run(serve(settings))
    except Misconfigured as error:
        logs.configure("INFO")
        log.error("gateway.misconfigured", extra=logs.fields(cause=str(error)))  # noqa: TRY400 - the text says all
        sys.exit(MISCONFIGURED)


if __name__ == "__main__":
    main()
