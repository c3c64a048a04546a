"""`serve deploy serve/config.yaml` on a head of its own, as the README tells it."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml
from local_head import local_head
from shop_bundle import make_content, write

ROOT = Path(__file__).parents[2]


@pytest.mark.cluster
@pytest.mark.serving
def test_the_shipped_configuration_deploys_and_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    config = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    config["http_options"]["port"] = port
    (application,) = config["applications"]
    ledger = str(tmp_path / "ledger.db")
    application["runtime_env"] = {"env_vars": {"PROMO_RAY_LEDGER": ledger}}
    bundle = write(tmp_path / "models", make_content())
    application["deployments"][0]["user_config"] = {"bundle": bundle}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))

    monkeypatch.chdir(ROOT)
    url = f"http://127.0.0.1:{port}"
    with local_head(num_cpus=4) as head:
        serve = str(Path(sys.executable).parent / "serve")
        environment = {**os.environ, **head.env, "RAY_DASHBOARD_ADDRESS": head.dashboard}
        subprocess.run(
            [serve, "deploy", str(file)], env=environment, check=True, capture_output=True
        )

        def is_ready() -> bool:
            try:
                return httpx.get(url + "/readyz").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_ready, 90.0)
        decision = httpx.post(url + "/v1/decisions", json={"user_id": "u0000000"}).json()
        assert decision["offer"]["id"] == "ten_off"
        status = subprocess.run(
            [serve, "status"], env=environment, check=True, capture_output=True, text=True
        )
        application = yaml.safe_load(status.stdout)["applications"]["promo_ray"]
        assert application["deployments"]["decisions"]["replica_states"] == {"RUNNING": 2}
