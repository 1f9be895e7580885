"""The README is held to the code where it can be."""

import re
from pathlib import Path

from shared.session import REASONS, STATES, TRANSITIONS, SessionState, Trigger

README = Path(__file__).parents[1] / "README.md"

START = "<!-- drawn from shared/session.py; tests/test_readme.py says how it must look -->\n"

MANY = 5
"""A trigger that leads to one state from so many is told in words, for the picture's sake."""


def diagram() -> str:
    """The table of transitions as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> created"]
    for state in SessionState:
        edges = {
            target: [
                trigger.value
                for (origin, trigger), reached in TRANSITIONS.items()
                if origin is state and reached is target and trigger not in _FROM_MANY
            ]
            for target in SessionState
        }
        lines += [
            f"    {state.value} --> {target.value}: {', '.join(triggers)}"
            for target, triggers in edges.items()
            if triggers
        ]
    return "\n".join([*lines, "```", "", *(_told(trigger) for trigger in _FROM_MANY)])


def _told(trigger: Trigger) -> str:
    (target,) = _targets(trigger)
    others = [f"`{each.value}`" for each in SessionState if (each, trigger) not in TRANSITIONS]
    but = f" but {', '.join(others)}" if others else ""
    return f"- From every state{but}: {trigger.value} leads to `{target.value}`."


def _targets(trigger: Trigger) -> set[SessionState]:
    return {state for (_, each), state in TRANSITIONS.items() if each is trigger}


_FROM_MANY = [
    trigger
    for trigger in Trigger
    if len(_targets(trigger)) == 1 and sum(each is trigger for _, each in TRANSITIONS) >= MANY
]


def states() -> str:
    """What each state means, and what to do in it."""
    rows = [f"| `{state.value}` | {each.means} | {each.then} |" for state, each in STATES.items()]
    return "\n".join(["| state | what it means | what to do |", "|---|---|---|", *rows])


def reasons() -> str:
    """Each reason, in the words of the API."""
    rows = [f"| `{reason.value}` | {text} |" for reason, text in REASONS.items()]
    return "\n".join(["| reason | in words, and what to do |", "|---|---|", *rows])


def test_the_diagram_in_the_readme_is_the_table() -> None:
    """A changed transition changes the picture, or the build is red."""
    assert START + diagram() in README.read_text()


def test_states_and_reasons_in_the_readme_are_those_of_the_api() -> None:
    """What is said of a state or a reason is said in one place."""
    text = README.read_text()

    assert states() in text
    assert reasons() in text


def test_metrics_in_the_readme_have_the_names_the_gateway_shows() -> None:
    """Whoever copies a name into an alarm finds it: a counter's ends in `_total`."""
    code = "".join(path.read_text() for path in (README.parent / "gateway").glob("*.py"))
    names = set(re.findall(r'"(zapgate_[a-z_]+)"', code))
    counters = set(re.findall(r'Counter(?:MetricFamily,|\()\s*"(zapgate_[a-z_]+)"', code))
    shown = names - counters | {f"{name}_total" for name in counters}

    assert set(re.findall(r"`(zapgate_[a-z_]+)", README.read_text())) <= shown
