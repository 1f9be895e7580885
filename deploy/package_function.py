# ruff: noqa: INP001 - a program run by path, not a package
"""Package the control plane for Lambda: `package_function.py <folder> <arm64|x86_64>`.

`sam build` runs it through the Makefile. The folder gets what the pins of pyproject.toml say, the
two packages the function is made of, and no more; needs nothing but this Python and its pip.
"""

import compileall
import importlib.util
import json
import py_compile
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

PACKAGES = ("shared", "control_plane")

# Lambda is the server.
NOT_INSTALLED = ("uvicorn",)

# Litestar asks for these to fake examples, to draw its command line and to test itself; cffi's
# compiler is needed to build cryptography, its backend (which stays) to run it.
NOT_SHIPPED = (
    "cffi", "click", "faker", "h11", "httpcore", "httpx", "litestar-htmx", "markdown-it-py",
    "mdurl", "polyfactory", "pycparser", "pygments", "rich", "rich-click",
)  # fmt: skip
STAYS = ("_cffi_backend",)

# botocore carries the description of every AWS service; making a client lists them all.
SERVICES = ("dynamodb", "s3", "secretsmanager", "sqs")

# Wheels for the oldest C library among the runtimes: python3.11 is on Amazon Linux 2, glibc 2.26.
PLATFORMS = {"arm64": "manylinux2014_aarch64", "x86_64": "manylinux2014_x86_64"}


def main(folder: Path, architecture: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    install(folder, PLATFORMS[architecture])
    for name in NOT_SHIPPED:
        remove(folder, name)
    trim_botocore(folder / "botocore" / "data")
    for package in PACKAGES:
        shutil.copytree(
            REPOSITORY / package,
            folder / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    # Lambda cannot write what it compiled: without this every cold start compiles everything. The
    # files' times do not survive the zip, so they are not compared.
    compileall.compile_dir(
        folder,
        quiet=1,
        stripdir=folder,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def requirements() -> list[str]:
    """The pins of the distribution and of its control plane."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pins: list[str] = [
        *project["dependencies"],
        *project["optional-dependencies"]["control-plane"],
    ]
    return [pin for pin in pins if pin.partition("==")[0] not in NOT_INSTALLED]


def install(folder: Path, platform: str) -> None:
    """Install wheels for Lambda, whatever this machine is."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", version]
    quiet = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-compile",
        "--no-warn-conflicts",
    ]
    command = [*pip(), "install", *quiet, *options, "--platform", platform]
    subprocess.run([*command, "--target", str(folder), *requirements()], check=True)  # noqa: S603
    shutil.rmtree(folder / "bin", ignore_errors=True)


def pip() -> list[str]:
    """The command for pip: ours, or the one Python carries for environments made without."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    ensurepip = importlib.util.find_spec("ensurepip")
    folder = Path(ensurepip.origin).parent if ensurepip and ensurepip.origin else Path()
    wheels = sorted(folder.glob("_bundled/pip-*.whl"))
    if not wheels:
        sys.exit(f"{sys.executable} has neither pip nor ensurepip; set PYTHON to one that has")
    return [sys.executable, str(wheels[-1] / "pip")]


def remove(folder: Path, name: str) -> None:
    """Remove what a distribution brought, if it was brought at all."""
    for distribution in Distribution.discover(name=name, path=[str(folder)]):
        for file in distribution.files or ():
            path = folder / file
            if file.parts[0] != ".." and not path.name.startswith(STAYS):
                path.unlink(missing_ok=True)
    for empty in sorted(folder.rglob("*"), reverse=True):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()


def trim_botocore(data: Path) -> None:
    """Keep the services we call."""
    for service in data.iterdir():
        if service.is_dir() and service.name not in SERVICES:
            shutil.rmtree(service)
    endpoints = data / "endpoints.json"
    content = json.loads(endpoints.read_text())
    for partition in content["partitions"]:
        partition["services"] = {
            name: known for name, known in partition["services"].items() if name in SERVICES
        }
    endpoints.write_text(json.dumps(content, separators=(",", ":")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
