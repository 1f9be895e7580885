"""Our signatures, judged by Standard Webhooks' library for JavaScript.

It is another implementation than Python's; where there is no Node.js, there is no such judge.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared import clock, sealing, signing
from shared.ids import EndpointId, TenantId
from shared.webhook import Endpoint, EndpointStatus, live_secrets, revoked, rotated
from tests.conftest import HOME

NODE, NPM = shutil.which("node"), shutil.which("npm")
PIN = "standardwebhooks@1.1.1"

JUDGE = """
const { Webhook } = require("standardwebhooks");
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const verdicts = cases.map(({ secret, body, headers }) => {
  try { new Webhook(secret).verify(body, headers); return true; } catch { return false; }
});
console.log(JSON.stringify(verdicts));
"""


@pytest.fixture(scope="module")
def library() -> Path:
    """The library in a folder of its own, installed once."""
    folder = HOME.resolve() / "tools" / PIN.replace("@", "-")
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        subprocess.run(  # noqa: S603 - our own words
            [str(NPM), "install", "--silent", "--no-audit", "--no-fund", PIN],
            cwd=folder,
            check=True,
            timeout=50,
        )
        (folder / "complete").touch()
    return folder


@pytest.mark.skipif(NODE is None or NPM is None, reason="no Node.js on this machine")
def test_the_javascript_library_accepts_ours(library: Path) -> None:
    """With the new and the old secret during a rotation; neither another secret nor body."""
    old, new, other = (signing.webhook_secret(bytes([n]) * 32) for n in (1, 2, 3))
    body = json.dumps({"text": "Grüße 👋 \u2028"}, ensure_ascii=False)
    now = clock.millis() // 1000
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signing.sign_webhook([new, old], "evt_1", now, body.encode()),
    }
    cases: list[dict[str, Any]] = [
        {"secret": secret, "body": text, "headers": headers}
        for secret, text in ((new, body), (old, body), (other, body), (new, body + " "))
    ]

    assert verdicts(library, cases) == [True, True, False, False]


@pytest.mark.skipif(NODE is None or NPM is None, reason="no Node.js on this machine")
def test_the_javascript_library_follows_a_rotation(library: Path) -> None:
    """Before it, while both sign, and when the old secret's time is over or it is revoked.

    Python's library judges the same requests the same.
    """
    old, new = (signing.webhook_secret(bytes([n]) * 32) for n in (1, 2))
    seals, nonce = (b"k" * 32,), b"n" * sealing.NONCE_BYTES
    row = Endpoint(
        id=EndpointId("ep_1"),
        tenant_id=TenantId("ten_1"),
        url="https://example.com",
        events=("*",),
        sealed_secret=b"",
        status=EndpointStatus.ENABLED,
        created_at=0,
        updated_at=0,
    )
    before = msgspec.structs.replace(row, sealed_secret=sealing.seal(seals, row.owner, old, nonce))
    both = rotated(before, sealing.seal(seals, row.owner, new, nonce), 1_000, 500)
    body = json.dumps({"text": "Grüße 👋"}, ensure_ascii=False)
    second = clock.millis() // clock.SECOND
    cases: list[dict[str, Any]] = []
    for endpoint, now in ((before, 999), (both, 1_000), (both, 1_500), (revoked(both), 1_000)):
        secrets = [sealing.unseal(seals, row.owner, each) for each in live_secrets(endpoint, now)]
        headers = {
            "webhook-id": "evt_1",
            "webhook-timestamp": str(second),
            "webhook-signature": signing.sign_webhook(secrets, "evt_1", second, body.encode()),
        }
        cases += [{"secret": each, "body": body, "headers": headers} for each in (old, new)]

    expected = [True, False, True, True, False, True, False, True]
    assert verdicts(library, cases) == expected
    assert [in_python(**case) for case in cases] == expected


def in_python(secret: str, body: str, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


def verdicts(library: Path, cases: list[dict[str, Any]]) -> list[bool]:
    """Whether the library takes each request for ours."""
    done = subprocess.run(  # noqa: S603 - our own words
        [str(NODE), "-e", JUDGE],
        cwd=library,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return list(json.loads(done.stdout))
