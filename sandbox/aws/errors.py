"""What can go wrong with the embedded AWS, each with a sentence for the person at the terminal.

EmbeddedAwsError
├── ToolError          a tool could not be installed, or ran and failed
└── StackFailedError   the template was refused, or a resource of it failed
"""


class EmbeddedAwsError(Exception):
    """The embedded AWS cannot do what was asked; the message says what to do or where to look."""


class ToolError(EmbeddedAwsError):
    """A program run beside us could not be installed, or ended with a failure."""


class StackFailedError(EmbeddedAwsError):
    """The stack did not come up.

    Attributes:
        resource: the logical id that failed, or the stack's name if it was refused as a whole.
        reason: what the emulator says about it.
    """

    def __init__(self, resource: str, reason: str) -> None:
        super().__init__(f"{resource}: {reason}")
        self.resource = resource
        self.reason = reason
