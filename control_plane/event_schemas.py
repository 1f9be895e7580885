"""The schemas of events, and what may become of them within a version of the catalogue.

`events.v1.schema.json` beside this file is all of them as they are, so that a change of what
tenants receive is a change of that file, made on purpose. After one,

    python -m control_plane.event_schemas

writes it anew; it refuses what does more than add, unless `shared.events.VERSION` was raised, which
begins a file of its own.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast, get_args

import msgspec

from control_plane.event_examples import examples
from control_plane.schemas import explain
from shared import events
from shared.events import CATALOGUE, Event

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FILE: Final = Path(__file__).with_name(f"events.v{events.VERSION}.schema.json")

Schema = dict[str, Any]

_SAID: Final = frozenset({"$id", "title", "description", "examples", "default", "discriminator"})
"""Keywords that change nothing about which events fit."""
_NULL: Final = {"type": "null"}


def kinds() -> dict[str, type[Event]]:
    """The Struct of each type."""
    return {events.type_name(kind): kind for kind in get_args(Event)}


def schema_of(type_name: str) -> Schema:
    """The JSON Schema of a type's events, whole in itself. Raises KeyError for an unknown type."""
    kind = kinds()[type_name]
    (entry,) = (entry for entry in CATALOGUE if entry.type == type_name)
    (inner,), defined = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    explain(defined)
    return {
        "$schema": DIALECT,
        "$id": f"urn:zapgate:event:{events.VERSION}:{type_name}",
        "title": type_name,
        "description": f"Sent {entry.emitted}. {entry.means}",
        **inner,
        "examples": [msgspec.to_builtins(each) for each in examples(type_name)],
        "$defs": defined,
    }


def every_schema() -> Schema:
    """One schema that any event of the catalogue fits."""
    of_types = kinds().values()
    inner, defined = msgspec.json.schema_components(of_types, ref_template="#/$defs/{name}")
    explain(defined)
    return {
        "$schema": DIALECT,
        "$id": f"urn:zapgate:events:{events.VERSION}",
        "title": "Any event",
        "oneOf": list(inner),
        "$defs": defined,
    }


def written(schema: Schema) -> str:
    """A schema as the file holds it."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def breaks(old: Schema, new: Schema) -> list[str]:
    """Where `new` does more than add to `old`: a path and what is the matter, for each.

    A reader of the old one must understand what fits the new one, if it passes over fields, values
    and alternatives it does not know.
    """
    return sorted(set(_Comparison(old, new).at(old, new, "$")))


class _Comparison:
    """Follows the references of two documents."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old = old
        self._new = new
        self._seen: set[tuple[str, str]] = set()

    def at(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        if "$ref" in old and "$ref" in new:
            # A type that holds itself is compared once.
            pair = old["$ref"], new["$ref"]
            if pair in self._seen:
                return
            self._seen.add(pair)
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        for key in sorted((old.keys() | new.keys()) - _SAID - {"$defs", "$schema"}):
            before, after = old.get(key), new.get(key)
            if (before == after and key not in _DEEP) or (before is None and key in _ADDED):
                continue
            if before is None or after is None or key not in _DEEP | _GROWING:
                yield f"{path}: `{key}` was {_short(before)}, is {_short(after)}"
            elif key == "properties":
                yield from self._properties(before, after, path)
            elif key in _CHOICES:
                yield from self._choices(before, after, path)
            elif key == "items":
                yield from self.at(before, after, f"{path}[]")
            else:
                lost = [each for each in before if each not in after]
                if lost:
                    yield f"{path}: `{key}` has no {_short(lost)} any more"

    def _properties(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        for name, member in old.items():
            if name in new:
                yield from self.at(member, new[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}: is gone"

    def _choices(self, old: list[Schema], new: list[Schema], path: str) -> Iterator[str]:
        if _NULL in new and _NULL not in old:
            yield f"{path}: may be null"
        for choice in old:
            found = [each for each in new if _name(each) == _name(choice)]
            if found:
                yield from self.at(choice, found[0], path)
            else:
                yield f"{path}: {_short(choice)} is no choice any more"


_CHOICES: Final = frozenset({"anyOf", "oneOf"})
_DEEP: Final = _CHOICES | {"properties", "items"}
_ADDED: Final = frozenset({"properties", "required"})
"""May be said of what nothing was said of: a field, and that it is always there, harm no reader."""
_GROWING: Final = frozenset({"enum", "required"})
"""Lists to which values may be added."""


def _resolved(schema: Schema, whole: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    named = cast("Schema", whole["$defs"][_name(schema)])
    return {**named, **beside}


def _name(choice: Schema) -> str:
    """What tells one choice from the others: its type's name, or what it is."""
    return str(choice["$ref"]).rpartition("/")[2] if "$ref" in choice else str(choice.get("type"))


def _short(value: object) -> str:
    return msgspec.json.encode(value).decode()[:100]


def main() -> int:
    """Write the file anew."""
    new = every_schema()
    if FILE.exists():
        found = breaks(msgspec.json.decode(FILE.read_bytes()), new)
        if found:
            told = "\n".join(found)
            sys.stderr.write(f"This does more than add to version {events.VERSION}:\n{told}\n")
            return 1
    FILE.write_text(written(new))
    return 0


if __name__ == "__main__":  # pragma: no cover - `main` is what is tested
    sys.exit(main())
