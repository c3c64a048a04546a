"""Lifecycle plans and the settings of stage design, through the job on a small shop."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from promo_ray.artifacts import ArtifactStore
from promo_ray.artifacts.assignment import ASSIGNMENT
from promo_ray.artifacts.candidates import CANDIDATES
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.artifacts.offer_set import OFFER_SET
from promo_ray.artifacts.plan_set import PLAN_SET
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.cli.job import JobOptions, run_job
from promo_ray.design import Channel, Constraints, MenuSpace, Sample, offer_grid
from promo_ray.design.plans import holdout_of, plans_of
from promo_ray.offers import Offer, check_offers
from promo_ray.pipeline.design import money_per_user

PLANS: dict[str, Any] = {
    "welcome": {
        "audience": [{"column": "tenure_days", "below": 150}],
        "mechanics": ["amount_off", "spend_threshold", "free_shipping"],
        "shipping": [{"fee": 4.9}, {"fee": 4.9, "threshold": 60}],
    },
    "win_back": {"holdout_rate": 0.2, "budget": 300},
    "member": None,
    "nobody": {
        "goal": "x", "metric": "margin", "goal_days": 7, "mechanics": ["percent_off"],
        "audience": [{"column": "frequency", "below": -1}],
    },
}  # fmt: skip


class Job:
    """A campaign's directory with the artefacts of the stages before design."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.out, self.settings = out, settings
        self.store = ArtifactStore(str(out))

    def run(self, *stages: str, **changes: Any) -> int:
        config = self.out.parent / f"{self.out.name}.yaml"
        own = {**self.settings, **changes, "out": str(self.out)}
        config.write_text(yaml.safe_dump(own, sort_keys=False))
        return run_job("job", stages, JobOptions(config=str(config), is_local=True))

    def design(self, *stages: str, **design: Any) -> int:
        return self.run("design", *stages, design={**self.settings["design"], **design})


@pytest.fixture
def job(small_run: Path, small_settings: dict[str, Any], tmp_path: Path) -> Job:
    shutil.copytree(small_run, tmp_path / "run")
    return Job(tmp_path / "run", small_settings)


def test_a_campaign_with_plans_gives_one_document_per_plan(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.run("plans", "evaluate", plans=PLANS) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["metrics"]["plans"] == {"n_plans": 3, "n_left_out": 1}
    found = job.store.read(PLAN_SET)
    index = found.json("plans")
    assert index["plans"] == ["welcome", "win_back", "member"]
    (left_out,) = index["skipped"]
    assert left_out["plan"] == "nobody"
    assert left_out["why"].startswith("nobody is in its audience")
    rows = found.table("members").to_pylist()
    offers: list[Offer] = []
    for name in index["plans"]:
        document, plan = found.json(f"plan-{name}"), plans_of(PLANS | {"member": {}})[name]
        own = [row for row in rows if row["plan"] == name]
        executable = [Offer.from_mapping(o) for o in document["executable"]]
        offers += executable
        measured, given = document["measurement"], Counter(row["offer_id"] for row in own)
        assert document["n_audience"] == len(own) == len({row["user_id"] for row in own})
        assert measured["n_holdout"] == sum(row["is_held_out"] for row in own)
        assert measured["detectable"] > 0
        rule = holdout_of(name, plan)
        assert all(row["is_held_out"] == rule.holds_out(row["user_id"], "") for row in own)
        assert all(row["offer_id"] is None for row in own if row["is_held_out"])
        assert [given[o.id] for o in executable] == document["n_of_offer"]
        assert sum(document["n_of_offer"]) + document["n_without_offer"] == measured["n_treated"]
        assert {o.audience.user_ids_ref for o in executable} == {
            f"plan {name}: {o.id}" for o in executable
        }
        assert document["guardrails"]["enforced"]
    check_offers(offers)
    assert found.json("plan-win_back")["budget"] == 300
    page = (job.out / "evaluation" / "report.html").read_text()
    for words in ("Lifecycle plans", "Win back", "Nobody was left out", "For people to see to"):
        assert words in page


def test_a_user_is_in_the_first_plan_alone_that_is_made(job: Job) -> None:
    own = {"goal": "x", "metric": "margin", "goal_days": 7, "mechanics": ["percent_off"]}
    left_out = own | {"mechanics": ["free_shipping"], "shipping": [{"fee": 4.9}]}
    design = {**job.settings["design"], "constraints": {"mechanics": ["percent_off"]}}
    plans = {"none": left_out, "member": {}, "all": own | {"holdout_rate": 0.3}, "again": own}
    assert job.run("plans", "evaluate", plans=plans, design=design) == 0
    found = job.store.read(PLAN_SET)
    assert [(s["plan"], s["why"][:7]) for s in found.json("plans")["skipped"]] == [
        ("none", "none of"), ("again", "nobody ")
    ]  # fmt: skip
    rows = found.table("members").to_pylist()
    assert max(Counter(row["user_id"] for row in rows).values()) == 1
    n = Counter(row["plan"] for row in rows)
    elsewhere = {p: found.json(f"plan-{p}")["n_in_earlier_plans"] for p in ("member", "all")}
    assert elsewhere == {"member": 0, "all": n["member"]}
    page = (job.out / "evaluation" / "report.html").read_text()
    assert f"All: {n['member']} more users whom its rules hold for" in page


def test_audiences_follow_rules_on_profiles_attributes_and_history(job: Job) -> None:
    table = job.store.read(USER_PROFILES).table("user_profiles")
    item = job.store.read(CATALOG).table("catalog")["item_id"][0].as_py()
    affine = {"audience": [{"column": "affinity", "at_least": 0.0}], "items": [item]}
    own = {"goal": "x", "metric": "margin", "goal_days": 7, "mechanics": ["percent_off"]}
    members = []
    for plans in ({"member": {}}, {"about": own | affine}):
        assert job.run("plans", plans=plans) == 0
        members += job.store.read(PLAN_SET).table("members").to_pylist()
    users = job.store.read(USERS).table("users")
    is_member = users.filter(pc.greater(users["attr_is_member"], 0))["user_id"].to_pylist()
    assert [r["user_id"] for r in members if r["plan"] == "member"] == is_member
    buyers = table.filter(pc.greater(table["frequency"], 0))["user_id"].to_pylist()
    assert [r["user_id"] for r in members if r["plan"] == "about"] == buyers


@pytest.mark.parametrize(
    ("plans", "words"),
    [
        ({"member": {"audience": [{"column": "colour", "is_in": ["red"]}]}}, "'colour'"),
        ({"member": {"audience": [{"column": "segment", "below": 2}]}}, "must hold numbers"),
        ({"member": {"mechanics": ["fixed_price"]}}, "plans.member"),
        ({"new_product": {}}, "plans.new_product.items must name what 'affinity' is about"),
        ({"new_product": {"items": ["none"]}}, "must be items of the catalog; got 'none'"),
        ({"Bad name": {}}, "name of a plan"),
        ([1], "plans must be a section"),
        ({}, "plans must name at least one plan"),
    ],
)
def test_bad_plans_give_one_line_and_exit_code_2(
    plans: Any, words: str, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.run("plans", plans=plans) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
    assert len(lines) == 1
    assert words in lines[0]


def test_plans_taken_from_the_config_leave_nothing_behind(job: Job) -> None:
    assert job.run("plans", "evaluate", plans={"member": {}}) == 0
    assert job.run("plans", "evaluate") == 0
    assert not job.store.find(PLAN_SET)
    assert "Lifecycle plans" not in (job.out / "evaluation" / "report.html").read_text()


def test_offers_for_a_segment_go_to_its_users_alone(job: Job) -> None:
    segments = {
        "often": [{"column": "segment", "is_in": ["high_frequency"]}],
        "members": [{"column": "attr_is_member", "at_least": 1}],
    }
    assert job.design("allocate", "evaluate", "bundle", segments=segments) == 0
    variants = job.store.read(OFFER_SET).json("variants")
    offers = job.store.read(OFFER_SET).table("offers").to_pylist()
    assert all(f"for {v['segment']}" in o["label"] for v, o in zip(variants, offers, strict=True))
    profiles, users = (
        job.store.read(kind).table(name)
        for kind, name in ((USER_PROFILES, "user_profiles"), (USERS, "users"))
    )
    inside = {
        "often": np.array(profiles["segment"].to_pylist()) == "high_frequency",
        "members": users["attr_is_member"].to_numpy() > 0,
    }
    value = np.array(job.store.read(CANDIDATES).table("candidates")["value"].to_pylist())
    for j, variant in enumerate(variants):
        assert np.array_equal(np.isfinite(value[:, j]), inside[variant["segment"]])
    slots = job.store.read(ASSIGNMENT).table("assignment")["slot"].to_numpy()
    assert (slots >= 0).any()
    assert not (slots >= 0)[~inside["often"] & ~inside["members"]].any()
    estimates = json.loads((job.out / "evaluation" / "estimates.json").read_text())
    share = estimates["policies"]["policy"]["offered_share"]
    assert 0 < share <= np.mean(inside["often"] | inside["members"]) + 1e-9


def test_the_values_of_a_column_can_be_the_segments(job: Job) -> None:
    assert job.design(segments="segment") == 0
    found = {v["segment"] for v in job.store.read(OFFER_SET).json("variants")}
    assert found <= {"new", "high_frequency", "low_frequency", "lapsing", "lapsed", "member"}


def test_windows_and_channels_cost_what_they_say(job: Job) -> None:
    windows = [{"name": "at weekends", "share": 0.4, "weekdays": ["sat", "sun"]}]
    channels = [
        {"name": "letter", "contact_cost": 0.8},
        {"name": "app", "reach": [{"column": "attr_is_member", "at_least": 1}]},
    ]
    plain = {o["offer_id"]: o for o in job.store.read(OFFER_SET).table("offers").to_pylist()}
    assert job.design("allocate", "evaluate", windows=windows, channels=channels) == 0
    menu = job.store.read(OFFER_SET)
    offers = menu.json("offers")
    assert offers
    for offer, variant in zip(offers, menu.json("variants"), strict=True):
        assert offer["window"]["weekdays"] == ["sat", "sun"]
        assert offer["audience"]["channels"] == [variant["channel"]]
        base = plain.get(variant["base_id"])
        extra = 0.8 if variant["channel"] == "letter" else 0.0
        if base:
            assert offer.get("contact_cost", 0) == round(100 * (base["contact_cost"] + extra))
        assert (variant["share"], variant["is_tried"]) == (0.4, False)
    checks = json.loads((job.out / "evaluation" / "checks.json").read_text())
    assert [c["name"] for c in checks if not c["passed"]] == ["tried_offers"]


def test_a_wide_grid_reaches_beyond_what_was_tried(job: Job) -> None:
    wide = {"steps": {"depth_rates": [0.07, 0.45], "amount_rates": [0.1]}, "n_bundles": 2}
    assert job.design(support="wide", wide=wide) == 0
    search = job.store.read(OFFER_SET).json("search")
    assert not all(search["is_tried"])
    assert search["n_menus"] > 1_000
    guarded = {"support": "between"}
    assert job.design(support="wide", wide=wide, constraints=guarded) == 0
    assert all(job.store.read(OFFER_SET).json("search")["is_between"])


@pytest.mark.slow
def test_robustness_promises_less(job: Job) -> None:
    promised = []
    for robustness in (0.0, 2.0):
        assert job.design(robustness=robustness, n_refits=2, enumerate_up_to=1_000) == 0
        promised.append(job.store.read(OFFER_SET).json("search")["judged"]["value"])
    assert promised[1] < promised[0]


@pytest.mark.parametrize(
    ("design", "words"),
    [
        ({"segments": {"none": [{"column": "frequency", "below": -1}]}}, "audience is empty"),
        ({"segments": {"everyone": [{"column": "frequency", "below": 2}]}}, "must have no rule"),
        ({"segments": "user_id"}, "1 to 32 values"),
        ({"segments": "colour"}, "'colour'"),
        ({"windows": [{"name": "a", "share": 0.0}]}, "share"),
        ({"windows": [{"name": "a", "share": 1.0, "weekdays": ["Sunday"]}]}, "weekdays"),
        ({"channels": [{"name": "a"}, {"name": "a"}]}, "design.channels must have a name"),
        ({"segments": "segment", "today": ["past-1"]}, "design.today must be empty"),
        ({"support": "wide", "wide": {"scopes": ["NoSuch"]}}, "design.wide.scopes must be"),
        ({"segments": {"x": [{"column": "frequency", "belo": 1}]}}, "belo"),
        ({"segments": {"x": [{"column": "protected_age", "below": 1}]}}, "protected_"),
        ({"segments": {"x": [{"column": "frequency"}]}}, "must have at_least"),
        ({"segments": 3}, "a column of profiles, or rules by name; got 3"),
        (
            {"channels": [{"name": "b", "reach": [{"column": "nope", "below": 1}]}]},
            "design.channels.b.reach",
        ),
        ({"support": "wide", "today": ["past-1"]}, "design.today must name candidates"),
        ({"constraints": {"mechanics": ["nope"]}}, "constraints.mechanics must be of"),
        ({"fixed_cost": -5}, "fixed_cost"),
        ({"fixed_cost": float("nan")}, "fixed_cost"),
    ],
)
def test_bad_settings_of_the_menu_give_one_line(
    design: dict[str, Any], words: str, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.design(**design) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
    assert len(lines) == 1
    assert words in lines[0]


def test_the_menu_and_the_plans_are_designed_under_the_contacts_there_are(job: Job) -> None:
    plans = {"member": {"budget_rate": 0.3}}
    assert job.run("design", "plans", plans=plans, allocate={"contact_rate": 0.02}) == 0
    budgets = job.store.read(OFFER_SET).json("search")["judged"]["budgets"]
    assert [row["name"] for row in budgets] == ["budget", "contacts"]
    assert 0 < budgets[1]["spend"] <= 0.02
    found = job.store.read(PLAN_SET)
    document = found.json("plan-member")
    n_treated = document["n_audience"] - document["measurement"]["n_holdout"]
    assert 0 < sum(document["n_of_offer"]) <= 0.02 * n_treated


def test_a_rate_is_of_what_the_best_offer_allowed_costs_on_its_axes() -> None:
    base = {**dict.fromkeys(OFFER_TERMS.names), "contact_cost": 0.0, "label": ""}
    rows = [
        {**base, "offer_id": "a", "mechanic": "percent_off", "depth_rate": 0.1},
        {**base, "offer_id": "b", "mechanic": "amount_off", "amount": 5.0},
    ]
    grid = offer_grid(pa.Table.from_pylist(rows, schema=OFFER_TERMS))
    rules = Constraints(mechanics=("percent_off",))
    space = MenuSpace(grid, 1, channels=(Channel("letter", 3.0),), constraints=rules)
    sample = Sample(np.array([[1.0, 9.0]] * 4), np.array([[4.0, 8.0]] * 4))
    assert money_per_user(None, 0.5, 4, space, sample) == 2.0
    assert money_per_user(6.0, None, 4, space, sample) == 1.5
