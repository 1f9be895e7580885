"""The README is held to the code where it can be."""

from pathlib import Path

from shared.session import TRANSITIONS, SessionState, Trigger

README = Path(__file__).parents[1] / "README.md"

START = "<!-- drawn from shared/session.py; tests/test_readme.py says how it must look -->\n"


def diagram() -> str:
    """The table of transitions as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> created"]
    for state in SessionState:
        # What leads to a state from everywhere is said once, below.
        edges = {
            target: [
                trigger.value
                for (origin, trigger), reached in TRANSITIONS.items()
                if origin is state and reached is target and (target, trigger) not in _ANYWHERE
            ]
            for target in SessionState
        }
        lines += [
            f"    {state.value} --> {target.value}: {', '.join(triggers)}"
            for target, triggers in edges.items()
            if triggers
        ]
    anywhere = "; ".join(f"{trigger.value} leads to {state.value}" for state, trigger in _ANYWHERE)
    return "\n".join([*lines, "```", "", f"From every state, {anywhere}."])


_ANYWHERE = [
    (state, trigger)
    for trigger in Trigger
    for state in SessionState
    if all(TRANSITIONS.get((each, trigger)) is state for each in SessionState)
]


def test_the_diagram_in_the_readme_is_the_table() -> None:
    """A changed transition changes the picture, or the build is red."""
    assert START + diagram() in README.read_text()
