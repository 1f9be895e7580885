"""`zapgate bench`: what the product costs, as ratios to bare loops of the same round.

Every figure measures ours and its bare counterpart in turn, A B A B, and is judged by the median of
the rounds' ratios: a busy machine slows both. The counterparts import parts of this package, so it
stays empty but for its door.
"""

from pathlib import Path

from sandbox.bench.options import Options


def run(
    home: Path, *, rounds: int, figures: tuple[str, ...], options: Options | None = None
) -> int:
    """Measure and print; the exit code: 0 if every figure was measured, whatever it said.

    Raises:
        SystemExit: a figure of that name does not exist.
    """
    from sandbox.bench.main import measure  # noqa: PLC0415 - a bare handler must not pay for it

    return measure(home, rounds=rounds, names=figures, options=options or Options())
