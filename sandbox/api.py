"""A client of our own REST API, for the demo, the benchmarks and the journeys."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec


@dataclass(frozen=True)
class Answer:
    """What the API said."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.content) if self.content else None


class ApiError(Exception):
    """The API answered with a problem where none was expected."""

    def __init__(self, call: str, answer: Answer) -> None:
        super().__init__(f"{call}: {answer.status} {answer.content.decode(errors='replace')}")
        self.answer = answer


class Api:
    """One key's view of the API at `url`."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str) -> None:
        self._http = http
        self._url = url
        self.key = key

    def with_key(self, key: str) -> "Api":
        return Api(self._http, self._url, key)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Any request, and whatever was answered. `Prefer_` and the like become `Prefer`."""
        sent = {name.rstrip("_").replace("_", "-"): value for name, value in headers.items()}
        sent["Authorization"] = f"Bearer {self.key}"
        content = None if body is None else msgspec.json.encode(body)
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self._http.request(
            method, self._url + path, data=content, headers=sent
        ) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.read())

    async def ok(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """A request that must succeed; its JSON. Raises ApiError."""
        answer = await self.call(method, path, body, **headers)
        if answer.status >= 300:
            raise ApiError(f"{method} {path}", answer)
        return answer.json


@asynccontextmanager
async def connect(url: str, key: str) -> AsyncGenerator[Api]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as http:
        yield Api(http, url, key)
