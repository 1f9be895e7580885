"""Lambda's entry: sorts what arrives. HTTP API events go to the app.

The app is made at cold start, with its clients, where Lambda gives a whole CPU for it.
"""

import asyncio
from typing import Any, Final, cast

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.types import ASGI, LambdaContext, LambdaEvent

from control_plane.app import create_app
from control_plane.aws import Aws
from control_plane.problems import MEDIA_TYPE
from shared import env, logs

HTTP_VERSION: Final = "2.0"
"""The payload format our HTTP API is told to send."""


class UnknownEvent(Exception):
    """An event this function does not answer: a trigger was attached to it by mistake."""


def _make() -> Mangum:
    settings = env.settings()
    logs.configure(settings.log_level)
    aws = Aws(settings)
    aws.warm()
    asyncio.set_event_loop(asyncio.new_event_loop())
    return Mangum(
        # One request at a time: threads would only cost.
        cast("ASGI", create_app(settings, aws=aws, threads=0)),
        lifespan="off",
        text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, MEDIA_TYPE, "image/svg+xml"],
    )


_http: Final = _make()


def handler(event: LambdaEvent, context: LambdaContext) -> dict[str, Any]:
    """Answer an HTTP API event. Raises UnknownEvent for any other."""
    if event.get("version") == HTTP_VERSION and "http" in event.get("requestContext", {}):
        return _http(event, context)
    kind = event.get("detail-type") or event.get("source") or sorted(event)[:5]
    raise UnknownEvent(f"not an HTTP API event of version {HTTP_VERSION}: {kind}")
