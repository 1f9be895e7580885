import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import logs


def line(record: logging.LogRecord) -> dict[str, object]:
    decoded: dict[str, object] = json.loads(logs.JsonLines().format(record))
    return decoded


def record(fact: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("gateway.x", logging.INFO, "x.py", 1, fact, (), None)
    vars(made).update(logs.fields(**fields))
    return made


def test_a_fact_is_one_line_with_its_ids() -> None:
    """What was bound to it stands beside the fact, level, logger and time."""
    said = line(record("delivery.attempted", event_id="evt_1", status=200))

    assert said["fact"] == "delivery.attempted"
    assert (said["event_id"], said["status"]) == ("evt_1", 200)
    assert (said["level"], said["logger"]) == ("info", "gateway.x")
    assert isinstance(said["time"], float)


@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.builds(object)))
def test_any_field_is_a_line_of_json(fields: dict[str, object]) -> None:
    """A line never breaks what reads it, whatever a field holds."""
    made = record("x")
    vars(made)["zapgate"] = fields

    assert "\n" not in logs.JsonLines().format(made)
    line(made)


def test_an_error_brings_its_trail() -> None:
    """What went wrong is in the same line."""
    error = ValueError("why")
    made = record("x.failed")
    made.exc_info = (ValueError, error, error.__traceback__)

    assert "ValueError: why" in str(line(made)["error"])


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_a_phone_number_is_never_whole(number: str) -> None:
    """At most the country and the last two digits remain."""
    masked = logs.masked(number)

    assert number not in masked
    assert sum(character.isdigit() for character in masked) == 4


def test_a_process_logs_json_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Once configured, every logger does; chatty libraries only when something is the matter."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure("info")
        logging.getLogger("anything").info("begun")
        logging.getLogger("botocore").info("a request")
    finally:
        root.handlers[:] = before
        root.setLevel(level)

    said = capsys.readouterr().err.splitlines()
    assert [json.loads(each)["fact"] for each in said] == ["begun"]
