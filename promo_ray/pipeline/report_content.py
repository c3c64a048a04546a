"""What the report shows, gathered from the artefacts of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from promo_ray.artifacts import Kind
from promo_ray.artifacts.assignment import ASSIGNMENT
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.offer_set import OFFER_SET
from promo_ray.artifacts.plan_set import PLAN_SET
from promo_ray.artifacts.price_plan import PRICE_PLAN
from promo_ray.artifacts.recommender import RECOMMENDER
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.evaluation.report import ReportContent
from promo_ray.pipeline import allocate, design, price, recommend, response
from promo_ray.pipeline.stage import Context, optional
from promo_ray.pipeline.truth import shop_of

Document = dict[str, Any]

# stage, what it leaves, why it cannot run
_STAGES = (
    ("ingest", USERS, None),
    ("profile", USER_PROFILES, None),
    ("response", RESPONSE_MODEL, response.missing),
    ("price", PRICE_PLAN, price.missing),
    ("design", OFFER_SET, design.absent),
    ("plans", PLAN_SET, None),
    ("allocate", ASSIGNMENT, allocate.missing),
    ("recommend", RECOMMENDER, recommend.missing),
)


def report_content(
    context: Context,
    title: str,
    k_threshold: int,
    estimates: Document,
    checks: Sequence[Document],
    curves: Sequence[Document],
) -> ReportContent:
    """Content of the report of the run in `context`; parts that are not there stay None."""
    log = optional(context, CAMPAIGN_LOG)
    offers = optional(context, OFFER_SET)
    planned = optional(context, PLAN_SET)
    index = planned.json("plans") if planned else {"plans": [], "skipped": []}
    return ReportContent(
        title=title,
        currency=log.json("design")["currency"] if log else "USD",
        data=_data(context),
        quality=_document(context, EVENTS, "quality"),
        segments=_document(context, USER_PROFILES, "segments"),
        price_plan=_price_plan(context),
        offers=offers.table("offers").to_pylist() if offers else None,
        solution=_document(context, ASSIGNMENT, "solution"),
        estimates=estimates or None,
        checks=checks or None,
        curves=curves or None,
        search=_document(context, OFFER_SET, "search"),
        plans=[planned.json(f"plan-{n}") for n in index["plans"]] if planned else None,
        plans_left_out=index["skipped"],
        recommendations=_document(context, RECOMMENDER, "quality"),
        stages=_stages(context, bool(estimates)),
        config_digest=_digest(context),
        k_threshold=k_threshold,
    )


def _document(context: Context, kind: Kind, name: str) -> Document | None:
    artifact = optional(context, kind)
    if artifact is None:
        return None
    found: Document = artifact.json(name)
    return found


def _data(context: Context) -> Document:
    shards = context.store.read(USERS).json("shards")
    log, catalog = context.store.find(CAMPAIGN_LOG), context.store.find(CATALOG)
    rows = sum(f.rows or 0 for f in log.files if f.name.startswith("campaign_log/")) if log else 0
    is_simulated = shop_of(context) is not None
    return {
        "name": shards.get("name", "a simulated shop"),
        "is_simulated": is_simulated,
        "n_users": shards["n_users"],
        "n_items": sum(f.rows or 0 for f in catalog.files) if catalog else 0,
        "n_log_rows": rows,
        "notes": shards.get("notes", []),
        "design": _document(context, CAMPAIGN_LOG, "design"),
    }


def _price_plan(context: Context) -> Document | None:
    plan = optional(context, PRICE_PLAN)
    if plan is None:
        return None
    catalog = context.store.read(CATALOG).table("catalog")
    ids, titles = catalog["item_id"].to_pylist(), catalog["title"].to_pylist()
    title_of = dict(zip(ids, titles, strict=True))
    rows = [row | {"title": title_of.get(row["item_id"])} for row in plan.table("plan").to_pylist()]
    summary: Document = plan.json("summary")
    return {**summary, "rows": rows, "trials": plan.table("trials").to_pylist()}


def _stages(context: Context, is_evaluated: bool) -> list[tuple[str, str, str]]:
    found = []
    for name, kind, why in _STAGES:
        if context.has(kind):
            found.append((name, "done", ""))
        elif kind is not PLAN_SET:  # a campaign need not have plans
            reason = why(context) if why else ""
            found.append((name, "skipped", reason or "the data do not suffice"))
    note = "" if is_evaluated else "there is no policy to judge"
    return [*found, ("evaluate", "done" if is_evaluated else "skipped", note)]


def _digest(context: Context) -> str:
    """Digest of the settings of every stage."""
    kinds = (kind for _, kind, _ in _STAGES)
    configs = {k.name: m.config for k in kinds if (m := context.store.find(k)) is not None}
    options = orjson.OPT_SORT_KEYS
    return hashlib.sha256(orjson.dumps([configs, context.seed], option=options)).hexdigest()
