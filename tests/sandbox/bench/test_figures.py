"""What figures read of other programs' words."""

import os
import re
from pathlib import Path

import pytest

from sandbox.bench import proc
from sandbox.bench.figures.cold import by_package, event, excess
from sandbox.bench.figures.requests import own_count
from sandbox.bench.main import FIGURES, measure
from sandbox.bench.options import Options

IMPORTTIME = """import time: self [us] | cumulative | imported package
import time:      1500 |       1500 |   qrcode.util
import time:       500 |       2000 | qrcode
import time:      3000 |       3000 | litestar
import time:       700 |       3700 |   shared.clock
import time:       300 |       4000 | control_plane.handler
a warning on stderr
"""

METRICS = """# HELP zapgate_aws_requests_total Requests
zapgate_aws_requests_total{action="PutItem",service="dynamodb"} 29.0
zapgate_aws_requests_total{action="ReceiveMessage",service="sqs"} 115.0
zapgate_aws_requests_created{action="PutItem",service="dynamodb"} 1.7e9
"""


def test_import_times_are_summed_by_package() -> None:
    """A package costs what its modules cost; whatever else was printed is passed over."""
    assert by_package(IMPORTTIME) == {"qrcode": 2.0, "litestar": 3.0, "own modules": 1.0}


def test_only_what_costs_more_is_excess() -> None:
    """What both import costs neither more; the greatest comes first."""
    ours = {"qrcode": 20.0, "litestar": 30.0, "cryptography": 25.0, "json": 0.4}
    assert excess(ours, {"litestar": 30.0}) == "cryptography 25, qrcode 20"


def test_the_gateways_own_count_is_read_by_action() -> None:
    """Counters are read, their moments of creation are not."""
    assert own_count(METRICS) == {"PutItem": 29.0, "ReceiveMessage": 115.0}


def test_an_event_is_an_http_apis() -> None:
    """An event has what payload version 2.0 has, and a key only where there is one."""
    told = event("GET", "/healthz", None, None)
    assert told["version"] == "2.0"
    assert "authorization" not in told["headers"]
    assert event("POST", "/v1", "key", "{}")["headers"]["authorization"] == "Bearer key"


def test_a_process_has_memory_and_has_used_time() -> None:
    """What is private is no more than what is there in proportion, and time only grows."""
    memory = proc.memory(os.getpid())
    assert 0 < memory.private <= memory.proportional
    assert proc.processor_seconds(os.getpid()) > 0


def test_processor_time_is_told_by_role() -> None:
    """Who used most comes first, and a process that was not there before counts whole."""
    before = {1: ("gateway", 1.0)}
    after = {1: ("gateway", 2.0), 2: ("session hosts", 3.0)}
    assert proc.spent(before, after) == "session hosts 75%, gateway 25%"


def test_unknown_figures_are_named(tmp_path: Path) -> None:
    """A figure that does not exist is refused before anything is started."""
    with pytest.raises(SystemExit, match=re.escape(", ".join(FIGURES))):
        measure(tmp_path, rounds=1, names=("speed",), options=Options())
    with pytest.raises(SystemExit, match="one round"):
        measure(tmp_path, rounds=0, names=(), options=Options())
