"""Our signatures, judged by Standard Webhooks' library for JavaScript.

It is another implementation than Python's; where there is no Node.js, there is no such judge.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from shared import clock, signing
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
    cases = [
        {"secret": secret, "body": text, "headers": headers}
        for secret, text in ((new, body), (old, body), (other, body), (new, body + " "))
    ]
    done = subprocess.run(  # noqa: S603 - our own words
        [str(NODE), "-e", JUDGE],
        cwd=library,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert json.loads(done.stdout) == [True, True, False, False]
