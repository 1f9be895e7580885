"""template.yaml, applied to the embedded AWS: the local stack has no other description.

What the emulator leaves out of a template it accepted is made up for from the template itself.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from sandbox.aws.emulator import EmbeddedAws
from sandbox.aws.errors import EmbeddedAwsError, StackFailedError

CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")

# A stack takes half a second; a minute is a stack that hangs.
_STACK_SECONDS = 60.0

# What the emulator cannot read in a template that was not packaged, and what it reads instead.
_READABLE = {
    # `sam package` would upload the folder; no function is made from this address.
    "CodeUri: .\n": "CodeUri: s3://not-deployed/here\n",
    # It keeps a Number parameter as text, and its ECS then counts with it.
    "DesiredCount: !Ref GatewayCount\n": "DesiredCount: 1\n",
}


@dataclass(frozen=True)
class StackEnvironment:
    """A stack that is up.

    Attributes:
        stack: its name.
        outputs: the template's outputs, with the emulator's addresses.
        environment: the variables a plane's process needs, and only those: where AWS is, and the
            `ZAPGATE_…` that template.yaml gives its function.
    """

    stack: str
    outputs: Mapping[str, str]
    environment: Mapping[str, str]


def template_path() -> Path:
    """The repository's template.yaml.

    Raises:
        EmbeddedAwsError: we were installed without the repository.
    """
    path = Path(__file__).resolve().parents[2] / "template.yaml"
    if not path.is_file():
        raise EmbeddedAwsError(
            f"template.yaml is not at {path}: the local stack is made from it, so run from a "
            "clone of the repository, installed with `pip install -e`"
        )
    return path


def apply_template(
    aws: EmbeddedAws, *, stack: str = "zapgate", parameters: Mapping[str, str] | None = None
) -> StackEnvironment:
    """Create a stack of what is kept and queued: the planes run beside it, not in it.

    Blocks for half a second the first time, a tenth later. Two stacks on one emulator need
    different `Prefix` parameters.

    Raises:
        StackFailedError: with the resource that failed and the emulator's reason.
    """
    given = {"ControlPlane": "false", "DeletionProtection": "false", **(parameters or {})}
    cloudformation = aws.client("cloudformation")
    try:
        cloudformation.create_stack(
            StackName=stack,
            TemplateBody=_readable(template_path().read_text()),
            Capabilities=CAPABILITIES,
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value} for name, value in given.items()
            ],
        )
    except ClientError as error:
        raise StackFailedError(stack, str(error)) from error
    return stack_environment(aws, stack)


def _readable(body: str) -> str:
    for written, read in _READABLE.items():
        if body.count(written) != 1:
            raise EmbeddedAwsError(f"template.yaml no longer says {written.strip()!r} once")
        body = body.replace(written, read)
    return body


def stack_environment(aws: EmbeddedAws, stack: str) -> StackEnvironment:
    """Wait for the stack, fill the emulator's gaps, and say how to use it."""
    cloudformation = aws.client("cloudformation")
    outputs = _wait(cloudformation, stack)
    _enable_ttl(aws, cloudformation, stack)
    secret = aws.client("secretsmanager").get_secret_value(SecretId=outputs["SecretArn"])
    return StackEnvironment(
        stack,
        outputs,
        {
            **aws.environment,
            "ZAPGATE_TABLE": outputs["TableName"],
            "ZAPGATE_SHARDS": outputs["ShardCount"],
            "ZAPGATE_COMMAND_QUEUE_URL": outputs["CommandQueueUrl"],
            "ZAPGATE_COMMAND_DEAD_URL": outputs["CommandsDeadQueueUrl"],
            "ZAPGATE_DELIVERY_QUEUE_URL": outputs["DeliveryQueueUrl"],
            "ZAPGATE_MEDIA_BUCKET": outputs["BucketName"],
            "ZAPGATE_SECRET": secret["SecretString"],
        },
    )


def _wait(cloudformation: Any, stack: str) -> dict[str, str]:
    deadline = time.monotonic() + _STACK_SECONDS
    while True:
        described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        status: str = described["StackStatus"]
        if status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
            outputs: list[dict[str, str]] = described.get("Outputs", [])
            return {output["OutputKey"]: output["OutputValue"] for output in outputs}
        if not status.endswith("IN_PROGRESS") or "ROLLBACK" in status:
            raise _failure(cloudformation, stack, status)
        if time.monotonic() > deadline:
            raise StackFailedError(stack, f"still {status} after {_STACK_SECONDS:.0f} s")
        time.sleep(0.02)


def _failure(cloudformation: Any, stack: str, status: str) -> StackFailedError:
    """The first resource that failed: what follows it is only cancelled."""
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack)
    newest_first = [event for page in pages for event in page["StackEvents"]]
    for event in reversed(newest_first):
        if event["ResourceStatus"].endswith("_FAILED"):
            reason = event.get("ResourceStatusReason", event["ResourceStatus"])
            return StackFailedError(event["LogicalResourceId"], reason)
    return StackFailedError(stack, status)


def _enable_ttl(aws: EmbeddedAws, cloudformation: Any, stack: str) -> None:
    """The emulator (ministack 1.5.33) takes TimeToLiveSpecification and does nothing with it."""
    processed = cloudformation.get_template(StackName=stack, TemplateStage="Processed")
    dynamodb = aws.client("dynamodb")
    for name, resource in processed["TemplateBody"]["Resources"].items():
        specification = resource.get("Properties", {}).get("TimeToLiveSpecification")
        if resource["Type"] != "AWS::DynamoDB::Table" or specification is None:
            continue
        described = cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId=name)
        table = described["StackResourceDetail"]["PhysicalResourceId"]
        state = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        if state["TimeToLiveStatus"] == "DISABLED":
            dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)
