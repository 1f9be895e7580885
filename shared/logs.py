"""One JSON line a fact: a dotted name, and the ids that belong to it.

`log.info("delivery.attempted", extra=fields(event_id=..., status=200))`. Message bodies, whole
phone numbers, keys and secrets never go in; `masked` shortens a phone number to what support needs.
"""

import logging
import sys
from typing import Final

import msgspec

_FIELDS: Final = "zapgate"
_JSON: Final = msgspec.json.Encoder(enc_hook=str)
_NONE: Final[dict[str, object]] = {}


def fields(**values: object) -> dict[str, object]:
    """`extra=` for one log line: its ids and numbers."""
    return {_FIELDS: values}


def masked(phone_number: str) -> str:
    """The country's digits and the last two: `+49…17`."""
    return f"{phone_number[:3]}…{phone_number[-2:]}"


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time, level, fact, fields, and the error's trail if any."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "fact": record.getMessage(),
            "logger": record.name,
            **getattr(record, _FIELDS, _NONE),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _JSON.encode(line).decode()


def configure(level: str) -> None:
    """Send every log line of this process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # No line says from where in the code, or from which thread and process, it comes, so that is
    # not found out: a fifth of what a line costs (logging's documentation, "Optimization").
    logging._srcfile = None  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as documented
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # These log a line per request, which ours already say better.
    for noisy in ("botocore", "aiobotocore", "mangum", "urllib3", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
