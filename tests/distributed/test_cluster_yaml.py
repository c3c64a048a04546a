"""cluster.yaml against Ray's own schema, and against what the jobs rely on."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(CLUSTER.read_text(encoding="utf-8"))
    return loaded


def test_the_cluster_file_passes_the_schema_of_ray(config: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(config)))


def test_the_schema_refuses_a_misspelt_key(config: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuets"):
        validate_config(prepare_config({**copy.deepcopy(config), "idle_timeout_minuets": 5}))


def test_workers_scale_from_zero_to_a_limit(config: dict[str, Any]) -> None:
    types = config["available_node_types"]
    assert set(types) == {"head", "cpu_worker", "gpu_worker"}
    assert config["head_node_type"] == "head"
    assert types["head"]["resources"]["CPU"] == types["head"]["max_workers"] == 0
    for name in ("cpu_worker", "gpu_worker"):
        assert types[name]["min_workers"] == 0
        assert 1 <= types[name]["max_workers"] <= config["max_workers"]
        assert types[name]["resources"]["CPU"] >= 1
    assert types["gpu_worker"]["resources"]["GPU"] >= 1
    assert "GPU" not in types["cpu_worker"]["resources"]
    assert 0 < config["idle_timeout_minutes"] <= 15


def test_the_cluster_is_closed_to_strangers(config: dict[str, Any]) -> None:
    starts = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    starts += [c for c in config["worker_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "0.0.0.0" not in CLUSTER.read_text(encoding="utf-8")
    assert "~/.ray/auth_token" in config["file_mounts"]


def test_nodes_install_the_project_on_the_ray_of_the_constraints(config: dict[str, Any]) -> None:
    assert config["file_mounts"]["~/promo_ray"] == "."
    installs = [c for c in config["setup_commands"] if "pip install" in c]
    assert len(installs) == 1
    assert "~/promo_ray/constraints.txt" in installs[0]
    images = [config["docker"]["head_image"], config["docker"]["worker_image"]]
    images.append(config["available_node_types"]["gpu_worker"]["docker"]["worker_image"])
    assert {image.rpartition("-py311-")[0] for image in images} == {"rayproject/ray:2.60.0"}
