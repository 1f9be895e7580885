"""template.yaml says what the architecture says.

Read as the embedded AWS processed it: loops unrolled, SAM's words turned into CloudFormation's, and
every resource there, whatever its condition.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.aws import EmbeddedAws, template_path
from shared import proxy, urls
from shared.addresses import Denied
from shared.env import Settings
from tests.conftest import FreshStack

Resource = dict[str, Any]

# What a plane is given that is not ours to name.
FOREIGN = {"NEONIZE_BOT_TAG", "GOMEMLIMIT"}


@pytest.fixture(scope="module")
def template(aws: EmbeddedAws, fresh_stack: FreshStack) -> dict[str, Any]:
    stack = fresh_stack().stack
    cloudformation = aws.client("cloudformation")
    processed = cloudformation.get_template(StackName=stack, TemplateStage="Processed")
    return json.loads(json.dumps(processed["TemplateBody"]))


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Resource]:
    return template["Resources"]


def of_type(resources: dict[str, Resource], kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: resource["Properties"]
        for name, resource in resources.items()
        if resource["Type"] == kind
    }


def statements(resources: dict[str, Resource]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement that allows something to one of our roles."""
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        for policy in role.get("Policies", []):
            yield from ((name, one) for one in policy["PolicyDocument"]["Statement"])
    for name, policy in of_type(resources, "AWS::IAM::ManagedPolicy").items():
        yield from ((name, one) for one in policy["PolicyDocument"]["Statement"])


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def actions(resources: dict[str, Resource], name: str) -> set[str]:
    return {
        action
        for owner, statement in statements(resources)
        if owner == name
        for action in listed(statement["Action"])
    }


def chosen(values: list[Any], *, database: bool) -> list[dict[str, Any]]:
    """A list of the container's, with the device store on EFS or in a database."""
    picked = [
        one["Fn::If"][1 if database else 2] if one.keys() == {"Fn::If"} else one for one in values
    ]
    return [one for one in picked if one != {"Ref": "AWS::NoValue"}]


def environments(resources: dict[str, Resource]) -> dict[str, dict[str, Any]]:
    """Variable to value, of the function and of the gateway's container."""
    function = resources["ControlPlaneFunction"]["Properties"]
    return {
        "control_plane": function["Environment"]["Variables"],
        "gateway": {
            one["Name"]: one["Value"]
            for one in chosen(gateway(resources)["Environment"], database=False)
        },
    }


def gateway(resources: dict[str, Resource]) -> dict[str, Any]:
    (container,) = resources["GatewayTask"]["Properties"]["ContainerDefinitions"]
    return container


def test_every_queue_gives_up_into_one_that_nobody_forgets(
    resources: dict[str, Resource],
) -> None:
    """A queue has a dead-letter queue, kept as long as SQS can, or is one."""
    queues = of_type(resources, "AWS::SQS::Queue")
    dead = {"CommandsDead", "DeliveriesDead"}
    for name, queue in queues.items():
        if name in dead:
            assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600
        else:
            redrive = queue["RedrivePolicy"]
            assert redrive["deadLetterTargetArn"]["Fn::GetAtt"][0] in dead
            assert redrive["maxReceiveCount"] == (10 if name == "Deliveries" else 100)
    assert len(queues) == 16 + 1 + len(dead)


def test_every_queue_is_watched(resources: dict[str, Resource]) -> None:
    """A queue that is not drained, or a dead letter, sets off an alarm."""
    watched = {
        (alarm["MetricName"], json.dumps(dimension["Value"]))
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        for dimension in alarm.get("Dimensions", [])
        if dimension["Name"] == "QueueName"
    }
    assert len(watched) == len(of_type(resources, "AWS::SQS::Queue"))


@pytest.mark.parametrize(
    ("counted", "fact"),
    [("ShardsUnheld", "shards.unheld"), ("GatewayStandsStill", "watch.stepped_in")],
)
def test_what_gateways_log_of_trouble_is_watched(
    resources: dict[str, Resource], counted: str, fact: str
) -> None:
    """The line is counted, and the count sets off an alarm."""
    (found,) = (
        each
        for each in of_type(resources, "AWS::Logs::MetricFilter").values()
        if f'"{fact}"' in each["FilterPattern"]
    )
    (metric,) = found["MetricTransformations"]
    alarm = resources[f"{counted}Alarm"]["Properties"]
    assert (alarm["Namespace"], alarm["MetricName"]) == (
        metric["MetricNamespace"],
        metric["MetricName"],
    )


def test_the_most_shards_fit_a_stack(template: dict[str, Any]) -> None:
    """CloudFormation takes 500 resources; this stack was made with sixteen shards."""
    shards = [name for name in template["Resources"] if re.search(r"[a-z](\d+)$", name)]
    each, most = len(shards) // 16, max(map(int, template["Mappings"]["ShardNumbers"]))
    assert each == 2
    assert len(template["Resources"]) + each * (most - 16) <= 500


def test_who_comes_is_there_before_who_goes(resources: dict[str, Resource]) -> None:
    """A deploy starts gateways before it stops others, and shards move once."""
    rolling = resources["Gateway"]["Properties"]["DeploymentConfiguration"]
    assert (rolling["MinimumHealthyPercent"], rolling["MaximumPercent"]) == (100, 200)
    assert "ZAPGATE_BALANCE_SECONDS" in environments(resources)["gateway"]


def test_what_is_on_a_network_file_system_has_no_write_ahead_log(
    resources: dict[str, Resource],
) -> None:
    """EFS has no memory that its clients share, which SQLite's write-ahead log needs."""
    assert environments(resources)["gateway"]["ZAPGATE_JOURNAL_MODE"] == "delete"


def test_roles_reach_the_queue_of_every_shard(template: dict[str, Any]) -> None:
    """A question mark is one digit; with four, the dead-letter queue would be one of them."""
    most = max(len(str(int(count) - 1)) for count in template["Mappings"]["ShardNumbers"])
    assert most == 3
    for name, statement in statements(template["Resources"]):
        arns = json.dumps(statement["Resource"])
        marks = [n for n in range(1, 6) if f"-commands-{'?' * n}.fifo" in arns]
        assert marks in ([], list(range(1, most + 1))), name


def test_no_role_may_do_everything_or_touch_everything(resources: dict[str, Resource]) -> None:
    """Actions are named, and so is what they touch, but for the one that knows no resource."""
    seen = list(statements(resources))
    assert len(seen) > 8
    for name, statement in seen:
        assert statement["Effect"] == "Allow"
        assert not [action for action in listed(statement["Action"]) if "*" in action], name
        if statement["Resource"] == "*":
            assert listed(statement["Action"]) == ["ecr:GetAuthorizationToken"]


def test_no_role_borrows_a_policy_of_aws_s(resources: dict[str, Resource]) -> None:
    """AWS's own policies say `*`: every policy attached is one of this template."""
    for role in of_type(resources, "AWS::IAM::Role").values():
        assert all("Ref" in policy for policy in role.get("ManagedPolicyArns", []))


def test_the_planes_may_do_what_their_code_does(resources: dict[str, Resource]) -> None:
    """Only ECS itself reads the gateway's secret; only the gateway reads queues."""
    assert actions(resources, "ControlPlaneRole") == {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "secretsmanager:GetSecretValue",
        "sqs:SendMessage",
    }
    assert actions(resources, "GatewayRole") == {
        "elasticfilesystem:ClientMount",
        "elasticfilesystem:ClientWrite",
        "sqs:ChangeMessageVisibility",
        "sqs:DeleteMessage",
        "sqs:ReceiveMessage",
        "sqs:SendMessage",
    }
    kept = actions(resources, "DataPolicy")
    assert "dynamodb:Query" in kept
    assert "dynamodb:Scan" not in kept
    assert {action.partition(":")[0] for action in kept} == {"dynamodb", "s3"}


def test_webhooks_of_production_go_to_public_addresses_only(template: dict[str, Any]) -> None:
    """The word is in the template itself: no parameter, and so no operator, can change it."""
    for variables in environments(template["Resources"]).values():
        assert variables["ZAPGATE_WEBHOOK_TARGETS"] == "public"
    assert "loopback" not in json.dumps(template)


def test_webhooks_of_production_do_not_come_back_to_us(template: dict[str, Any]) -> None:
    """Both planes deny the VPC's networks, the API's own host and what the operator adds."""
    for variables in environments(template["Resources"]).values():
        separator, parts = variables["ZAPGATE_WEBHOOK_DENIED"]["Fn::Join"]
        told = json.dumps(parts)
        assert separator == " "
        for parameter in ("VpcCidr", "VpcIpv6Cidr", "WebhookDenied"):
            assert {"Ref": parameter} in parts
        assert "${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}" in told
    without_the_optional = "10.0.0.0/16   abc.execute-api.eu-west-1.amazonaws.com"
    assert len(Denied.parse(without_the_optional).networks) == 1


def test_every_variable_is_one_the_planes_read(resources: dict[str, Resource]) -> None:
    """A misspelt variable would be a setting that silently keeps its default."""
    known = {f"ZAPGATE_{field.upper()}" for field in Settings.__struct_fields__}
    for variables in environments(resources).values():
        assert set(variables) - FOREIGN <= known
    secrets = chosen(gateway(resources)["Secrets"], database=False)
    assert {secret["Name"] for secret in secrets} == {"ZAPGATE_SECRET"}


def test_a_database_takes_the_place_of_the_file_system(resources: dict[str, Resource]) -> None:
    """Its URL is a secret, which ECS hands in: no variable tells another store."""
    container = gateway(resources)
    secrets = chosen(container["Secrets"], database=True)
    given = chosen(container["Environment"], database=True)
    names = [one["Name"] for one in (*secrets, *given)]
    assert len(names) == len(set(names))
    (url,) = [one for one in secrets if one["Name"] == "ZAPGATE_DEVICE_STORE"]
    assert url["ValueFrom"] == {"Ref": "DeviceStoreSecretArn"}
    assert actions(resources, "GatewayDatabase") == {"secretsmanager:GetSecretValue"}
    door = resources["DatabaseDoor"]["Properties"]
    assert (door["FromPort"], door["CidrIp"]) == (5432, {"Ref": "VpcCidr"})


def test_the_gateway_knows_when_a_command_is_moved_away(resources: dict[str, Resource]) -> None:
    """It settles a message before its queue gives it up."""
    told = environments(resources)["gateway"]["ZAPGATE_COMMAND_RECEIVES"]
    counts = {
        properties["RedrivePolicy"]["maxReceiveCount"]
        for name, properties in of_type(resources, "AWS::SQS::Queue").items()
        if name.startswith("CommandQueue")
    }
    assert counts == {int(told)}
    assert Settings().command_receives == int(told)


def test_the_planes_agree_on_where_things_are(resources: dict[str, Resource]) -> None:
    """Both planes are given the same table, queues and bucket."""
    control_plane, gateway = environments(resources).values()
    shared = set(control_plane) & set(gateway)
    assert len(shared) > 5
    assert {name: control_plane[name] for name in shared} == {
        name: gateway[name] for name in shared
    }


def test_what_is_kept_is_kept(resources: dict[str, Resource]) -> None:
    """Deleting the stack deletes no row, file, secret or device; the table can be wound back."""
    for name in ("Table", "Media", "Secret", "DeviceStore"):
        assert resources[name]["DeletionPolicy"] == "RetainExceptOnCreate", name
        assert resources[name]["UpdateReplacePolicy"] == "Retain", name
    table = resources["Table"]["Properties"]
    assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    assert table["SSESpecification"]["SSEEnabled"] is True
    assert resources["DeviceStore"]["Properties"]["Encrypted"] is True


def test_media_is_private_encrypted_and_reached_over_tls(resources: dict[str, Resource]) -> None:
    """The bucket answers nobody without our role and nobody in the clear, and forgets."""
    media = resources["Media"]["Properties"]
    assert set(media["PublicAccessBlockConfiguration"].values()) == {True}
    assert media["BucketEncryption"]
    assert media["LifecycleConfiguration"]["Rules"][0]["Status"] == "Enabled"
    (statement,) = resources["MediaPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_gateway_is_confined(resources: dict[str, Resource]) -> None:
    """Not root, nothing writable but its volumes, and as long to stop as Fargate allows."""
    container = gateway(resources)
    assert container["User"] == "10001:10001"
    assert container["ReadonlyRootFilesystem"] is True
    assert container["StopTimeout"] == 120
    assert any("/healthz" in word for word in container["HealthCheck"]["Command"])
    (devices, _) = resources["GatewayTask"]["Properties"]["Volumes"]
    assert devices["EFSVolumeConfiguration"]["TransitEncryption"] == "ENABLED"
    assert environments(resources)["gateway"]["ZAPGATE_JOURNAL_MODE"] == "delete"


def test_a_gateway_dials_https_and_its_own_network_only(resources: dict[str, Resource]) -> None:
    """Nothing comes in; what webhooks' and proxies' URLs may name leaves the VPC, and no more."""
    network = resources["GatewayNetwork"]["Properties"]
    assert "SecurityGroupIngress" not in network
    abroad = [
        rule for rule in network["SecurityGroupEgress"] if rule.get("CidrIp") != {"Ref": "VpcCidr"}
    ]
    assert {(rule["FromPort"], rule["ToPort"]) for rule in abroad} == set(proxy.PORTS)
    assert all(any(first <= port <= last for first, last in proxy.PORTS) for port in urls.PORTS)
    assert all("CidrIp" in rule or "CidrIpv6" in rule for rule in abroad)
    assert len(abroad) == 2 * len(proxy.PORTS), "over IPv4 and IPv6"
    (door,) = resources["DeviceStoreNetwork"]["Properties"]["SecurityGroupIngress"]
    assert door["SourceSecurityGroupId"] == {"Fn::GetAtt": ["GatewayNetwork", "GroupId"]}


def test_the_access_log_keeps_no_query_string(resources: dict[str, Resource]) -> None:
    """Signed links carry their signature there, and cursors other tenants' positions."""
    line = json.loads(resources["ApiStage"]["Properties"]["AccessLogSettings"]["Format"])
    assert line["path"] == "$context.path"
    assert not any("query" in value.lower() for value in line.values())


def test_every_route_reaches_the_function(resources: dict[str, Resource]) -> None:
    """Also what nobody foresaw: `$default` gets our own 404."""
    routes = of_type(resources, "AWS::ApiGatewayV2::Route").values()
    assert {route["RouteKey"] for route in routes} == {
        "ANY /v1/{proxy+}",
        "GET /healthz",
        "GET /openapi.json",
        "GET /docs",
        "$default",
    }
    assert {json.dumps(route["Target"]) for route in routes} == {
        json.dumps({"Fn::Sub": "integrations/${ApiIntegration}"})
    }


def test_the_makefile_packages_for_what_the_template_runs(template: dict[str, Any]) -> None:
    """`sam build` and `sam deploy`, typed plainly, agree on Python and processor."""
    makefile = Path(template_path()).with_name("Makefile").read_text()
    defaults = dict(re.findall(r"^(\w+) \?= (\S+)$", makefile, re.MULTILINE))
    parameters = template["Parameters"]
    assert defaults == {
        "PYTHON": parameters["PythonRuntime"]["Default"],
        "ARCHITECTURE": parameters["Architecture"]["Default"],
    }


def test_shards_are_counted_by_what_they_list(template: dict[str, Any]) -> None:
    """Each count that may be chosen has a list of exactly so many numbers."""
    lists = template["Mappings"]["ShardNumbers"]
    assert list(lists) == template["Parameters"]["Shards"]["AllowedValues"]
    for count, entry in lists.items():
        assert entry["List"] == [str(number) for number in range(int(count))]
