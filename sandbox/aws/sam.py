"""The SAM CLI and cfn-lint, from an environment of their own, with nothing of the user's AWS."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.aws.template import template_path
from sandbox.aws.venvs import SAM, Log, inherited_environment, quiet, run_program, tool_python

# Stands in for make where there is none: the Makefile's one recipe, run by the shell.
_MAKE = """#!/bin/sh
exec "$PYTHON" deploy/package_function.py "$ARTIFACTS_DIR" "$ARCHITECTURE"
"""


async def sam_cli(
    home: Path, aws_environment: Mapping[str, str], log: Log = quiet, lines: Log = quiet
) -> "Sam":
    """The SAM CLI, installed under `home` on first use; `lines` gets what it prints.

    Raises:
        ToolError: it could not be installed.
    """
    return Sam(await tool_python(home, SAM, log), home, aws_environment, lines)


def transcript(home: Path) -> Log:
    """A log into a file under `home`, where what SAM printed last can be read."""
    file = home.resolve() / "logs" / "sam.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")

    def write(line: str) -> None:
        with file.open("a") as open_file:
            open_file.write(f"{line}\n")

    return write


def host_parameters() -> dict[str, str]:
    """The template's parameters that fit this machine, where the embedded Lambda runs."""
    arm = platform.machine().lower() in {"arm64", "aarch64"}
    return {
        "PythonRuntime": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "Architecture": "arm64" if arm else "x86_64",
    }


@dataclass(frozen=True)
class Sam:
    """The SAM CLI, run in the repository against the AWS of `aws_environment`."""

    python: Path
    home: Path
    aws_environment: Mapping[str, str]
    lines: Log

    async def run(self, *arguments: str) -> str:
        """`sam <arguments>`. Raises ToolError with its last lines."""
        # Named, because SAM looks for it beside the template, and the built one lies elsewhere.
        config = template_path().with_name("samconfig.toml")
        return await run_program(
            [str(self.python), "-m", "samcli", *arguments, "--config-file", str(config)],
            self._environment(),
            folder=config.parent,
            log=self.lines,
        )

    def build_folder(self, stack: str) -> Path:
        """Where `sam build` puts what the stack is deployed from."""
        return self.home.resolve() / "build" / stack

    async def cfn_lint(self) -> str:
        """Lint template.yaml. Raises ToolError with the findings, warnings included."""
        template = str(template_path())
        return await run_program(
            [str(self.python.with_name("cfn-lint")), template], self._environment(), log=self.lines
        )

    def _environment(self) -> dict[str, str]:
        inherited = inherited_environment(without=("AWS_", "SAM_", "PYTHON", "VIRTUAL_ENV"))
        return {
            **inherited,
            **self.aws_environment,
            "PATH": os.pathsep.join([str(self._bin()), inherited.get("PATH", os.defpath)]),
            "SAM_CLI_TELEMETRY": "0",
            "SAM_CLI_POLL_DELAY": "0.5",  # seconds between looks at the stack; 5 by default
            "__SAM_CLI_APP_DIR": str(self.home.resolve() / "sam"),
            # The Makefile's variables.
            "PYTHON": sys.executable,
            "ARCHITECTURE": host_parameters()["Architecture"],
        }

    def _bin(self) -> Path:
        """A folder with a make in it, if the machine has none."""
        folder = self.home.resolve() / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.which("make") is None:
            stand_in_for_make(folder)
        return folder


def stand_in_for_make(folder: Path) -> Path:
    """Write a make into `folder` that can do what `sam build` asks of it here."""
    make = folder / "make"
    make.write_text(_MAKE)
    make.chmod(0o755)
    return make
