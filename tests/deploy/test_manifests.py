"""The manifests against the schemas that their own programs publish, and against each other."""

import importlib.resources
import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.33"  # any version of recent years: nothing here is new to Kubernetes
RAY_MANIFESTS = ("raycluster.yaml", "rayjob.yaml")


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def packaged_json(package: str, *path: str) -> Any:
    return json.loads(importlib.resources.files(package).joinpath(*path).read_text())


def cluster_of(name: str) -> dict[str, Any]:
    spec = load(f"kuberay/{name}")["spec"]
    cluster: dict[str, Any] = spec["rayClusterSpec"] if name == "rayjob.yaml" else spec
    return cluster


def pod_templates(name: str) -> Iterator[dict[str, Any]]:
    cluster = cluster_of(name)
    yield cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["template"]


def test_ray_up_file_meets_rays_schema() -> None:
    jsonschema.validate(load("cluster.yaml"), packaged_json("ray.autoscaler", "ray-schema.json"))


def test_ray_up_file_passes_rays_own_checks() -> None:
    config = prepare_config(load("cluster.yaml"))
    validate_config(config)
    assert config["available_node_types"]["head"]["max_workers"] == 0
    assert {kind["node_config"]["ImageId"] for kind in config["available_node_types"].values()} == {"AMI"}


def test_compose_file_meets_the_compose_specification() -> None:
    schema = packaged_json("check_jsonschema", "builtin_schemas", "vendor", "compose-spec.json")
    jsonschema.validate(load("compose.yaml"), schema)


@pytest.mark.parametrize("name", RAY_MANIFESTS)
def test_kuberay_manifest_has_only_known_fields(name: str) -> None:
    schema = json.loads((Path(__file__).parent / "kuberay_fields.json").read_text())
    jsonschema.validate(load(f"kuberay/{name}"), schema)


@pytest.mark.parametrize("name", RAY_MANIFESTS)
def test_pod_templates_meet_kubernetes_schema(name: str) -> None:
    for template in pod_templates(name):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_volume_claim_meets_kubernetes_schema() -> None:
    kubernetes_validate.validate(load("kuberay/storage.yaml"), KUBERNETES, strict=True)


@pytest.mark.parametrize("name", RAY_MANIFESTS)
def test_mounts_name_volumes_that_exist(name: str) -> None:
    claim = load("kuberay/storage.yaml")["metadata"]["name"]
    for template in pod_templates(name):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert volumes["studies"]["persistentVolumeClaim"]["claimName"] == claim
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
            assert "/studies" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("name", RAY_MANIFESTS)
def test_workers_with_gpus_take_the_cuda_image(name: str) -> None:
    (gpu,) = [group for group in cluster_of(name)["workerGroupSpecs"] if group["groupName"] == "gpu"]
    (container,) = gpu["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["image"].endswith(":cuda")


@pytest.mark.parametrize("name", RAY_MANIFESTS)
def test_head_trains_nothing(name: str) -> None:
    assert cluster_of(name)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize("name", RAY_MANIFESTS)
def test_ray_version_is_the_pinned_one(name: str) -> None:
    assert cluster_of(name)["rayVersion"] == version("ray")


def test_token_authentication_is_on_everywhere() -> None:
    for name in RAY_MANIFESTS:
        assert cluster_of(name)["authOptions"] == {"mode": "token"}
    for service in load("compose.yaml")["services"].values():
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert ":?" in service["environment"]["RAY_AUTH_TOKEN"]  # compose refuses to start without one
    cluster = load("cluster.yaml")
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    for command in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]:
        assert "ray start" not in command or "RAY_AUTH_MODE=token" in command
    assert "export RAY_AUTH_MODE=token" in (DEPLOY / "slurm" / "t1t2.sbatch").read_text()
    assert re.search(r"^ENV RAY_AUTH_MODE=token\b", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


def test_nothing_switches_token_authentication_off_or_holds_a_token() -> None:
    for path in (path for path in DEPLOY.rglob("*") if path.is_file() and "studies" not in path.parts):
        text = path.read_text()
        assert not re.search(r"(RAY_AUTH_MODE|AUTH_MODE|mode)\s*[=:]\s*[\"']?disabled", text, re.IGNORECASE), path
        assert not re.search(r"\b[0-9a-f]{64}\b", text), f"{path} holds what looks like a token"


def test_ports_of_the_dashboard_are_published_to_this_machine_only() -> None:
    for service in load("compose.yaml")["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_dockerfile_copies_only_what_the_builder_is_sent() -> None:
    sent = set(re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    copied = set()
    for arguments in re.findall(r"^COPY (.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE):
        copied |= {word for word in arguments.split()[:-1] if not word.startswith("--")}
    assert copied == sent
    assert all((ROOT / path).exists() for path in copied)


def test_dockerfile_installs_nothing_that_is_not_pinned() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install[^;&\n]*", text)
    assert len(installs) == 4
    for install in installs:
        assert "--constraint constraints.txt" in install or "--no-deps" in install, install


def test_images_in_the_manifests_are_variants_that_the_dockerfile_builds() -> None:
    images = [c["image"] for name in RAY_MANIFESTS for t in pod_templates(name) for c in t["spec"]["containers"]]
    images.append(load("cluster.yaml")["docker"]["image"])
    assert {image.rpartition("/")[2] for image in images} <= {"t1t2:cpu", "t1t2:cuda"}
