"""A session's folder."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_asking_for_an_id_leaves_the_library_its_index(tmp_path: Path) -> None:
    """The library's SQLite and ours are two in one process, which share no locks."""
    mapped = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
    libraries = {each for each in mapped if "libsqlite3.so" in each}
    if not libraries:
        pytest.skip("this Python has its SQLite built in")
    asking = [sys.executable, "-m", "tests.gateway.host.two_sqlites", tmp_path, libraries.pop()]
    assert subprocess.run(asking, check=False).returncode == 0  # noqa: S603 (our own)
