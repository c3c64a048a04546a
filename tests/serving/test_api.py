"""Contract of the HTTP service, in process."""

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from shop_bundle import make_content, write
from starlette.types import Message

from promo_ray.decisions import Ledger
from promo_ray.decisions.api import build_app, create_app
from promo_ray.decisions.edge import Limits, check_exposure
from promo_ray.decisions.schemas import DecisionBatchOut, DecisionOut
from promo_ray.decisions.service import DecisionService
from promo_ray.errors import ArtifactError, ConfigError

PROBLEM = "application/problem+json"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    uri = write(tmp_path / "models", make_content())
    limits = Limits(max_body_bytes=100_000, body_timeout_s=5.0)
    with TestClient(create_app(uri, tmp_path / "l.db", limits=limits)) as client:
        yield client


def decide(client: TestClient, user_id: str = "u0000000", **headers: str) -> dict[str, Any]:
    answer = client.post("/v1/decisions", json={"user_id": user_id}, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def assert_problem(answer: Any, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    body = dict(answer.json())
    assert body["type"] == f"urn:promo-ray:problem:{kind}"
    assert body["status"] == status
    assert body["instance"].endswith(answer.headers["x-request-id"])
    return body


def test_a_decision_follows_its_schema_and_can_be_read_back(client: TestClient) -> None:
    told = decide(client)
    DecisionOut.model_validate(told)
    assert told["offer"]["id"] == "ten_off"
    back = client.get(f"/v1/decisions/{told['decision_id']}").json()
    assert back.pop("feedback") == {}
    assert back["reservation"].pop("state") == "open"
    assert back == told


def test_a_batch_answers_in_order_and_unknown_users_get_no_offer(client: TestClient) -> None:
    users = ["u0000001", "nobody", "u0000000"]
    answer = client.post("/v1/decisions:batch", json={"requests": [{"user_id": u} for u in users]})
    decisions = DecisionBatchOut.model_validate(answer.json()).decisions
    assert [d.offer["id"] if d.offer else d.no_offer_reason for d in decisions] == [
        "two_off",
        "unknown_user",
        "ten_off",
    ]


def test_feedback_confirms_what_was_shown_and_is_counted_once(client: TestClient) -> None:
    told = decide(client)
    event = {"event_id": "e1", "decision_id": told["decision_id"], "type": "shown"}
    at = {"occurred_at": "2026-11-22T10:00:00+01:00"}
    answers = [client.post("/v1/feedback", json=event | at).json() for _ in range(2)]
    assert answers == [{"status": "recorded"}, {"status": "duplicate"}]
    other = client.post("/v1/feedback", json=event | {"type": "click"})
    assert_problem(other, 409, "conflict")
    back = client.get(f"/v1/decisions/{told['decision_id']}").json()
    assert (back["reservation"]["state"], back["feedback"]) == ("confirmed", {"shown": 1})
    events = [event | {"event_id": f"b{i}", "decision_id": d} for i, d in enumerate(["x", "y"])]
    batch = client.post("/v1/feedback:batch", json={"events": [*events, events[0]]})
    assert batch.json() == {"statuses": ["pending", "pending", "duplicate"]}


def test_an_idempotency_key_names_one_request(client: TestClient) -> None:
    key = {"Idempotency-Key": "k1"}
    assert decide(client, **key) == decide(client, **key)
    other = client.post("/v1/decisions", json={"user_id": "u0000001"}, headers=key)
    assert_problem(other, 409, "conflict")
    many = {"requests": [{"user_id": "u0000000"}, {"user_id": "u0000001"}]}
    batches = [client.post("/v1/decisions:batch", json=many, headers=key).json() for _ in "ab"]
    assert batches[0] == batches[1]
    fewer = {"requests": many["requests"][:1]}
    assert_problem(client.post("/v1/decisions:batch", json=fewer, headers=key), 409, "conflict")


def test_pausing_stops_offers_until_resumed(client: TestClient) -> None:
    paused = client.post("/v1/campaigns/spring:pause").json()
    assert paused == {"campaign": "spring", "is_paused": True}
    assert decide(client)["no_offer_reason"] == "campaign_paused"
    client.post("/v1/campaigns/spring:resume")
    assert decide(client)["offer"]
    assert_problem(client.post("/v1/campaigns/other:pause"), 404, "not-found")


def test_an_erased_user_s_decision_is_gone(client: TestClient) -> None:
    told = decide(client)
    assert client.delete("/v1/users/u0000000").json() == {"n_decisions": 1}
    assert_problem(client.get(f"/v1/decisions/{told['decision_id']}"), 404, "not-found")
    assert decide(client)["no_offer_reason"] == "unknown_user"
    assert client.delete("/v1/users/a%2Fb").status_code == 200


BAD_BODIES: list[tuple[str, bytes, int, str, str]] = [
    ("/v1/decisions", b"{", 400, "malformed-json", ""),
    ("/v1/decisions", b"\xff\xfe", 400, "", ""),
    ("/v1/decisions", b"[" * 50_000, 400, "", ""),
    ("/v1/decisions", b"[]", 422, "invalid-request", "#"),
    ("/v1/decisions", b"null", 422, "invalid-request", "#"),
    ("/v1/decisions", b"{}", 422, "invalid-request", "#/user_id"),
    ("/v1/decisions", b'{"user_id": 3}', 422, "invalid-request", "#/user_id"),
    ("/v1/decisions", b'{"user_id": NaN}', 422, "invalid-request", "#/user_id"),
    ("/v1/decisions", b'{"user_id": ""}', 422, "invalid-request", "#/user_id"),
    ("/v1/decisions", b'{"user_id": "a\\u0000"}', 422, "invalid-request", "#/user_id"),
    ("/v1/decisions", b'{"user_id": "\\ud800"}', 422, "invalid-request", "#/user_id"),
    ("/v1/decisions", b'{"user_id": "a", "x/~": 1}', 422, "invalid-request", "#/x~1~0"),
    ("/v1/decisions", b'{"user_id": "a", "\\ud800": 1}', 422, "invalid-request", "#"),
    ("/v1/decisions", '{"user_id": "a", "ü": 1}'.encode(), 422, "invalid-request", "#/ü"),
    ("/v1/decisions", b'{"user_id": "a", "consent": "yes"}', 422, "invalid-request", "#/consent"),
    ("/v1/decisions:batch", b'{"requests": []}', 422, "invalid-request", "#/requests"),
    (
        "/v1/decisions:batch",
        b'{"requests": [{"user_id": "a"}, {}]}',
        422,
        "invalid-request",
        "#/requests/1/user_id",
    ),
    (
        "/v1/feedback",
        b'{"event_id": "e", "decision_id": "d", "type": "stolen"}',
        422,
        "invalid-request",
        "#/type",
    ),
    (
        "/v1/feedback",
        b'{"event_id": "e", "decision_id": "d", "type": "redeem", "value": 1e308}',
        422,
        "invalid-request",
        "#/value",
    ),
    (
        "/v1/feedback",
        b'{"event_id": "e", "decision_id": "d", "type": "shown", "occurred_at": "1 May"}',
        422,
        "invalid-request",
        "#/occurred_at",
    ),
    (
        "/v1/feedback",
        b'{"event_id": "\\ud800", "decision_id": "d", "type": "shown"}',
        422,
        "invalid-request",
        "#/event_id",
    ),
]


@pytest.mark.parametrize(("path", "raw", "status", "kind", "pointer"), BAD_BODIES)
def test_bad_bodies_are_problems_that_point_at_the_field(
    client: TestClient, path: str, raw: bytes, status: int, kind: str, pointer: str
) -> None:
    answer = client.post(path, content=raw, headers={"content-type": "application/json"})
    body = assert_problem(answer, status, kind or answer.json()["type"].rpartition(":")[2])
    if pointer:
        assert pointer in [error["pointer"] for error in body["errors"]]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NAMES = st.sampled_from(
    ["user_id", "consent", "requests", "events", "event_id", "decision_id", "type", "value"]
)
BODIES = st.recursive(
    SCALARS | st.sampled_from(["u0000000", "shown", "redeem"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=4), inner),
    max_leaves=8,
)


@given(
    path=st.sampled_from(["decisions", "decisions:batch", "feedback", "feedback:batch"]),
    body=BODIES,
    key=st.none() | st.text("kK/ -", max_size=3),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_json_makes_the_service_fail(
    client: TestClient, path: str, body: object, key: str | None
) -> None:
    raw = json.dumps(body).encode()
    headers = {"content-type": "application/json"} | ({"idempotency-key": key} if key else {})
    answer = client.post(f"/v1/{path}", content=raw, headers=headers)
    assert answer.status_code in (200, 400, 409, 422)
    wanted = "application/json" if answer.status_code == 200 else PROBLEM
    assert answer.headers["content-type"] == wanted
    answer.json()


def test_a_body_over_the_limit_is_refused_whether_it_tells_its_length_or_not(
    client: TestClient,
) -> None:
    raw = b"x" * 100_001
    assert_problem(client.post("/v1/decisions", content=raw), 413, "body-too-large")
    chunks = client.post("/v1/decisions", content=(raw[i::3] for i in range(3)))
    assert_problem(chunks, 413, "body-too-large")


def test_a_body_that_does_not_come_is_cut(tmp_path: Path) -> None:
    uri = write(tmp_path / "models", make_content())
    app = create_app(uri, tmp_path / "l.db", limits=Limits(body_timeout_s=0.05))
    sent: list[Message] = []

    async def half_a_body() -> Message:
        if sent:
            return {"type": "http.disconnect"}
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def keep(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/decisions",
        "headers": [],
        "query_string": b"",
    }
    with TestClient(app):
        asyncio.run(app(scope, half_a_body, keep))
    assert [m.get("status") for m in sent] == [408, None]


def test_unknown_paths_and_methods_are_problems(client: TestClient) -> None:
    assert_problem(client.get("/v2/decisions"), 404, "not-found")
    assert_problem(client.get("/v1/decisions"), 405, "method-not-allowed")
    assert_problem(client.get("/v1/decisions/nope"), 404, "not-found")


def test_the_request_id_is_echoed_if_it_is_harmless_and_made_otherwise(
    client: TestClient,
) -> None:
    good = client.get("/healthz", headers={"X-Request-ID": "abc-1:2.3_4"})
    assert good.headers["x-request-id"] == "abc-1:2.3_4"
    for bad in ("a b", "x" * 129, "<script>"):
        made = client.get("/healthz", headers={"X-Request-ID": bad}).headers["x-request-id"]
        assert uuid.UUID(made)


def test_a_token_guards_all_but_health_and_the_api_document(tmp_path: Path) -> None:
    uri = write(tmp_path / "models", make_content())
    with TestClient(create_app(uri, tmp_path / "l.db", "secret", host="0.0.0.0")) as client:
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert client.get(path).status_code == 200
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            for path in ("/v1/models", "/metrics", "/v1/decisions/x"):
                answer = client.get(path, headers=header)
                assert_problem(answer, 401, "unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"
        good = {"Authorization": "Bearer secret"}
        assert client.get("/v1/models", headers=good).status_code == 200
        assert decide(client, **good)["offer"]


def test_only_loopback_addresses_do_without_a_token(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        check_exposure(host, None)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.com", ""):
        with pytest.raises(ConfigError, match="PROMO_RAY_SERVE_TOKEN"):
            check_exposure(host, None)
        check_exposure(host, "secret")
    with pytest.raises(ConfigError):
        create_app("nowhere", tmp_path / "l.db", host="0.0.0.0")
    assert not list(tmp_path.iterdir())


def test_a_missing_bundle_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="decision_bundle"):
        create_app(str(tmp_path / "nowhere"), tmp_path / "l.db")


def test_without_a_bundle_the_process_lives_but_is_not_ready(tmp_path: Path) -> None:
    with TestClient(build_app(DecisionService(tmp_path / "l.db"))) as client:
        assert client.get("/healthz").status_code == 200
        for answer in (
            client.get("/readyz"),
            client.post("/v1/decisions", json={"user_id": "a"}),
            client.get("/v1/models"),
        ):
            assert_problem(answer, 503, "not-ready")
            assert answer.headers["retry-after"] == "1"


def test_an_unavailable_ledger_is_503_and_grants_nothing(tmp_path: Path) -> None:
    service = DecisionService(tmp_path / "l.db")
    service.configure(write(tmp_path / "models", make_content()))
    with TestClient(build_app(service)) as client:
        decide(client)
        service.ledger.close()
        event = {"event_id": "e", "decision_id": "d", "type": "shown"}
        for answer in (
            client.post("/v1/decisions", json={"user_id": "u0000000"}),
            client.post("/v1/feedback", json=event),
            client.get("/readyz"),
        ):
            assert_problem(answer, 503, "ledger-unavailable")
            assert answer.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 200
    with Ledger(tmp_path / "l.db") as ledger:
        assert ledger.count_decisions() == 1


def test_metrics_tell_budgets_and_requests_and_name_no_user(client: TestClient) -> None:
    told = decide(client)
    client.get("/v1/decisions/nope")
    text = client.get("/metrics").text
    held = told["reservation"]["amounts"]["main"]
    line = 'promo_ray_budget_minor_units{budget="main",campaign="spring",part="reserved"}'
    assert f"{line} {float(held)}" in text
    assert 'promo_ray_decisions_total{campaign="spring",outcome="granted"} 1.0' in text
    assert 'route="/v1/decisions/{decision_id}",status="404"' in text
    assert "u0000000" not in text
    assert told["decision_id"] not in text


def test_the_api_document_describes_every_path(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/decisions",
        "/v1/decisions:batch",
        "/v1/decisions/{decision_id}",
        "/v1/feedback",
        "/v1/feedback:batch",
        "/v1/users/{user_id}",
        "/v1/campaigns/{campaign}:pause",
        "/v1/campaigns/{campaign}:resume",
        "/v1/models",
        "/v1/models/{version}:activate",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_models_are_listed_and_swapped_and_a_damaged_one_is_refused(
    client: TestClient, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    write(root, make_content(policy_version="p2"), "v2")
    damaged = Path(write(root, make_content(policy_version="p3"), "v3")) / "users.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (root / "v4" / "decision_bundle").mkdir(parents=True)
    models = client.get("/v1/models").json()["models"]
    assert [(m["version"], m["is_active"]) for m in models] == [
        ("v1", True),
        ("v2", False),
        ("v3", False),
    ]
    swapped = client.post("/v1/models/v2:activate").json()
    assert (swapped["policy_version"], swapped["is_active"]) == ("p2", True)
    assert_problem(client.post("/v1/models/v3:activate"), 409, "bundle-refused")
    for name in ("v4", "nope", "..", "%2e%2e"):
        assert client.post(f"/v1/models/{name}:activate").status_code in (404, 405)
    assert decide(client)["policy"]["policy_version"] == "p2"
    client.post("/v1/models/v1:activate")
    assert decide(client)["policy"]["policy_version"] == "p1"


def test_no_request_fails_and_none_is_mixed_while_bundles_are_swapped(
    client: TestClient, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    for version in ("v1", "v2"):
        write(root, make_content(policy_version=version, model_version=f"m-{version}"), version)
    client.post("/v1/models/v1:activate")
    faults: list[str] = []
    seen: list[tuple[str, str]] = []
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            answer = client.post("/v1/decisions", json={"user_id": "u0000000"})
            if answer.status_code != 200:
                faults.append(answer.text)
                return
            policy = answer.json()["policy"]
            seen.append((policy["policy_version"], policy["model_version"]))

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in ("v2", "v1") * 5:
        assert client.post(f"/v1/models/{version}:activate").json()["is_active"]
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults
    assert set(seen) == {("v1", "m-v1"), ("v2", "m-v2")}


def test_processes_on_one_ledger_follow_an_activation_and_a_restart_keeps_it(
    tmp_path: Path,
) -> None:
    root = tmp_path / "models"
    first = write(root, make_content(), "v1")
    write(root, make_content(policy_version="p2"), "v2")

    def versions(*services: DecisionService) -> list[str]:
        return [s.decider.bundle.policy.policy_version for s in services]

    one, two = (DecisionService(tmp_path / "l.db") for _ in range(2))
    one.configure(first)
    two.configure(first)
    one.activate("v2")
    end = time.monotonic() + 10
    while versions(one, two) != ["p2", "p2"] and time.monotonic() < end:
        time.sleep(0.05)
    assert versions(one, two) == ["p2", "p2"]
    two.close()
    again = DecisionService(tmp_path / "l.db")
    again.configure(first)
    assert versions(again) == ["p2"]
    again.configure(str(root / "v2"))
    again.configure(first)
    assert versions(again) == ["p1"]
    again.close()
    one.close()
