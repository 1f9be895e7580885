"""One cold start: imports a handler, gives it an event, says what that took.

Executed as `cold_driver.py MODULE EVENT_FILE` in a fresh process; prints one line of JSON.
"""

import time

WALL, CPU = time.perf_counter(), time.process_time()

import importlib  # noqa: E402 - the clock first
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402


class Context:
    """What Lambda tells a function about its invocation, as far as Mangum and we look."""

    function_name = "bench"
    function_version = "$LATEST"
    invoked_function_arn = "arn:aws:lambda:eu-west-1:000000000000:function:bench"
    memory_limit_in_mb = 512
    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


def main(module: str, event_file: str) -> None:
    event = json.loads(Path(event_file).read_text())
    handler = importlib.import_module(module).handler
    imported, imported_cpu = time.perf_counter(), time.process_time()
    answer = handler(event, Context())
    answered, answered_cpu = time.perf_counter(), time.process_time()
    told = {
        "status": answer["statusCode"],
        "import": imported - WALL,
        "answer": answered - imported,
        "wall": answered - WALL,
        "import_cpu": imported_cpu - CPU,
        "cpu": answered_cpu - CPU,
        "body": answer.get("body", "")[:500],
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
