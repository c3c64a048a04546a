"""The service on Ray Serve: the shipped configuration, two replicas, swap by configuration."""

import importlib
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml
from shop_bundle import make_content, write

from promo_ray.decisions import Ledger
from promo_ray.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_the_shipped_configuration_is_valid_and_safe() -> None:
    from ray.serve.schema import ServeDeploySchema

    text = (ROOT / "serve" / "config.yaml").read_text()
    plain = yaml.safe_load(text)
    schema = ServeDeploySchema.model_validate(plain)
    assert schema.http_options.host == "127.0.0.1"
    (application,) = schema.applications
    assert (application.import_path, application.route_prefix) == ("serve.app:app", "/")
    (deployment,) = application.deployments
    assert deployment.num_replicas == 2
    assert deployment.user_config == {"bundle": "runs/demo/decision_bundle"}
    # Ray ignores keys that it does not know
    assert set(plain) <= set(ServeDeploySchema.model_fields)
    assert set(plain["http_options"]) <= set(type(schema.http_options).model_fields)
    assert set(plain["applications"][0]) <= set(type(application).model_fields)
    assert set(plain["applications"][0]["deployments"][0]) <= set(type(deployment).model_fields)


def test_a_replica_that_others_could_reach_needs_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    module = importlib.import_module("serve.app")
    monkeypatch.setattr(module, "_http_host", lambda: "0.0.0.0")
    monkeypatch.delenv("PROMO_RAY_SERVE_TOKEN", raising=False)
    replica = module.Decisions.func_or_class.__mro__[1]  # the class under Serve's wrapper
    with pytest.raises(ConfigError, match="PROMO_RAY_SERVE_TOKEN"):
        replica(str(tmp_path / "l.db"))
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.serving
def test_two_replicas_share_a_budget_and_swap_without_a_failed_request(
    serve_app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:  # fmt: skip
    from ray import serve

    monkeypatch.syspath_prepend(str(ROOT))
    replica = importlib.import_module("serve.app").Decisions
    bundles = [
        write(tmp_path / "models", make_content(policy_version=v, budgets=(20.0,)), v)
        for v in ("v1", "v2")
    ]
    ledger_path = tmp_path / "ledger.db"

    def deploy(bundle: str) -> None:
        options = {"user_config": {"bundle": bundle}, "ray_actor_options": {"num_cpus": 0.1}}
        app = replica.options(**options).bind(str(ledger_path))
        serve.run(app, name="promo_ray", route_prefix="/")

    deploy(bundles[0])
    answers: list[dict[str, object]] = []
    faults: list[str] = []
    stop = threading.Event()

    def hammer(worker: int) -> None:
        with httpx.Client(base_url=serve_app, timeout=30) as client:
            while not stop.is_set():
                user_id = f"u{(len(answers) * 7 + worker) % 60:07d}"
                answer = client.post("/v1/decisions", json={"user_id": user_id})
                if answer.status_code != 200:
                    faults.append(answer.text)
                    return
                answers.append(answer.json())

    threads = [threading.Thread(target=hammer, args=(w,)) for w in range(3)]
    for thread in threads:
        thread.start()
    stop.wait(1.0)
    deploy(bundles[1])
    stop.wait(1.0)
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults
    assert {a["policy"]["policy_version"] for a in answers} == {"v1", "v2"}  # type: ignore[index]
    statuses = serve.status().applications["promo_ray"].deployments["decisions"]
    assert statuses.replica_states == {"RUNNING": 2}
    with Ledger(ledger_path) as ledger:
        assert ledger.count_decisions() == len(answers)
        used = ledger.budgets("spring")[0]
        held = [a["reservation"]["amounts"]["main"] for a in answers if a["reservation"]]  # type: ignore[index]
        assert sum(held) == used.reserved <= used.total == 2000

    httpx.post(f"{serve_app}/v1/campaigns/spring:pause").raise_for_status()
    for _ in range(8):
        answer = httpx.post(f"{serve_app}/v1/decisions", json={"user_id": "u0000000"})
        assert answer.json()["no_offer_reason"] == "campaign_paused"

    httpx.post(f"{serve_app}/v1/models/v1:activate", timeout=30).raise_for_status()

    def all_follow() -> bool:
        batch = [httpx.post(f"{serve_app}/v1/decisions", json={"user_id": "x"}) for _ in range(8)]
        return {b.json()["policy"]["policy_version"] for b in batch} == {"v1"}

    wait_until(all_follow, 15.0)
