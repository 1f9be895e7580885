"""An independent judge of events: the `jsonschema` package, by the schemas that are served."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

judged: Counter[str] = Counter()
"""Webhooks that were held against their schemas, by type."""

_formats = FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)
def _is_instant(value: object) -> bool:
    """RFC 3339: an instant says its offset."""
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


class Judge:
    """Knows the schema of each type, and counts what it was shown."""

    def __init__(self, catalogue: Mapping[str, Any]) -> None:
        """`catalogue` as `GET /v1/event-types` serves it."""
        self._validators: dict[str, Draft202012Validator] = {}
        for entry in catalogue["data"]:
            Draft202012Validator.check_schema(entry["schema"])
            self._validators[entry["type"]] = Draft202012Validator(
                entry["schema"], format_checker=_formats
            )

    def faults(self, event: Any) -> list[str]:
        """What is wrong with an event: nothing, where it fits its type's schema."""
        validator = self._validators.get(event["type"])
        if validator is None:
            return [f"{event['type']} is not in the catalogue"]
        return [
            f"{event['type']} {error.json_path}: {error.message}"
            for error in validator.iter_errors(event)  # pyright: ignore[reportUnknownMemberType] (a parameter that is not used here)
        ]
