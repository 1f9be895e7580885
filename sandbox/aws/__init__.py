"""The embedded AWS: an emulator on loopback, and our template.yaml applied to it.

Nothing in the planes knows which AWS they talk to: everything reaches this one through the
variables of `StackEnvironment.environment`.
"""

from sandbox.aws.deployment import Deployment, deploy
from sandbox.aws.emulator import EmbeddedAws, run_embedded_aws
from sandbox.aws.errors import EmbeddedAwsError, StackFailedError, ToolError
from sandbox.aws.template import StackEnvironment, apply_template, template_path

__all__ = [
    "Deployment",
    "EmbeddedAws",
    "EmbeddedAwsError",
    "StackEnvironment",
    "StackFailedError",
    "ToolError",
    "apply_template",
    "deploy",
    "run_embedded_aws",
    "template_path",
]
