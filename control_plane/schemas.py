"""Our types as JSON Schema, with what msgspec leaves out: the docstrings of fields, and formats."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, cast, get_args, get_type_hints

import msgspec

_OF_FIELD: Final = frozenset({"description", "examples"})
"""What is said of a field, though msgspec says it of one of the choices for its value."""


def explain(schemas: dict[str, dict[str, Any]]) -> None:
    """Complete the schemas of our types, by their names."""
    for kind in kinds(msgspec.Struct):
        schema = schemas.get(kind.__name__)
        if schema is not None:
            _explain(schema, kind)
    for schema in schemas.values():
        if "enum" in schema:
            # All of ours are of strings; msgspec leaves it to be seen from the values.
            schema.setdefault("type", "string")


def _explain(schema: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    if kind.__doc__:
        schema.setdefault("description", inspect.cleandoc(kind.__doc__))
    properties = cast("dict[str, dict[str, Any]]", schema.get("properties", {}))
    for base in reversed(kind.__mro__):
        for name, text in _field_docstrings(base).items():
            if name in properties:
                properties[name].setdefault("description", text)
    for name, hint in get_type_hints(kind).items():
        if name in properties:
            _complete_field(properties[name], hint)


def _complete_field(member: dict[str, Any], hint: object) -> None:
    """Say what msgspec leaves out, and what it says of a choice that is true of the field."""
    choices = cast("list[dict[str, Any]]", member.get("anyOf", [member]))
    for choice in choices:
        if datetime in (hint, *get_args(hint)) and choice.get("type") == "string":
            choice["format"] = "date-time"
        for key in _OF_FIELD & choice.keys():
            member.setdefault(key, choice[key])
            if choice is not member:
                del choice[key]


def kinds(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """Our types below one."""
    for kind in base.__subclasses__():
        if kind.__module__.split(".")[0] in {"control_plane", "shared"}:
            yield kind
        yield from kinds(kind)


def _field_docstrings(kind: type) -> dict[str, str]:
    """The strings that stand below a class's fields: Python drops them, the source has them."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError):
        # Written in C, or shipped without its source.
        return {}
    found: dict[str, str] = {}
    for field, text in pairwise(getattr(definition, "body", [])):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str() as said)),
            ):
                found[name] = inspect.cleandoc(said)
            case _:
                pass
    return found
