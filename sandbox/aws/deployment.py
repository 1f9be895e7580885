"""The whole template on the embedded AWS, by the commands a person would type.

What is tested is what is deployed, Lambda and HTTP API included.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.aws.emulator import EmbeddedAws
from sandbox.aws.sam import host_parameters, sam_cli, transcript
from sandbox.aws.template import (
    CAPABILITIES,
    StackEnvironment,
    stack_environment,
    template_path,
)
from sandbox.aws.venvs import Log, quiet


@dataclass(frozen=True)
class Deployment:
    """A stack with an API that answers.

    Attributes:
        api_url: what `/v1/…` is appended to; requests reach the function through the HTTP API.
        stack: the stack's outputs, and the environment for a gateway beside it.
    """

    api_url: str
    stack: StackEnvironment


async def deploy(
    aws: EmbeddedAws,
    home: Path,
    *,
    stack: str = "zapgate",
    parameters: Mapping[str, str] | None = None,
    function_environment: Mapping[str, str] | None = None,
    log: Log = quiet,
) -> Deployment:
    """`sam build` and `sam deploy` template.yaml onto the embedded AWS.

    Takes about half a minute; the SAM CLI is installed under `home` on first use. The function runs
    on this Python: the emulator starts it with the interpreter it was installed with.
    `function_environment` is set on the deployed function afterwards, as an operator with the AWS
    console could: that is how a development function posts webhooks to loopback, which the
    template cannot say.

    Raises:
        ToolError: the SAM CLI could not be installed, or refused to build or deploy.
        StackFailedError: the stack did not come up.
    """
    template = template_path()
    sam = await sam_cli(home, aws.environment, log, transcript(home))
    built = sam.build_folder(stack)
    log("sam build: packaging the control plane for Lambda")
    await sam.run("build", "--template-file", str(template), "--build-dir", str(built))
    given = {"DeletionProtection": "false", **host_parameters(), **(parameters or {})}
    log("sam deploy: applying template.yaml")
    await sam.run(
        "deploy",
        *("--template-file", str(built / "template.yaml")),
        *("--stack-name", stack),
        *("--region", aws.environment["AWS_REGION"]),
        *("--capabilities", *CAPABILITIES),
        *("--parameter-overrides", *(f"{name}={value}" for name, value in given.items())),
        *("--resolve-s3", "--no-confirm-changeset", "--no-fail-on-empty-changeset"),
        "--no-progressbar",
    )
    return await asyncio.to_thread(_finish, aws, stack, function_environment or {})


def _finish(aws: EmbeddedAws, stack: str, function_environment: Mapping[str, str]) -> Deployment:
    deployed = stack_environment(aws, stack)
    if function_environment:
        functions = aws.client("lambda")
        name = deployed.outputs["FunctionName"]
        configuration = functions.get_function_configuration(FunctionName=name)
        variables = {**configuration["Environment"]["Variables"], **function_environment}
        functions.update_function_configuration(
            FunctionName=name, Environment={"Variables": variables}
        )
    # On AWS the output ApiUrl says it; the emulator serves every API below its one address.
    return Deployment(
        f"{aws.endpoint}/_aws/execute-api/{deployed.outputs['ApiId']}/$default", deployed
    )
