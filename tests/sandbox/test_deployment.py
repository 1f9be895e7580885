"""What `sam build` packs is what Lambda needs, and what `sam deploy` deploys answers over HTTP."""

import asyncio
import json
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.aws import Deployment, EmbeddedAws, deploy, template_path
from sandbox.aws.sam import stand_in_for_make
from tests.conftest import HOME

# Building takes pip ten seconds, deploying SAM ten more, on an idle machine.
pytestmark = pytest.mark.timeout(300)

STACK = "deployed"

# Run with -I -S: neither this environment's packages nor the repository can help.
ISOLATED = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
for package in ("shared", "control_plane"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(module.name)
import boto3
for service in ("dynamodb", "s3", "secretsmanager", "sqs"):
    boto3.client(service)
from control_plane.handler import handler
def get(path):
    event = {
        "version": "2.0", "rawPath": path, "rawQueryString": "", "headers": {},
        "isBase64Encoded": False,
        "requestContext": {"http": {"method": "GET", "path": path, "sourceIp": "192.0.2.1"}},
    }
    return handler(event, None)["statusCode"]
print(get("/healthz"), get("/openapi.json"), get("/v1/sessions"))
print([name for name in sys.modules if name.split(".")[0] in ("sandbox", "gateway", "zapgate")])
"""

# What Lambda gives a function, and the template ours.
FUNCTION = {
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "ZAPGATE_SECRET": json.dumps({"master": "m" * 64}),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def deployment(aws: EmbeddedAws) -> AsyncIterator[Deployment]:
    yield await deploy(
        aws,
        HOME,
        stack=STACK,
        parameters={"Prefix": STACK, "Shards": "2"},
        function_environment={"ZAPGATE_WEBHOOK_TARGETS": "loopback"},
    )


@pytest.fixture
def bundle(deployment: Deployment) -> Path:
    return HOME / "build" / STACK / "ControlPlaneFunction"


def test_the_bundle_needs_nothing_else(bundle: Path) -> None:
    """Every module of the function imports and serves from the bundle alone."""
    done = subprocess.run(  # noqa: S603 - our own lines
        [sys.executable, "-I", "-S", "-c", ISOLATED, str(bundle)],
        capture_output=True,
        text=True,
        check=False,
        env=FUNCTION,
    )
    assert done.stdout.splitlines()[-2:] == ["200 200 401", "[]"], done.stderr


def test_the_bundle_holds_nothing_else(bundle: Path) -> None:
    """No sandbox, no gateway, no tests, no tools: Lambda's cold start reads what is there."""
    names = {path.name for path in bundle.iterdir()}
    assert {"shared", "control_plane"} <= names
    assert not names & {"sandbox", "gateway", "zapgate", "tests", "deploy", "uvicorn", "faker"}
    assert {path.name for path in (bundle / "botocore" / "data").iterdir() if path.is_dir()} == {
        "dynamodb",
        "s3",
        "secretsmanager",
        "sqs",
    }
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    assert size < 60 * 1024 * 1024


def test_the_bundle_is_compiled(bundle: Path) -> None:
    """Lambda cannot keep what it compiles: each source has its bytecode, and no date to compare."""
    sources = sorted((bundle / "litestar").rglob("*.py"))
    assert len(sources) > 100
    for source in sources:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
        assert flags == 0b01, f"{compiled} is checked against its source"


async def ask(url: str) -> tuple[int, bytes]:
    def get() -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(url) as answer:  # noqa: S310 - loopback
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    return await asyncio.to_thread(get)


@pytest.mark.skipif(
    not template_path().with_name("control_plane").joinpath("handler.py").exists(),
    reason="there is no handler to deploy",
)
async def test_the_function_answers_over_the_http_api(deployment: Deployment) -> None:
    """A request to the API's address reaches the function, and so does one nobody foresaw."""
    status, _ = await ask(f"{deployment.api_url}/healthz")
    assert status == 200
    status, body = await ask(f"{deployment.api_url}/nothing/here")
    assert status == 404
    assert json.loads(body)["status"] == 404
    status, _ = await ask(f"{deployment.api_url}/v1/sessions")
    assert status == 401


def test_only_the_sandbox_changes_what_the_template_fixed(
    aws: EmbeddedAws, deployment: Deployment
) -> None:
    """The deployed function keeps the template's variables, but for those we set afterwards."""
    configuration = aws.client("lambda").get_function_configuration(
        FunctionName=deployment.stack.outputs["FunctionName"]
    )
    variables = configuration["Environment"]["Variables"]
    assert variables["ZAPGATE_WEBHOOK_TARGETS"] == "loopback"
    assert variables["ZAPGATE_TABLE"] == deployment.stack.outputs["TableName"]


def test_a_machine_without_make_can_build(tmp_path: Path) -> None:
    """The stand-in runs what the Makefile's recipe says, with the variables SAM and we set."""
    make = stand_in_for_make(tmp_path)
    assert make.stat().st_mode & stat.S_IXUSR
    recipe = template_path().with_name("Makefile").read_text().rpartition("\n\t")[2]
    wanted = recipe.strip().replace("$(PYTHON)", "PYTHON").replace("$(ARTIFACTS_DIR)", "FOLDER")
    done = subprocess.run(  # noqa: S603 - our own lines
        [make, "--makefile", "Makefile", "build-ControlPlaneFunction"],
        env={"PYTHON": "/bin/echo", "ARTIFACTS_DIR": "FOLDER", "ARCHITECTURE": "arm64"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = ["PYTHON", *done.stdout.split()]
    assert said == wanted.replace('"', "").replace("$(ARCHITECTURE)", "arm64").split()
