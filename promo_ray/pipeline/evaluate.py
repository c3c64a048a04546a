"""Stage evaluate: what the policy is worth, by whom it was judged, and the report."""

from __future__ import annotations

import time
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from promo_ray.artifacts.assignment import ASSIGNMENT
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.candidates import CANDIDATES
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.evaluation import CURVES, EVALUATION
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.offer_set import OFFER_SET
from promo_ray.artifacts.plan_set import PLAN_SET
from promo_ray.artifacts.price_plan import PRICE_PLAN
from promo_ray.artifacts.recommender import RECOMMENDER
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.config import config_class, resolve
from promo_ray.evaluation.calibration import Calibration, calibration
from promo_ray.evaluation.checks import Check, effective_sample, overlap
from promo_ray.evaluation.curves import qini, qini_curve, uplift_at
from promo_ray.evaluation.policy_value import PolicyEstimate, compare_policies
from promo_ray.evaluation.report import render_report
from promo_ray.evaluation.spend_curve import gain_curve
from promo_ray.evaluation.srm import sample_ratio
from promo_ray.pipeline.policies import Arms, Log, all_policies, open_to, read_log
from promo_ray.pipeline.report_content import report_content
from promo_ray.pipeline.scoring import design_of, is_money, limits_of
from promo_ray.pipeline.segments import gains_by_segment
from promo_ray.pipeline.stage import Context, StageResult, current, finished
from promo_ray.pipeline.truth import during, oracle, shop_of, spend, true_effects, worth
from promo_ray.response.orthogonal import aipw_scores

_INPUTS = (
    USERS,
    EVENTS,
    CATALOG,
    USER_PROFILES,
    CAMPAIGN_LOG,
    RESPONSE_MODEL,
    OFFER_SET,
    PLAN_SET,
    PRICE_PLAN,
    CANDIDATES,
    ASSIGNMENT,
    RECOMMENDER,
)


@config_class
class EvaluateConfig:
    """How results are judged and shown.

    Attributes:
        level: level of intervals.
        n_boot: bootstrap resamples of Qini and uplift, >= 0.
        title: title of the report.
        k_threshold: cells of the report with fewer users are not shown.
    """

    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    n_boot: Annotated[int, Field(ge=0)] = 100
    title: str = "Campaign report"
    k_threshold: Annotated[int, Field(ge=1)] = 20


class _Judged(NamedTuple):
    estimates: dict[str, Any]
    checks: list[Check]
    curves: list[dict[str, Any]]


def run(config: EvaluateConfig, context: Context) -> StageResult:
    """Write `evaluation` with `report.html`; without a trial the report says what is missing."""
    inputs = context.inputs(*_INPUTS)
    if context.is_current(EVALUATION, config, inputs):
        return current("evaluate", context, [EVALUATION])
    started = time.perf_counter()
    context.progress("evaluate", 0, 3)
    has_policy = context.has(RESPONSE_MODEL) and context.has(ASSIGNMENT)
    judged = _judge(config, context) if has_policy else _Judged({}, [], [])
    context.progress("evaluate", 2, 3)
    with context.store.write(
        EVALUATION, config=resolve(config), seed=context.seed, inputs=inputs
    ) as writer:
        checks = [c._asdict() for c in judged.checks]
        writer.json("estimates", judged.estimates)
        writer.json("checks", checks)
        writer.table("curves", pa.Table.from_pylist(judged.curves, schema=CURVES))
        content = report_content(
            context, config.title, config.k_threshold, judged.estimates, checks, judged.curves
        )
        writer.text("report.html", render_report(content))
        writer.metrics = _metrics(judged.estimates)
    context.progress("evaluate", 3, 3)
    return finished("evaluate", context, [EVALUATION], started)


def _metrics(estimates: dict[str, Any]) -> dict[str, Any]:
    if not estimates:
        return {}
    gain = estimates["policies"]["policy"]["against_none"]
    found = {name: gain[name] for name in ("value", "low", "high")}
    truth = estimates.get("truth") or {}
    return found | {k: truth[k] for k in ("served", "oracle", "oracle_share") if k in truth}


def _judge(config: EvaluateConfig, context: Context) -> _Judged:
    response = context.store.read(RESPONSE_MODEL)
    design, tried = design_of(context), response.table("offers")
    log = read_log(response.table("out_of_fold"), tried, is_money=is_money(design))
    limits = _limits(context, tried, log.user_ids)
    menu = np.array(limits["menu"], dtype=np.int64)
    if not len(menu):
        why = "no offer of the menu was ever tried, so the log cannot judge it"
        return _Judged({}, [Check("tried_offers", False, 1.0, 0.0, why)], [])
    policies = all_policies(log, menu, limits, context.seed)
    against = {
        name: {
            other: _compare(log, arms, policies[other], config.level)
            for other in policies
            if (other != name and "policy" in (name, other)) or other == "none" != name
        }
        for name, arms in policies.items()
        if name != "none"
    }
    context.progress("evaluate", 1, 3)
    main = against["policy"]["none"]
    spend = _spend(log, policies["policy"], tried, config.level)
    checks = [*_checks(log, design, main, limits), _spend_check(spend, limits)]
    scores = aipw_scores(log.arm, log.reward, log.propensity, log.q_hat)
    curves, measures, slope = _curves(log, menu, tried, scores, config, context.seed)
    estimates = {
        "unit": design["currency"] if is_money(design) else design["unit"],
        "level": config.level,
        "n": len(log.arm),
        "n_users": limits["n_users"],
        "n_arms": tried.num_rows + 1,
        "design": design,
        "estimator": "cross-fitted AIPW with logged propensities",
        "interval": f"{config.level:.0%} interval, skewness taken in, clustered by user",
        "policies": {
            name: {
                "offered_share": float((policies[name] > 0).mean()),
                **{f"against_{o}": _plain(e) for o, e in others.items()},
            }
            for name, others in against.items()
        },
        "spend": _plain(spend),
        "expected_per_user": limits["expected_per_user"],
        "untried_share": limits["untried_share"],
        "uplift": measures,
        "calibration": slope,
        "segments": gains_by_segment(context, log, policies["policy"], config.level),
        "is_proven": all(c.passed for c in checks) and main.low > 0,
        "truth": _truth(log, policies, limits, context),
    }
    return _Judged(estimates, checks, curves)


def _limits(context: Context, tried: pa.Table, log_users: list[str]) -> dict[str, Any]:
    """Budgets, capacities and the part of the menu that was tried."""
    assignment = context.store.read(ASSIGNMENT)
    solution = assignment.json("solution")
    tried_ids = tried["offer_id"].to_pylist()
    slots = assignment.table("assignment")["slot"].to_numpy()
    offer_ids = solution["offer_ids"]
    variants = limits_of(context)
    ids = [v.base_id if v.is_tried else None for v in variants] or offer_ids
    place = [tried_ids.index(i) if i in tried_ids else -1 for i in ids]
    is_untried = np.array([p < 0 for p in [*place, 0]])  # the last entry is slot -1: no offer
    capacity = assignment.manifest.config["capacity"]
    return {
        "n_users": len(slots),
        "budgets": solution["budgets"],
        "capacity": [capacity.get(i, np.inf) for i in tried_ids] if capacity else None,
        "menu_capacity": [capacity.get(i, np.inf) for i in offer_ids] if capacity else None,
        "menu": list(dict.fromkeys(p for p in place if p >= 0)),
        "is_open": open_to(context, variants, place, len(tried_ids), log_users),
        "share": np.array([v.share for v in variants]) if variants else None,
        "slots": slots,
        "offers": context.store.read(OFFER_SET).table("offers"),
        "expected_per_user": solution["value"] / max(1, len(slots)),
        "untried_share": float(is_untried[slots].mean()) if len(slots) else 0.0,
    }


def _compare(log: Log, one: Arms, two: Arms, level: float) -> PolicyEstimate:
    return compare_policies(
        one, two, log.arm, log.reward, log.propensity, q_hat=log.q_hat, method="dr",
        groups=log.user_ids, level=level,
    )  # fmt: skip


def _spend(log: Log, policy: Arms, tried: pa.Table, level: float) -> PolicyEstimate:
    """What the policy costs per user, discounts and contacts, by the log instead of the model."""
    contact = np.concatenate([[0.0], tried["contact_cost"].to_numpy()])
    nothing = np.zeros((len(log.arm), 1))
    return compare_policies(
        policy, np.zeros_like(policy), log.arm, log.given + contact[log.arm], log.propensity,
        q_hat=np.hstack([nothing, log.cost]), method="dr", groups=log.user_ids, level=level,
    )  # fmt: skip


def _spend_check(spend: PolicyEstimate, limits: dict[str, Any]) -> Check:
    planned = limits["budgets"][0] / limits["n_users"]
    text = (
        f"the log says that the plan costs {spend.value:.3g} per user "
        f"({spend.low:.3g} to {spend.high:.3g}); the budget is {planned:.3g}"
    )
    if spend.withheld:
        text = f"the log does not say what the plan costs: {spend.withheld}"
    passed = not spend.withheld and spend.low <= planned
    return Check("spend", passed or planned == 0, spend.value, planned, text)


def _plain(estimate: PolicyEstimate) -> dict[str, Any]:
    return {k: v if isinstance(v, str) else float(v) for k, v in estimate._asdict().items()}


def _checks(
    log: Log, design: dict[str, Any], main: PolicyEstimate, limits: dict[str, Any]
) -> list[Check]:
    n_arms = log.q_hat.shape[1]
    counts = np.bincount(log.arm, minlength=n_arms).astype(np.float64)
    weight = np.bincount(log.arm, weights=1.0 / log.propensity, minlength=n_arms)
    # n_a / sum(1 / p) estimates the share that the design meant for an arm, whatever came
    shares = counts / np.maximum(weight, 1e-12)
    is_known = bool(design["is_randomized"])
    text = "offers were assigned at random with known probabilities"
    if not is_known:
        text = "offers were not assigned at random: probabilities are estimated, bias may remain"
    untried = limits["untried_share"]
    return [
        Check("randomized", is_known, float(is_known), 1.0, text),
        sample_ratio(counts, shares),
        overlap(log.propensity),
        effective_sample(main),
        Check(
            "tried_offers", untried == 0, untried, 0.0,
            f"{untried:.1%} of users are meant to get an offer that was never tried",
        ),
    ]  # fmt: skip


def _curves(
    log: Log,
    menu: NDArray[np.int64],
    tried: pa.Table,
    scores: NDArray[np.float64],
    config: EvaluateConfig,
    seed: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, float]]:
    rows: list[dict[str, Any]] = []
    measures = []
    labels = tried["label"].to_pylist()
    for j in menu:
        inside = (log.arm == 0) | (log.arm == j + 1)
        data = (log.value[inside, j], (log.arm[inside] > 0).astype(np.int64), log.reward[inside])
        chance = log.propensity[inside]
        curve = qini_curve(*data, propensity=chance)
        keep = np.unique(np.linspace(0, len(curve.x) - 1, 200).astype(int))
        rows += _points("uplift", labels[j], curve.x[keep], curve.y[keep])
        users = [log.user_ids[i] for i in np.flatnonzero(inside)]
        options = {"propensity": chance, "groups": users, "n_boot": config.n_boot, "seed": seed}
        measures.append(
            {
                "offer": labels[j],
                "qini": _plain_tuple(qini(*data, level=config.level, **options)),
                "uplift_at_30": _plain_tuple(uplift_at(*data, 0.3, level=config.level, **options)),
            }
        )
    gain = gain_curve(
        log.value[:, menu], log.cost[:, menu], scores[:, [0, *(menu + 1)]],
        groups=log.user_ids, level=config.level,
    )  # fmt: skip
    rows += _points("gain", "menu", gain.spend, gain.gain, gain.low, gain.high)
    found = calibration(
        log.value[:, menu].mean(axis=1),
        scores[:, menu + 1].mean(axis=1) - scores[:, 0],
        groups=log.user_ids,
        level=config.level,
    )
    rows += _calibration_points(found)
    return rows, measures, {"slope": found.slope, "se": found.slope_se}


def _plain_tuple(value: Any) -> dict[str, float]:
    return {k: float(v) for k, v in value._asdict().items()}


def _calibration_points(found: Calibration) -> list[dict[str, Any]]:
    bins = (found.predicted, found.observed, found.low, found.high)
    return _points("calibration", "mean of the menu", *bins)


def _points(
    curve: str,
    series: str,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    low: NDArray[np.float64] | None = None,
    high: NDArray[np.float64] | None = None,
) -> list[dict[str, Any]]:
    n = len(x)
    lows = [None] * n if low is None else low.tolist()
    highs = [None] * n if high is None else high.tolist()
    cells = zip(x.tolist(), y.tolist(), lows, highs, strict=True)
    return [
        {"curve": curve, "series": series, "x": a, "y": b, "low": c, "high": d}
        for a, b, c, d in cells
    ]


def _truth(
    log: Log, policies: dict[str, Arms], limits: dict[str, Any], context: Context
) -> dict[str, float] | None:
    """True gains per user on a simulated shop: of each policy, of what is served, of the oracle."""
    shop = shop_of(context)
    if shop is None:
        return None
    tried = context.store.read(RESPONSE_MODEL).table("offers")
    known = true_effects(context, shop, tried)
    found = {f"log_{name}": worth(known, log.user_ids, arms) for name, arms in policies.items()}
    served = during(true_effects(context, shop, limits["offers"]), limits)
    found["served"] = worth(served, served.user_ids, limits["slots"].astype(np.int64) + 1)
    found["served_cost"] = spend(served, served.user_ids, limits["slots"].astype(np.int64) + 1)
    found["budget"] = limits["budgets"][0] / limits["n_users"]
    found["oracle"] = oracle(known, limits, limits["capacity"], context.seed)
    menu_capacity = limits["menu_capacity"]
    found["oracle_of_menu"] = oracle(served, limits, menu_capacity, context.seed)
    found["oracle_share"] = found["served"] / found["oracle"] if found["oracle"] > 0 else 0.0
    return found
