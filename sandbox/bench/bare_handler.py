"""A bare Lambda handler: litestar, mangum and boto3, and nothing of ours but the script."""

from typing import Any, cast

from mangum import Mangum

from sandbox.bench.bare_app import create_app

# Litestar's and Mangum's names for the same ASGI scope differ to the checker.
handler = Mangum(cast("Any", create_app()), lifespan="off")
