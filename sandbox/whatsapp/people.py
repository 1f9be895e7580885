"""Everybody who was made up so far, by phone number."""

import re
from collections.abc import Iterator

from sandbox.whatsapp.directory import User
from sandbox.whatsapp.person import Person, new_person
from sandbox.whatsapp.reading import read
from sandbox.whatsapp.world import World

E164 = re.compile(r"\+[1-9][0-9]{6,14}")  # ITU-T E.164: at most 15 digits; whatsmeow needs 7


class BadNumberError(ValueError):
    """Not a phone number in E.164."""


class TakenError(Exception):
    """Somebody has this number already."""


class UnknownPersonError(LookupError):
    """Nobody has this number."""


class People:
    def __init__(self, world: World) -> None:
        self._world = world
        self._people: dict[str, Person] = {}

    def __iter__(self) -> Iterator[Person]:
        return iter(self._people.values())

    def create(self, number: str, push_name: str) -> Person:
        """Make a person up.

        Raises:
            BadNumberError: the number is not in E.164.
            TakenError: there is somebody with this number.
        """
        digits = digits_of(number)
        if digits in self._people:
            raise TakenError("there is somebody with this number")
        user = User(digits, push_name)
        person = new_person(self._world, user)
        person.on_stanza = read
        self._world.directory.add(user)
        self._people[digits] = person
        return person

    def get(self, number: str) -> Person:
        """Find a person.

        Raises:
            BadNumberError: the number is not in E.164.
            UnknownPersonError: nobody has it.
        """
        person = self._people.get(digits_of(number))
        if person is None:
            raise UnknownPersonError("nobody has this number")
        return person


def digits_of(number: str) -> str:
    if not E164.fullmatch(number):
        raise BadNumberError("a phone number is written +, country code, number: digits only")
    return number[1:]
