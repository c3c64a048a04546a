"""Value and budget use of offers for the users of a shard: what design and allocation share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promo_ray.artifacts import PartRef
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.offer_set import OFFER_SET
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.config import parse
from promo_ray.design.audience import Rule, members
from promo_ray.pipeline.stage import Context
from promo_ray.response.model import ResponseModel
from promo_ray.seeding import keys_of

SEGMENTS = ("new", "high_frequency", "low_frequency", "lapsing", "lapsed", "member", "unknown")


class Limit(NamedTuple):
    """For whom an offer of a menu is, and what of its effect falls into its window.

    Attributes:
        base_id: offer of the grid that it is a variant of.
        rules: on columns of described users, all of which must hold.
        share: of the effect and of the discount, in (0, 1].
        is_tried: the log can prove it: it holds at any time and by any channel, and was tried.
    """

    base_id: str
    rules: tuple[Rule, ...]
    share: float
    is_tried: bool


class Scorer(NamedTuple):
    """Everything that scores users; travels to the workers.

    Attributes:
        model: response model.
        names: feature columns of `user_profiles`, in the model's order.
        offers: `OFFER_TERMS` of the offers to score.
        is_money: the outcome is in currency units, so contact costs are taken off its value.
        limits: for whom and how much of its time each offer is; none = everyone, always.
    """

    model: ResponseModel
    names: tuple[str, ...]
    offers: pa.Table
    is_money: bool
    limits: tuple[Limit, ...] = ()


class Scored(NamedTuple):
    """Users of one shard, sorted by id, with every offer's score.

    Attributes:
        user_ids: `(n,)` str.
        keys: `(n,)` uint64 keys of the ids.
        segment_idx: `(n,)` int32 index into `SEGMENTS`.
        value: `(n, m)` float64 expected incremental outcome, net of contact cost if it is money;
            -inf for users who withhold consent or whom the offer is not for.
        cost: `(n, m)` float64 expected discount plus contact cost, currency units.
    """

    user_ids: list[str]
    keys: NDArray[np.uint64]
    segment_idx: NDArray[np.int32]
    value: NDArray[np.float64]
    cost: NDArray[np.float64]


class ScoredSource(NamedTuple):
    """Scores one shard; runs in the worker."""

    profiles: PartRef
    users: PartRef
    scorer: Scorer

    def __call__(self) -> Scored:
        """Read the shard's profiles and score its users."""
        return score(self.scorer, self.profiles(), self.users())


def score(scorer: Scorer, profiles: pa.Table, users: pa.Table) -> Scored:
    """Score the users of one shard; both tables are sorted by user and hold the same users."""
    x, basket = inputs_of(profiles, scorer.names)
    found = scorer.model.effects(x, basket, scorer.offers)
    contact = scorer.offers["contact_cost"].to_numpy()
    share = np.array([limit.share for limit in scorer.limits]) if scorer.limits else 1.0
    effect, discount = found.effect * share, found.discount * share
    value = effect - contact if scorer.is_money else effect
    if scorer.limits:
        value[~eligible(scorer.limits, described(profiles, users))] = -np.inf
    is_refusing = pc.invert(users["is_consenting"].fill_null(True))
    value[is_refusing.to_numpy(zero_copy_only=False)] = -np.inf
    ids = profiles["user_id"].to_pylist()
    place = {name: i for i, name in enumerate(SEGMENTS)}
    segment = [place[name] for name in profiles["segment"].to_pylist()]
    return Scored(ids, keys_of(ids), np.array(segment, np.int32), value, discount + contact)


def described(profiles: pa.Table, users: pa.Table) -> pa.Table:
    """Profiles of a shard with `is_consenting` and the attributes `attr_*` of its users."""
    names = [c for c in users.column_names if c.startswith("attr_") or c == "is_consenting"]
    for name in names:
        profiles = profiles.append_column(name, users[name])
    return profiles


def eligible(limits: Sequence[Limit], table: pa.Table) -> NDArray[np.bool_]:
    """`(n, m)` bool whom each offer is for; `table` holds described users."""
    own = [members(limit.rules, table, f"offer {limit.base_id!r}") for limit in limits]
    return np.column_stack(own)


def limits_of(context: Context) -> tuple[Limit, ...]:
    """Limits of the run's menu; none where every offer is for everyone, always."""
    menu = context.store.read(OFFER_SET)
    if not menu.has("variants.json"):
        return ()
    return tuple(
        Limit(
            row["base_id"],
            tuple(parse(Rule, rule, where="offer set") for rule in row["rules"]),
            row["share"],
            row["is_tried"],
        )
        for row in menu.json("variants")
    )


def inputs_of(
    profiles: pa.Table, names: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features `(n, d)` and median basket `(n,)` (NaN = unknown), both float64."""
    columns = [profiles[name].to_numpy() for name in names]
    x = np.column_stack(columns) if columns else np.zeros((profiles.num_rows, 0))
    return np.ascontiguousarray(x, dtype=np.float64), profiles["basket_median"].to_numpy()


def lists(matrix: NDArray[Any]) -> pa.Array:
    """List column of the rows of a matrix `(n, m)`."""
    n, m = matrix.shape
    offsets = np.arange(0, n * m + 1, m, dtype=np.int32) if m else np.zeros(n + 1, np.int32)
    return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(matrix).ravel())


def scorer_of(context: Context, offers: pa.Table) -> Scorer:
    """Scorer of the run's response model for these offers."""
    artifact = context.store.read(RESPONSE_MODEL)
    model = ResponseModel.from_arrays(artifact.tensors("model"), artifact.json("model"))
    names = tuple(context.store.read(USER_PROFILES).json("features")["names"])
    return Scorer(model, names, offers, is_money(design_of(context)))


def design_of(context: Context) -> dict[str, Any]:
    """Document `design` of the run's campaign log."""
    design: dict[str, Any] = context.store.read(CAMPAIGN_LOG).json("design")
    return design


def is_money(design: dict[str, Any]) -> bool:
    """Whether the outcome of a campaign log is in currency units."""
    return design["outcome"] in ("margin", "revenue")


def scored_sources(context: Context, scorer: Scorer) -> list[ScoredSource]:
    """One source per shard, for `executor.load`."""
    profiles = context.store.read(USER_PROFILES).parts("user_profiles")
    users = context.store.read(USERS).parts("users")
    return [ScoredSource(p, u, scorer) for p, u in zip(profiles, users, strict=True)]
