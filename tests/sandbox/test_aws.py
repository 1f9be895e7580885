"""The embedded AWS comes up with what template.yaml declares, and goes without a trace."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox.aws import EmbeddedAws, StackEnvironment, StackFailedError, ToolError, apply_template
from sandbox.aws.venvs import Tool, folder_of, tool_python
from shared.env import settings
from shared.keyring import Keyring
from tests.conftest import HOME, FreshStack

REPOSITORY = Path(__file__).resolve().parents[2]


def queue(aws: EmbeddedAws, url: str) -> dict[str, Any]:
    answer = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return answer["Attributes"]


def test_the_table_is_as_declared(aws: EmbeddedAws, stack: StackEnvironment) -> None:
    """Keys, indexes, billing and expiry are the template's."""
    dynamodb = aws.client("dynamodb")
    table = dynamodb.describe_table(TableName=stack.outputs["TableName"])["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["PK", "SK"]
    indexes = {
        index["IndexName"]: [key["AttributeName"] for key in index["KeySchema"]]
        for index in table["GlobalSecondaryIndexes"]
    }
    assert indexes == {"GSI1": ["GSI1PK", "GSI1SK"], "Due": ["due_shard", "due_at"]}
    ttl = dynamodb.describe_time_to_live(TableName=stack.outputs["TableName"])
    assert ttl["TimeToLiveDescription"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}


def test_there_is_a_fifo_queue_for_each_shard(aws: EmbeddedAws, stack: StackEnvironment) -> None:
    """Every shard's queue is ordered by session and outlasts an outage of ours."""
    places = settings(stack.environment)
    for shard in range(places.shards):
        attributes = queue(aws, places.command_queue(shard))
        assert attributes["FifoThroughputLimit"] == "perMessageGroupId"
        assert attributes["DeduplicationScope"] == "messageGroup"
        assert attributes["ContentBasedDeduplication"] == "false"
        assert attributes["VisibilityTimeout"] == "60"
        redrive = json.loads(attributes["RedrivePolicy"])
        assert redrive["maxReceiveCount"] == 100
        assert redrive["deadLetterTargetArn"].endswith("-commands-dead.fifo")


def test_a_command_that_fails_all_the_time_is_parked(
    aws: EmbeddedAws, stack: StackEnvironment
) -> None:
    """After a hundred receives the message waits on the dead-letter queue."""
    sqs = aws.client("sqs")
    url = settings(stack.environment).command_queue(3)
    sqs.send_message(QueueUrl=url, MessageBody="{}", MessageGroupId="a", MessageDeduplicationId="a")
    for _ in range(100):
        assert sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)["Messages"]
    assert "Messages" not in sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    parked = sqs.receive_message(QueueUrl=stack.outputs["CommandsDeadQueueUrl"])
    assert [message["Body"] for message in parked["Messages"]] == ["{}"]


def test_the_planes_can_read_their_environment(stack: StackEnvironment) -> None:
    """Settings decode, the secret yields keys, and AWS is on loopback."""
    read = settings(stack.environment)
    assert read.shards == 16
    assert read.table == stack.outputs["TableName"]
    assert Keyring.parse(read.secret).operator_keys
    assert read.webhook_targets == "public"
    assert stack.environment["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")


def test_stacks_share_nothing(stack: StackEnvironment, fresh_stack: FreshStack) -> None:
    """Each has its own table, queues, bucket and secret."""
    other = fresh_stack(Shards="2")
    assert other.environment["ZAPGATE_SHARDS"] == "2"
    mine = {name for name in stack.environment if name.startswith("ZAPGATE_")}
    assert not [name for name in mine if stack.environment[name] == other.environment[name]]


def test_a_template_refused_says_why(fresh_stack: FreshStack) -> None:
    """A parameter that is not allowed is named."""
    with pytest.raises(StackFailedError, match="Shards"):
        fresh_stack(Shards="3")


def network(aws: EmbeddedAws, *zones: str) -> dict[str, str]:
    """Parameters of a gateway in a VPC with a subnet in each of two zones."""
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    first, second = (
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone)
        for number, zone in enumerate(zones)
    )
    return {
        "GatewayImage": "example/gateway:1",
        "VpcId": vpc,
        "SubnetA": first["Subnet"]["SubnetId"],
        "SubnetB": second["Subnet"]["SubnetId"],
    }


def test_a_resource_that_fails_is_named(aws: EmbeddedAws) -> None:
    """The first failure is reported, not the rollback that follows it."""
    parameters = network(aws, "eu-west-1a", "eu-west-1a")
    with pytest.raises(StackFailedError) as failed:
        apply_template(aws, stack="one-zone", parameters={"Prefix": "one-zone", **parameters})
    assert failed.value.resource == "MountTargetB"


def test_the_gateway_s_part_is_accepted(aws: EmbeddedAws, fresh_stack: FreshStack) -> None:
    """Cluster, task, service, file system and roles are created, not only linted."""
    stack = fresh_stack(**network(aws, "eu-west-1a", "eu-west-1b"))
    ecs = aws.client("ecs")
    family = f"{stack.stack}-gateway"
    task = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
    (container,) = task["containerDefinitions"]
    variables = {one["name"]: one["value"] for one in container["environment"]}
    assert {name: variables[name] for name in variables if name in stack.environment} == {
        name: value for name, value in stack.environment.items() if name in variables
    }


def test_a_gateway_without_a_network_is_refused(fresh_stack: FreshStack) -> None:
    """The rule speaks before anything is made."""
    with pytest.raises(StackFailedError, match="A gateway needs VpcId"):
        fresh_stack(GatewayImage="example/gateway:1")


def test_the_user_s_own_aws_is_not_looked_at(
    aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile, a region or an endpoint in the user's environment changes nothing."""
    monkeypatch.setenv("AWS_PROFILE", "someone-elses")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "xx-nowhere-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "https://sqs.invalid")
    aws.__dict__.pop("_session", None)
    assert "QueueUrls" in aws.client("sqs").list_queues(MaxResults=1)


PARENT = """
import asyncio, sys
from pathlib import Path
from sandbox.aws import run_embedded_aws

async def main():
    async with run_embedded_aws(Path(sys.argv[1])) as aws:
        print(aws.endpoint, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell a child nothing")
async def test_the_emulator_ends_with_its_parent(aws: EmbeddedAws) -> None:
    """A parent killed without a chance to stop anything leaves no emulator behind."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(HOME), stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY
    )
    assert parent.stdout is not None
    port = int((await parent.stdout.readline()).rpartition(b":")[2])
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    deadline = time.monotonic() + 30
    while await answers(port):
        assert time.monotonic() < deadline, "still there"
        await asyncio.sleep(0.05)


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


# pip's help needs no network, and stands for an installation that works. Each test makes an
# environment or two: four seconds of work apiece, and longer where others work too.
OFFLINE = Tool("offline", ("--help",))


@pytest.mark.timeout(300)
async def test_an_interrupted_installation_is_redone(tmp_path: Path) -> None:
    """Without the mark of a finished one, what lies there is not trusted; with it, it is."""
    python = await tool_python(tmp_path, OFFLINE)
    folder = python.parents[1]
    rubbish = folder / "half-a-package"
    rubbish.touch()
    assert await tool_python(tmp_path, OFFLINE) == python
    assert rubbish.exists()
    (folder / "complete").unlink()
    await tool_python(tmp_path, OFFLINE)
    assert not rubbish.exists()


@pytest.mark.timeout(300)
async def test_an_installation_that_fails_says_why(tmp_path: Path) -> None:
    """The person sees pip's own last words, and the next attempt starts anew."""
    tool = Tool("broken", ("--no-such-option",))
    with pytest.raises(ToolError, match="no such option"):
        await tool_python(tmp_path, tool)
    mark = folder_of(tmp_path, tool) / "complete"
    assert not mark.exists()


def test_two_pins_are_two_folders(tmp_path: Path) -> None:
    """A changed pin is installed beside the old one, so older checkouts keep working."""
    pins = (("a==1",), ("a==2",), ("a==1", "b==1"))
    assert len({folder_of(tmp_path, Tool("a", one)) for one in pins}) == 3
