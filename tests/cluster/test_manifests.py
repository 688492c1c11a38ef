"""The manifests, held against Ray's own validators, a simulated AWS and Ray's own autoscaler."""

from __future__ import annotations

import copy
import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.common_pb2 import LabelSelectorOperator
from typer.main import get_command

from pipelines.cli import app
from valence.config import Config

_ROOT = Path(__file__).resolve().parents[2]
_CLUSTER = _ROOT / "cluster"
_PAGE = _CLUSTER / "README.md"
_LABEL = "valence.role"
_MACHINES = ("aws.yaml", "gcp.yaml")
_PODS = ("raycluster.yaml", "rayjob.yaml")
_IMAGE = "REGISTRY/valence:{version}".format(
    **tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
)
_TEXTS = sorted(path for path in _CLUSTER.rglob("*") if path.is_file() and path.suffix != ".png")


def _read(name: str) -> dict[str, Any]:
    folder = _CLUSTER / "kubernetes" if name not in _MACHINES else _CLUSTER
    return yaml.safe_load((folder / name).read_text())


def _cluster_of(name: str) -> dict[str, Any]:
    """The RayCluster of a manifest for Kubernetes, as the operator would make it of a RayJob."""
    manifest = _read(name)
    if manifest["kind"] == "RayJob":
        manifest = {**manifest, "kind": "RayCluster", "spec": manifest["spec"]["rayClusterSpec"]}
    manifest["metadata"] = {**manifest["metadata"], "namespace": "default"}
    return manifest


def _autoscaling(name: str) -> AutoscalingConfig:
    if name in _MACHINES:
        return AutoscalingConfig(prepare_config(_read(name)), skip_content_hash=True)
    return AutoscalingConfig(
        _derive_autoscaling_config_from_ray_cr(_cluster_of(name)), skip_content_hash=True
    )


# Machines: Ray's schema and validator.


@pytest.mark.parametrize("name", _MACHINES)
def test_ray_accepts_the_manifests_of_machines(name: str) -> None:
    validate_config(prepare_config(_read(name)))


def test_rays_validator_would_notice() -> None:
    wrong = _read("aws.yaml")
    wrong["available_node_types"]["cpu"]["resources"]["CPU"] = 0.5
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(wrong))
    wrong = _read("aws.yaml")
    wrong["head_node_type"] = "nobody"
    with pytest.raises(ValueError, match="head_node_type"):
        validate_config(prepare_config(wrong))


@pytest.mark.parametrize("name", _MACHINES)
def test_no_command_comes_from_rays_defaults(name: str) -> None:
    raw = _read(name)
    prepared = prepare_config(copy.deepcopy(raw))
    commands = [key for key in prepared if key.endswith("_commands")]
    assert len(commands) == 6
    for key in commands:
        # Ray appends the commands of all nodes to those of the head and of the workers.
        assert prepared[key] == raw[key]


@pytest.mark.parametrize("name", _MACHINES)
def test_a_small_head_and_spot_workers_from_zero(name: str) -> None:
    types = _read(name)["available_node_types"]
    assert {role: kind["labels"] for role, kind in types.items()} == {
        role: {_LABEL: role} for role in ("head", "cpu", "gpu")
    }
    assert types["head"]["resources"] == {"CPU": 0}
    assert "GPU" not in types["cpu"]["resources"]
    assert types["gpu"]["resources"]["GPU"] == 1
    for role in ("cpu", "gpu"):
        assert types[role]["min_workers"] == 0
        node = types[role]["node_config"]
        if name == "aws.yaml":
            assert node["InstanceMarketOptions"]["MarketType"] == "spot"
        else:
            assert node["scheduling"]["provisioningModel"] == "SPOT"
    for absent in ("InstanceMarketOptions", "scheduling"):
        assert absent not in types["head"]["node_config"]


@pytest.mark.parametrize("name", _MACHINES)
def test_every_ray_on_machines_asks_for_the_token_and_shows_its_dashboard_to_nobody(
    name: str,
) -> None:
    manifest = _read(name)
    assert "-e RAY_AUTH_MODE=token" in manifest["docker"]["run_options"]
    assert manifest["file_mounts"] == {"~/.ray": "~/.ray/clusters/valence"}
    head = " ".join(manifest["head_start_ray_commands"])
    assert head.count("ray start") == head.count("--dashboard-host=127.0.0.1") == 1
    workers = " ".join(manifest["worker_start_ray_commands"])
    assert "ray start --address=$RAY_HEAD_IP:6379" in workers
    # prometheus.yml expects the file that lists the nodes where the container's host sees it.
    assert "-v /tmp/ray:/tmp/ray" in manifest["docker"]["run_options"]
    assert "mkdir -p /tmp/ray" in manifest["initialization_commands"]


def test_aws_opens_ssh_and_nothing_else_and_workers_are_spot_with_a_role_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto = pytest.importorskip("moto")
    import boto3
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    # The SSH key that Ray makes goes into the home folder.
    monkeypatch.setenv("HOME", str(tmp_path))
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "simulated")
    prepared = prepare_config(_read("aws.yaml"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", prepared["provider"]["region"])
    with moto.mock_aws():
        iam, ec2 = boto3.client("iam"), boto3.client("ec2")
        for role in ("valence-head", "valence-worker"):
            iam.create_instance_profile(InstanceProfileName=role)
        made = bootstrap_aws(prepared)

        (group,) = ec2.describe_security_groups(
            Filters=[{"Name": "group-name", "Values": ["ray-valence"]}]
        )["SecurityGroups"]
        outside = [
            (rule.get("FromPort"), rule.get("ToPort"), rule["IpProtocol"])
            for rule in group["IpPermissions"]
            if rule["IpRanges"] or rule["Ipv6Ranges"] or rule["PrefixListIds"]
        ]
        assert outside == [(22, 22, "tcp")]
        inside = [pair for rule in group["IpPermissions"] for pair in rule["UserIdGroupPairs"]]
        assert {pair["GroupId"] for pair in inside} == {group["GroupId"]}

        provider = AWSNodeProvider(made["provider"], made["cluster_name"])
        for role in ("head", "cpu", "gpu"):
            node = made["available_node_types"][role]["node_config"]
            assert node["SecurityGroupIds"] == [group["GroupId"]]
            provider.create_node(node, {"ray-node-type": role, "ray-cluster-name": "valence"}, 1)
        machines = [
            machine
            for reservation in ec2.describe_instances()["Reservations"]
            for machine in reservation["Instances"]
        ]
        assert sorted(
            (
                machine["InstanceType"],
                machine.get("InstanceLifecycle", "on demand"),
                machine["IamInstanceProfile"]["Arn"].rpartition("/")[2],
            )
            for machine in machines
        ) == [
            ("c7i.2xlarge", "spot", "valence-worker"),
            ("g6.2xlarge", "spot", "valence-worker"),
            ("m7i.large", "on demand", "valence-head"),
        ]


def test_the_roles_that_the_page_makes_on_aws_are_policies_and_know_one_bucket() -> None:
    text = _PAGE.read_text()
    policies = {
        name: json.loads(policy.replace("'$ACCOUNT'", "123456789012"))
        for name, policy in re.findall(r"^\s*(TRUST|DATA|SCALE)='(\{.*\})'$", text, re.MULTILINE)
    }
    assert policies.keys() == {"TRUST", "DATA", "SCALE"}
    moto = pytest.importorskip("moto")
    import boto3

    # The simulated IAM refuses what is no policy.
    with moto.mock_aws():
        iam = boto3.client("iam", aws_access_key_id="simulated", aws_secret_access_key="simulated")
        iam.create_role(RoleName="role", AssumeRolePolicyDocument=json.dumps(policies["TRUST"]))
        for name in ("DATA", "SCALE"):
            iam.put_role_policy(
                RoleName="role", PolicyName=name, PolicyDocument=json.dumps(policies[name])
            )
    for statement in policies["DATA"]["Statement"]:
        assert statement["Resource"].startswith("arn:aws:s3:::BUCKET")
    assert not any("*" in action for policy in policies.values() for action in _actions(policy))


def _actions(policy: Mapping[str, Any]) -> list[str]:
    return [
        action
        for statement in policy["Statement"]
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
    ]


def test_google_clouds_nodes_are_in_the_network_that_the_page_makes() -> None:
    manifest = _read("gcp.yaml")
    provider = manifest["provider"]
    page = _PAGE.read_text()
    (network,) = re.findall(r"networks create (\S+) --subnet-mode=custom", page)
    ((subnet, region),) = re.findall(
        rf"subnets create (\S+) --network={network} --region=(\S+)", page
    )
    assert region == provider["region"]
    assert provider["availability_zone"].startswith(region)
    place = f"projects/{provider['project_id']}/regions/{region}/subnetworks/{subnet}"
    for kind in manifest["available_node_types"].values():
        assert [each["subnetwork"] for each in kind["node_config"]["networkInterfaces"]] == [place]
        (disk,) = kind["node_config"]["disks"]
        assert f"zones/{provider['availability_zone']}/" in disk["initializeParams"]["diskType"]
    rules = re.findall(r"firewall-rules create \S+ --network=valence (.*)$", page, re.MULTILINE)
    assert sorted(rules) == [
        "--allow=tcp,udp,icmp --source-ranges=10.10.0.0/20",
        "--allow=tcp:22 --source-ranges=YOUR_ADDRESS/32",
    ]
    # Workers have an account of their own; `ray up` gives the head one.
    for role in ("cpu", "gpu"):
        (account,) = manifest["available_node_types"][role]["node_config"]["serviceAccounts"]
        assert account["email"] == "valence-worker@PROJECT.iam.gserviceaccount.com"


# Placement: Ray's autoscaler decides what it would buy.


def _bought(name: str, requests: Sequence[Any]) -> tuple[dict[str, int], int]:
    """Nodes that the autoscaler would start from nothing, and requests that it cannot serve."""
    config = _autoscaling(name)
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=config.get_max_num_nodes(),
            idle_timeout_s=config.get_idle_timeout_s(),
            resource_requests=ResourceRequestUtil.group_by_count(list(requests)),
            gang_resource_requests=[],
            cluster_resource_constraints=[],
            current_instances=[],
        )
    )
    bought = {each.instance_type: each.count for each in reply.to_launch}
    return bought, len(reply.infeasible_resource_requests)


def _request(role: str | None = None, **resources: float) -> Any:
    wanted = [] if role is None else [[(_LABEL, LabelSelectorOperator.LABEL_OPERATOR_IN, [role])]]
    return ResourceRequestUtil.make(resources, label_selectors=wanted)


@pytest.mark.parametrize("name", [*_MACHINES, *_PODS])
def test_work_on_cpus_buys_no_gpu_node(name: str) -> None:
    # 8 nodes of 8 CPUs: 64 tasks run, the rest wait.
    assert _bought(name, [_request("cpu", CPU=1)] * 100)[0] == {"cpu": 8}
    assert _bought(name, [_request("cpu", CPU=1)] * 9)[0] == {"cpu": 2}
    # Without the label the autoscaler does buy GPU nodes, once there are no more of the others.
    assert _bought(name, [_request(CPU=1)] * 100)[0] == {"cpu": 8, "gpu": 4}


@pytest.mark.parametrize("name", [*_MACHINES, *_PODS])
def test_work_on_gpus_buys_gpu_nodes(name: str) -> None:
    assert _bought(name, [_request(GPU=1, CPU=6)] * 3) == ({"gpu": 3}, 0)
    assert _bought(name, [_request(GPU=1, CPU=6)] * 6) == ({"gpu": 4}, 2)


@pytest.mark.parametrize("name", [*_MACHINES, *_PODS])
def test_nothing_runs_on_the_head(name: str) -> None:
    config = _autoscaling(name)
    kinds = config.get_node_type_configs()
    (head,) = (kind for kind in kinds.values() if kind.labels[_LABEL] == "head")
    assert config.get_head_node_type() == head.name
    assert head.resources.get("CPU") == 0
    assert "GPU" not in head.resources
    assert {kind.labels[_LABEL] for kind in kinds.values()} == {"head", "cpu", "gpu"}
    assert all(kind.min_worker_nodes == 0 for kind in kinds.values())
    assert _bought(name, [_request("head", CPU=1)]) == ({}, 1)


def test_the_label_of_the_manifests_is_the_configurations_default() -> None:
    assert Config().cluster.label == _LABEL


# Kubernetes: what the CRD ray.io/v1 requires and KubeRay's own checks.

_POD = (
    "metadata.labels",
    "spec.containers[].name",
    "spec.containers[].image",
    "spec.containers[].resources.limits.cpu",
    "spec.containers[].resources.limits.memory",
    "spec.containers[].ports[].containerPort",
    "spec.containers[].volumeMounts[].name",
    "spec.containers[].volumeMounts[].mountPath",
    "spec.volumes[].name",
    "spec.volumes[].persistentVolumeClaim.claimName",
)
_RAY_CLUSTER = (
    "rayVersion",
    "headGroupSpec.rayStartParams",
    *(f"headGroupSpec.template.{field}" for field in _POD),
    "workerGroupSpecs[].groupName",
    "workerGroupSpecs[].replicas",
    "workerGroupSpecs[].minReplicas",
    "workerGroupSpecs[].maxReplicas",
    "workerGroupSpecs[].rayStartParams",
    *(f"workerGroupSpecs[].template.{field}" for field in _POD),
)


def _values(tree: Any, path: str) -> list[Any]:
    """What stands at a dotted path, every item where it says `[]`; KeyError if it is missing."""
    found = [tree]
    for part in path.split("."):
        key = part.removesuffix("[]")
        found = [node[key] for node in found]
        if part.endswith("[]"):
            if not all(found):
                raise KeyError(f"{path}: an empty list")
            found = [item for items in found for item in items]
    return found


@pytest.mark.parametrize("name", _PODS)
def test_what_the_crd_requires_is_there(name: str) -> None:
    manifest = _read(name)
    assert manifest["apiVersion"] == "ray.io/v1"
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,39}", manifest["metadata"]["name"])
    spec = _cluster_of(name)["spec"]
    for path in _RAY_CLUSTER:
        assert None not in _values(spec, path), path


def test_the_list_of_required_fields_would_notice() -> None:
    spec = _cluster_of("raycluster.yaml")["spec"]
    del spec["workerGroupSpecs"][1]["minReplicas"]
    with pytest.raises(KeyError, match="minReplicas"):
        _values(spec, "workerGroupSpecs[].minReplicas")
    spec["headGroupSpec"]["template"]["spec"]["containers"] = []
    with pytest.raises(KeyError, match="empty"):
        _values(spec, "headGroupSpec.template.spec.containers[].name")


@pytest.mark.parametrize("name", _PODS)
def test_kuberays_rules_hold(name: str) -> None:
    spec = _cluster_of(name)["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["authOptions"] == {"mode": "token", "secretName": "valence-token"}
    assert tuple(int(part) for part in spec["rayVersion"].split(".")) >= (2, 52, 0)
    head = spec["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP"
    for group in (head, *spec["workerGroupSpecs"]):
        parameters = group["rayStartParams"]
        assert all(isinstance(value, str) for value in parameters.values())
        assert "labels" not in parameters
        assert not {"num-cpus", "num-gpus", "memory", "resources"} & parameters.keys()
        assert all(isinstance(value, str) for value in group.get("resources", {}).values())
        pod = group["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["resources"]["limits"] == container["resources"]["requests"]
            assert not {
                variable["name"]
                for variable in container.get("env", [])
                if variable["name"].startswith("RAY_")
            }
        names = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == names
    for group in spec["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["minReplicas"] == 0


def test_the_job_is_one_that_kuberay_takes() -> None:
    spec = _read("rayjob.yaml")["spec"]
    assert "clusterSelector" not in spec
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["backoffLimit"] >= 0
    ours = yaml.safe_load((_CLUSTER / "runtime_env.yaml").read_text())
    assert yaml.safe_load(spec["runtimeEnvYAML"]) == {"env_vars": ours["env_vars"]}
    # The two manifests of pods speak of the same cluster.
    assert _cluster_of("rayjob.yaml")["spec"] == _cluster_of("raycluster.yaml")["spec"]


def test_the_volume_that_pods_mount_is_one_that_many_nodes_write() -> None:
    claim = _read("storage.yaml")
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["spec"]["resources"]["requests"]["storage"]
    for name in _PODS:
        spec = _cluster_of(name)["spec"]
        for group in ("headGroupSpec", "workerGroupSpecs[]"):
            claims = _values(
                spec, f"{group}.template.spec.volumes[].persistentVolumeClaim.claimName"
            )
            assert set(claims) == {claim["metadata"]["name"]}
            mounts = _values(spec, f"{group}.template.spec.containers[].volumeMounts[].mountPath")
            assert set(mounts) == {"/data"}


def test_the_network_lets_in_the_cluster_its_operator_its_job_and_prometheus() -> None:
    policy, monitor, job = (
        _read(f"{name}.yaml") for name in ("network-policy", "pod-monitor", "rayjob")
    )
    ours = policy["spec"]["podSelector"]["matchLabels"]
    assert monitor["spec"]["selector"]["matchLabels"] == ours
    ports: set[int] = set()
    for name in _PODS:
        spec = _cluster_of(name)["spec"]
        for group in ("headGroupSpec", "workerGroupSpecs[]"):
            for labels in _values(spec, f"{group}.template.metadata.labels"):
                assert ours.items() <= labels.items()
            for listed in _values(spec, f"{group}.template.spec.containers[].ports"):
                named = {port["name"]: port["containerPort"] for port in listed}
                for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                    ports.add(named[endpoint["port"]])
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    rules = [
        (json.dumps(origin), [port["port"] for port in rule.get("ports", [])])
        for rule in policy["spec"]["ingress"]
        for origin in rule["from"]
    ]
    by_name = {
        "cluster": json.dumps({"podSelector": {"matchLabels": ours}}),
        "job": json.dumps(
            {
                "podSelector": {
                    "matchLabels": {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
                }
            }
        ),
        **{
            name: json.dumps(
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
            )
            for name in ("kuberay-system", "monitoring")
        },
    }
    assert rules == [
        (by_name["cluster"], []),
        (by_name["job"], [8265]),
        (by_name["kuberay-system"], [8265]),
        (by_name["monitoring"], sorted(ports)),
    ]
    page = _PAGE.read_text()
    assert "--namespace kuberay-system" in page
    assert "`monitoring`" in page


# All of cluster/: images, commands and paths exist, secrets and open doors do not.


@pytest.mark.parametrize("path", _TEXTS, ids=lambda path: path.name)
def test_nothing_is_secret_open_to_all_or_unreleased(path: Path) -> None:
    text = path.read_text()
    for wrong in (
        r"0\.0\.0\.0",
        r"nightly",
        r":latest\b",
        r"\.dev0",
        r"ray-wheels",
        r"kind: Secret",
    ):
        assert not re.search(wrong, text), wrong
    for secret in (
        r"AKIA[0-9A-Z]{12}",
        r"-----BEGIN",
        r"\b[0-9a-f]{32,}\b",
        r"RAY_AUTH_TOKEN=",
        r"(?i)(password|secret_access_key|secretkey)\s*[:=]",
    ):
        assert not re.search(secret, text), secret


@pytest.mark.parametrize("path", _TEXTS, ids=lambda path: path.name)
def test_there_is_one_image(path: Path) -> None:
    images = re.findall(r"[\w./-]+/valence:[\w.-]*\w", path.read_text())
    assert set(images) <= {_IMAGE}
    if path.name in (*_MACHINES, *_PODS, "README.md", "Dockerfile"):
        assert images
    # A key `image` names it and no other.
    named = re.findall(r"^\s*(?:- )?image: (\S+)", path.read_text(), re.MULTILINE)
    assert set(named) <= {_IMAGE}


@pytest.mark.parametrize("path", _TEXTS, ids=lambda path: path.name)
def test_paths_that_are_named_exist(path: Path) -> None:
    for named in re.findall(r"\b(?:cluster|docs|pipelines)/[\w./-]+\.\w+", path.read_text()):
        assert (_ROOT / named).exists(), named


def _fenced() -> Iterator[list[str]]:
    """The words of every line of the page's blocks of commands."""
    for block in re.findall(r"```bash\n(.*?)```", _PAGE.read_text(), flags=re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def _inline() -> Iterator[str]:
    text = re.sub(r"```bash\n.*?```", "", _PAGE.read_text(), flags=re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", text)


def _product_commands() -> Iterator[list[str]]:
    lines = [*_fenced(), *(text.split() for text in _inline())]
    lines.append(_read("rayjob.yaml")["spec"]["entrypoint"].split())
    for words in lines:
        for program in (["python", "-m", "pipelines"], ["valence"]):
            at = [
                i
                for i in range(len(words) - len(program))
                if words[i : i + len(program)] == program and (i == 0 or words[i - 1] == "--")
            ]
            if at:
                yield words[at[0] + len(program) :]


def test_the_products_commands_are_ones_that_it_takes() -> None:
    commands: Mapping[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    found = list(_product_commands())
    # One of each of the four ways, that of Kubernetes's job, and those of the laptop.
    assert len(found) >= 6
    for name, *arguments in found:
        context = commands[name].make_context(name, list(arguments))
        assert context.params["out"]
        Config.resolve(Config(), assignments=context.params["assignments"] or ())


def test_keys_of_the_configuration_that_the_page_names_exist() -> None:
    named = {
        match[1]: match[2]
        for text in _inline()
        if (
            match := re.fullmatch(r"((?:cluster|train|sweep|preprocess)\.[a-z_]+)(?:=(\S+))?", text)
        )
    }
    assert {"train.workers", "train.gpus", "cluster.label", "cluster.wait_seconds"} <= named.keys()
    for key, value in named.items():
        section, _, name = key.partition(".")
        assert section in Config.model_fields, key
        assert name in Config.model_fields[section].annotation.model_fields, key  # type: ignore[union-attr]
        if value:
            Config.resolve(Config(), assignments=[f"{key}={value}"])


def _ray_commands() -> Iterator[list[str]]:
    for words in _fenced():
        if words[0] == "ray":
            yield words[1:]
    for name in _MACHINES:
        manifest = _read(name)
        for line in manifest["head_start_ray_commands"] + manifest["worker_start_ray_commands"]:
            for command in line.split(";"):
                if (words := shlex.split(command))[0] == "ray":
                    yield words[1:]


def test_rays_commands_are_ones_that_it_takes() -> None:
    from ray.scripts.scripts import cli

    seen = set()
    for words in _ray_commands():
        command, rest = cli, words
        while isinstance(command, click.Group):
            seen.add(rest[0])
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(command.name, list(rest))
    assert {"up", "down", "start", "stop", "job", "dashboard", "exec", "rsync-up"} <= seen


def test_the_page_leads_to_every_file_that_a_person_starts_from() -> None:
    page = _PAGE.read_text()
    for path in _TEXTS:
        if path != _PAGE:
            assert path.name in page, path.name
    readme = (_ROOT / "README.md").read_text()
    assert "](cluster/README.md)" in readme
