"""The images hold one plane and what both share: the sandbox is not there to be switched on."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

PLANES = {"gateway": "gateway", "control-plane": "control_plane"}

# Run with -I -S and this environment's packages by their folder: what a `.pth` file adds, our own
# repository, is not there.
IMPORT_ALL = """
import importlib, importlib.util, pkgutil, sys
sys.path[:0] = sys.argv[1:3]
for package in ("shared", sys.argv[3]):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(module.name)
print([name for name in ("sandbox", "zapgate") if importlib.util.find_spec(name)])
"""


def instructions(plane: str) -> list[tuple[str, str]]:
    """(instruction, arguments), continued lines joined."""
    text = (REPOSITORY / "docker" / f"{plane}.Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def build(plane: str, folder: Path) -> None:
    """Replay the build stage's copies, and the step that reads the pins, into `folder`."""
    for instruction, arguments in instructions(plane):
        if instruction == "COPY" and not arguments.startswith("--from"):
            source, target = arguments.split()
            if source.endswith("/"):
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(REPOSITORY / source, folder / target, ignore=ignored)
            else:
                shutil.copy(REPOSITORY / source, folder / target)
        if instruction == "RUN" and "requirements.txt', 'w'" in arguments:
            _, *command = json.loads(arguments)
            subprocess.run([sys.executable, *command], cwd=folder, check=True)  # noqa: S603


@pytest.mark.parametrize("plane", PLANES)
def test_an_image_imports_its_plane_and_no_sandbox(plane: str, tmp_path: Path) -> None:
    """Every module of the plane imports from what was copied, and the sandbox cannot be."""
    build(plane, tmp_path)
    packages = sysconfig.get_path("purelib")
    done = subprocess.run(  # noqa: S603 - our own lines
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, tmp_path, packages, PLANES[plane]],
        capture_output=True,
        text=True,
        check=False,
        # Lambda's entry makes its app when it is imported.
        env={"AWS_DEFAULT_REGION": "eu-west-1", "ZAPGATE_SECRET": json.dumps({"master": "m" * 64})},
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("plane", PLANES)
def test_an_image_installs_the_pins_of_its_plane(plane: str, tmp_path: Path) -> None:
    """All exact, the shared ones among them, nothing of the sandbox, and not the distribution."""
    build(plane, tmp_path)
    pins = (tmp_path / "requirements.txt").read_text().split()
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", pin) for pin in pins)
    names = {pin.partition("==")[0] for pin in pins}
    assert "msgspec" in names
    assert ("neonize" in names) == (plane == "gateway")
    assert ("psycopg-binary" in names) == (plane == "gateway")
    assert not names & {"pynacl", "zapgate"}


@pytest.mark.parametrize("plane", PLANES)
def test_an_image_is_not_root_and_hears_sigterm(plane: str) -> None:
    """The last user is a number that owns nothing, and Python itself is the process."""
    by_name = dict(instructions(plane))
    assert by_name["USER"] == "10001:10001"
    assert json.loads(by_name["ENTRYPOINT"])[0] in {"python", "uvicorn"}
    assert "CMD" not in by_name


def test_the_builder_is_not_sent_the_sandbox() -> None:
    """Everything is ignored but what is named."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == {
        "pyproject.toml",
        "shared",
        "control_plane",
        "gateway",
    }
