"""Operator commands: tenants and their keys, over the REST API like any other caller."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import click

from shared.env import settings
from shared.keyring import Keyring

F = TypeVar("F", bound=Callable[..., None])

SECONDS = 30
"""How long the API may take: as long as API Gateway lets it."""


def where(function: F) -> F:
    """The options that say which API, and as whom."""
    key = click.option("--key", envvar="ZAPGATE_OPERATOR_KEY", required=True, show_envvar=True)
    url = click.option(
        "--url",
        envvar="ZAPGATE_URL",
        default="http://127.0.0.1:8000",
        show_default=True,
        show_envvar=True,
    )
    return url(key(function))


@click.command("operator-key")
def operator_key() -> None:
    """Print the operator's API key, from ZAPGATE_SECRET."""
    secret = settings().secret
    if not secret:
        raise click.UsageError("ZAPGATE_SECRET is not set: it holds the secret's JSON")
    click.echo(Keyring.parse(secret).operator_keys[0])


@click.group()
def tenants() -> None:
    """Create, list, suspend, resume and delete tenants."""


@tenants.command("create")
@click.argument("name")
@where
def create_tenant(name: str, url: str, key: str) -> None:
    """Create a tenant."""
    _print(url, key, "POST", "/v1/tenants", {"name": name})


@tenants.command("list")
@where
def list_tenants(url: str, key: str) -> None:
    """List tenants, the first hundred."""
    _print(url, key, "GET", "/v1/tenants?limit=100")


@tenants.command()
@click.argument("tenant")
@where
def suspend(tenant: str, url: str, key: str) -> None:
    """Refuse a tenant's keys until it is resumed."""
    _print(url, key, "POST", f"/v1/tenants/{quote(tenant, safe='')}/suspend")


@tenants.command()
@click.argument("tenant")
@where
def resume(tenant: str, url: str, key: str) -> None:
    """Accept a suspended tenant's keys again."""
    _print(url, key, "POST", f"/v1/tenants/{quote(tenant, safe='')}/resume")


@tenants.command("delete")
@click.argument("tenant")
@where
@click.confirmation_option(prompt="Delete the tenant with everything that is theirs?")
def delete_tenant(tenant: str, url: str, key: str) -> None:
    """Delete a tenant with everything that is theirs."""
    _print(url, key, "DELETE", f"/v1/tenants/{quote(tenant, safe='')}")


@click.group()
def keys() -> None:
    """Create API keys for a tenant."""


@keys.command("create")
@click.argument("tenant")
@click.option("--name", default="operator", show_default=True)
@where
def create_key(tenant: str, name: str, url: str, key: str) -> None:
    """Create a key that may do everything; it is shown once."""
    _print(url, key, "POST", f"/v1/tenants/{quote(tenant, safe='')}/keys", {"name": name})


COMMANDS = (operator_key, tenants, keys)


def _print(url: str, key: str, method: str, path: str, body: Any = None) -> None:
    """Make one request and print what was answered; a problem ends the command with 1."""
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"{url} is not an http(s) URL")
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        url.rstrip("/") + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            content: bytes = answer.read()
    except urllib.error.HTTPError as error:
        raise click.ClickException(error.read().decode(errors="replace")) from None
    except urllib.error.URLError as error:
        raise click.ClickException(f"{url} does not answer: {error.reason}") from None
    if content:
        click.echo(json.dumps(json.loads(content), indent=2))
