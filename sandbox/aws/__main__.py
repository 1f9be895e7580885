"""`python -m sandbox.aws lint` judges template.yaml; `install` fetches the tools beforehand."""

import argparse
import asyncio
import sys
from pathlib import Path

from sandbox.aws.emulator import REGION
from sandbox.aws.errors import EmbeddedAwsError, ToolError
from sandbox.aws.sam import sam_cli
from sandbox.aws.venvs import EMULATOR, SAM, tool_python


async def lint(home: Path) -> None:
    """cfn-lint, and both of SAM's own looks, at once.

    Raises:
        ToolError: with everything that was found.
    """
    # Nothing is asked of AWS, but SAM wants to know which region it would be.
    sam = await sam_cli(home, {"AWS_DEFAULT_REGION": REGION}, print, print)
    template = ("--template-file", "template.yaml")
    results = await asyncio.gather(
        sam.cfn_lint(),
        sam.run("validate", *template),
        sam.run("validate", "--lint", *template),
        return_exceptions=True,
    )
    found = [str(result) for result in results if isinstance(result, BaseException)]
    if found:
        raise ToolError("\n".join(found))


async def install(home: Path) -> None:
    """Make the environments of every tool."""
    for tool in (EMULATOR, SAM):
        await tool_python(home, tool, print)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.aws", description=__doc__)
    parser.add_argument("what", choices=("lint", "install"))
    parser.add_argument("--home", type=Path, default=Path(".zapgate"))
    arguments = parser.parse_args()
    work = {"lint": lint, "install": install}[arguments.what]
    try:
        asyncio.run(work(arguments.home))
    except EmbeddedAwsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
