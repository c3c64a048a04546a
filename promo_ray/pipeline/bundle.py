"""Stage bundle: put everything that serving needs into one artefact."""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from promo_ray.allocation import Block
from promo_ray.artifacts import Artifact
from promo_ray.artifacts.assignment import ASSIGNMENT
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.candidates import CANDIDATES
from promo_ray.artifacts.decision_bundle import DECISION_BUNDLE
from promo_ray.artifacts.offer_set import OFFER_SET
from promo_ray.artifacts.recommender import RECOMMENDER
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.users import USERS
from promo_ray.config import config_class, resolve
from promo_ray.decisions.bundle import BundleContent, write_bundle
from promo_ray.decisions.policy import Disclosure, Policy
from promo_ray.offers.money import minor_digits
from promo_ray.pipeline.allocate import block_of_candidates
from promo_ray.pipeline.scoring import design_of, limits_of
from promo_ray.pipeline.stage import Context, StageResult, current, finished, optional, skipped


@config_class
class BundleConfig:
    """Guardrails of serving; see `promo_ray.decisions.policy.Policy` for the rest.

    Attributes:
        campaign: name of the campaign in paths and logs; empty = named by its plan, so that the
            budget of another plan starts anew in the same ledger.
        epsilon: share of decisions drawn uniformly from the eligible offers, [0, 1].
        holdout_rate: share of users who never get an offer, so that the next round can be judged.
        max_uses: offers that a user may get in `cap_window_s`; 0 = no cap.
        cap_window_s: length of the cap's window, seconds.
        reservation_ttl_s: an offer not confirmed for so long gives its budget back, seconds.
        starts_at: first instant of the campaign, ISO 8601 with offset; empty = always.
        ends_at: instant from which no offer is made; empty = never.
        is_consent_required: a request that does not say so counts as without consent.
        n_items: recommended items in a decision, >= 0.
        disclosure: what to say about personal prices.
    """

    campaign: str = ""
    epsilon: Annotated[float, Field(ge=0, le=1)] = 0.0
    holdout_rate: Annotated[float, Field(ge=0, le=1)] = 0.05
    max_uses: Annotated[int, Field(ge=0)] = 3
    cap_window_s: Annotated[float, Field(gt=0)] = 7 * 86400.0
    reservation_ttl_s: Annotated[float, Field(gt=0)] = 900.0
    starts_at: str = ""
    ends_at: str = ""
    is_consent_required: bool = False
    n_items: Annotated[int, Field(ge=0)] = 10
    disclosure: Disclosure = Disclosure()


def run(config: BundleConfig, context: Context) -> StageResult:
    """Write `decision_bundle`."""
    if why := missing(context):
        return skipped("bundle", why, context, [DECISION_BUNDLE])
    inputs = context.inputs(
        ASSIGNMENT, CANDIDATES, OFFER_SET, RECOMMENDER, RESPONSE_MODEL, CAMPAIGN_LOG, USERS
    )
    if context.is_current(DECISION_BUNDLE, config, inputs):
        return current("bundle", context, [DECISION_BUNDLE])
    started = time.perf_counter()
    context.progress("bundle", 0, 1)
    candidates = context.store.read(CANDIDATES)
    assignment = context.store.read(ASSIGNMENT)
    menu = candidates.json("menu")
    table = candidates.table("candidates")
    block = block_of_candidates(table, len(menu["offer_ids"]), len(menu["budgets"]))
    user_ids = table["user_id"].to_pylist()
    items, popular, top = _items(optional(context, RECOMMENDER), user_ids)
    content = BundleContent(
        user_ids=user_ids,
        value=block.value,
        cost=block.costs,
        choice=assignment.table("assignment")["slot"].to_numpy(),
        segment_idx=table["segment_idx"].to_numpy(),
        top_items=top,
        items=items,
        popular_items=popular,
        offers=context.store.read(OFFER_SET).json("offers"),
        policy=_policy(config, context, menu, assignment, block),
    )
    settings = resolve(config)
    with context.store.write(
        DECISION_BUNDLE, config=settings, seed=context.seed, inputs=inputs
    ) as writer:
        write_bundle(writer, content)
    context.progress("bundle", 1, 1)
    return finished("bundle", context, [DECISION_BUNDLE], started)


def missing(context: Context) -> str:
    """Why the stage cannot run; empty if it can."""
    return "" if context.has(ASSIGNMENT) else "there is no assignment to serve"


def _policy(
    config: BundleConfig,
    context: Context,
    menu: dict[str, Any],
    assignment: Artifact,
    block: Block,
) -> Policy:
    prices = assignment.json("solution")["prices"][: len(menu["budgets"])]
    limits = limits_of(context)
    for_all = np.array([not limit.rules for limit in limits] or [True] * block.value.shape[1])
    slot, fallback_cost = _fallback(block, np.array(prices), for_all)
    currency = design_of(context)["currency"]
    fields = {
        name: getattr(config, name)
        for name in (
            "epsilon",
            "holdout_rate",
            "max_uses",
            "cap_window_s",
            "reservation_ttl_s",
            "starts_at",
            "ends_at",
            "is_consent_required",
            "n_items",
            "disclosure",
        )
    }
    return Policy(
        campaign=config.campaign or f"campaign-{assignment.digest[:8]}",
        policy_version=assignment.digest[:16],
        model_version=context.store.read(RESPONSE_MODEL).digest[:16],
        budget_names=tuple(menu["budget_names"]),
        budgets=tuple(menu["budgets"]),
        prices=tuple(prices),
        fallback_slot=slot,
        fallback_cost=fallback_cost,
        currency=currency,
        minor_per_unit=10 ** minor_digits(currency),
        seed=context.seed,
        is_pseudonymous=bool(context.store.read(USERS).json("shards").get("is_pseudonymized")),
        **fields,
    )


def _fallback(
    block: Block, prices: NDArray[np.float64], for_all: NDArray[np.bool_]
) -> tuple[int, tuple[float, ...]]:
    """Offer for users that nothing is known of, with its mean use of each budget.

    It is the one worth most to the average user after the price of its budgets, of those that are
    `for_all` `(m,)`; -1 if none is.
    """
    able = np.isfinite(block.value)
    n = np.maximum(able.sum(axis=0), 1)
    value = np.where(able, block.value, 0.0).sum(axis=0, dtype=np.float64) / n
    cost = np.where(able, block.costs, 0.0).sum(axis=1, dtype=np.float64) / n  # (k, m)
    net = np.where(for_all, value - prices @ cost, -np.inf)
    slot = int(net.argmax()) if len(net) else -1
    if slot < 0 or net[slot] <= 0:
        return -1, ()
    return slot, tuple(float(c) for c in cost[:, slot])


def _items(
    recommender: Artifact | None, user_ids: list[str]
) -> tuple[list[str], list[int], NDArray[np.int32]]:
    """Item ids, indices of popular items, and `(n, r)` indices of every user's top items."""
    if recommender is None:
        return [], [], np.zeros((len(user_ids), 0), np.int32)
    top = recommender.table("top")
    popular = recommender.table("popular")["item_id"].to_pylist()
    lists = dict(zip(top["user_id"].to_pylist(), top["item_ids"].to_pylist(), strict=True))
    items = sorted({i for row in lists.values() for i in row} | set(popular))
    place = {item: i for i, item in enumerate(items)}
    width = max((len(row) for row in lists.values()), default=0)
    chosen = np.full((len(user_ids), width), -1, dtype=np.int32)
    for row, user in enumerate(user_ids):
        found = lists.get(user, [])
        chosen[row, : len(found)] = [place[i] for i in found]
    return items, [place[i] for i in popular[:100]], chosen
