"""Users on whom a menu is searched, raced and judged: drawn and scored where they lie."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.artifacts import PartRef
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.config import parse
from promo_ray.design.audience import members
from promo_ray.design.columns import Columns, Predicted, Sample, Surface, Variants
from promo_ray.design.menu import Samples
from promo_ray.errors import DataError
from promo_ray.execution import Resident
from promo_ray.pipeline.menu_axes import Axes
from promo_ray.pipeline.response import ResponseConfig, read_trial
from promo_ray.pipeline.scoring import described, design_of, inputs_of, is_money
from promo_ray.pipeline.stage import Context
from promo_ray.response.model import ResponseModel, TrialLog
from promo_ray.seeding import derive, keys_of, stream, uniforms

Floats = NDArray[np.float64]


class UserSource(NamedTuple):
    """Reads the described users of one shard; runs in the worker."""

    profiles: PartRef
    users: PartRef

    def __call__(self) -> pa.Table:
        """See `scoring.described`."""
        return described(self.profiles(), self.users())


def user_sources(context: Context) -> list[UserSource]:
    """One source per shard, for `executor.load`."""
    profiles = context.store.read(USER_PROFILES).parts("user_profiles")
    users = context.store.read(USERS).parts("users")
    return [UserSource(p, u) for p, u in zip(profiles, users, strict=True)]


class Sampler(NamedTuple):
    """Everything that scores users for a menu; travels to the workers.

    Attributes:
        surfaces: see `Predicted`.
        names: feature columns of profiles, in the model's order.
        terms: `OFFER_TERMS` of the grid.
        is_money: the outcome is in currency units.
        robustness: see `Predicted`.
        axes: segments, windows and channels.
    """

    surfaces: tuple[Surface, ...]
    names: tuple[str, ...]
    terms: pa.Table
    is_money: bool
    robustness: float
    axes: Axes

    def bare(self, table: pa.Table) -> Predicted:
        """Columns of the offers alone, for at least one user."""
        x, basket = inputs_of(table, self.names)
        return Predicted(self.surfaces, x, basket, self.terms, self.is_money, self.robustness)

    def kinds(self, table: pa.Table) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """`(n, segments)` who belongs to each segment, `(n, channels)` whom each channel reaches.

        Raises:
            DataError: a rule names a column that profiles do not have.
        """
        own = [members(r, table, f"design.segments.{s}") for s, r in self.axes.segments.items()]
        reach = [
            members(rules, table, f"design.channels.{channel.name}.reach")
            for channel, rules in zip(self.axes.channels, self.axes.reach, strict=True)
        ]
        return np.column_stack(own), np.column_stack(reach)

    def variants(
        self, base: Columns, kinds: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    ) -> Columns:
        """Columns of every variant of the space."""
        if self.axes.is_plain:
            return base
        contact = self.terms["contact_cost"].to_numpy()
        windows, channels = self.axes.windows, self.axes.channels
        return Variants(base, contact, *kinds, windows, channels, self.is_money)


class Part(NamedTuple):
    """Users of a shard who play one part, in the order of the shard.

    Attributes:
        u: `(n,)` their draws.
        value, cost: `(n, g)` float32 of every offer of the grid.
        segments, reach: see `Sampler.kinds`.
    """

    u: Floats
    value: NDArray[np.float32]
    cost: NDArray[np.float32]
    segments: NDArray[np.bool_]
    reach: NDArray[np.bool_]

    def where(self, rows: NDArray[np.bool_]) -> Part:
        """The users for whom `rows` `(n,)` holds."""
        value, cost = self.value[rows], self.cost[rows]
        return Part(self.u[rows], value, cost, self.segments[rows], self.reach[rows])


def draw(table: pa.Table, sampler: Sampler, seed: int, name: str, rate: float) -> list[Part]:
    """Users of a shard who search, race and judge: `rate`, half of it and `rate` of all.

    Those who withhold consent are among them, and no offer is open to them.

    Args:
        table: described users, see `scoring.described`.
        sampler: scores them.
        seed: seed of the run.
        name: name of the draw.
        rate: share of the users who search, at most 0.4.
    """
    u = uniforms(seed, name, keys_of(table["user_id"].to_pylist()))[:, 0]
    edges = (0.0, rate, 1.5 * rate, 2.5 * rate)
    table, u = table.filter(pa.array(u < edges[-1])), u[u < edges[-1]]
    n_offers = sampler.terms.num_rows
    value = cost = np.zeros((n_offers, 0), dtype=np.float32)
    if len(u):  # all parts at once: a model is slow to ask, not slow to answer
        value, cost = sampler.bare(table).take(np.arange(n_offers))
    value = np.where(consenting(table), value, -np.inf).astype(np.float32)
    whole = Part(u, value.T, cost.T, *sampler.kinds(table))
    chosen = [(u >= low) & (u < high) for low, high in itertools.pairwise(edges)]
    return [whole.where(rows) for rows in chosen]


def consenting(table: pa.Table) -> NDArray[np.bool_]:
    """`(n,)` bool users who do not withhold consent."""
    found: NDArray[np.bool_] = (
        table["is_consenting"].fill_null(True).to_numpy(zero_copy_only=False).astype(bool)
    )
    return found


def gathered(parts: Sequence[list[Part]], sampler: Sampler) -> Samples:
    """Samples of every variant of the space, of the parts of all shards.

    Raises:
        DataError: a segment nobody of the sample belongs to.
    """
    samples = []
    for role in range(3):
        u, value, cost, segments, reach = (
            np.concatenate(arrays) for arrays in zip(*(p[role] for p in parts), strict=True)
        )
        order = np.argsort(u, kind="stable")  # races and searches begin with the first of them
        for j, name in enumerate(sampler.axes.segments):
            if role == 0 and not segments[:, j].any():
                raise DataError(
                    "must have at least one user; the audience is empty",
                    where=f"design.segments.{name}",
                )
        bare = Sample(value[order], cost[order])
        samples.append(sampler.variants(bare, (segments[order], reach[order])))
    return Samples(*samples)


def count(table: pa.Table) -> int:
    """Users of a shard."""
    return int(table.num_rows)


def sampler_of(
    context: Context, terms: pa.Table, axes: Axes, robustness: float, n_refits: int
) -> Sampler:
    """Sampler of the run's response model; with robustness, of models of resampled logs too."""
    artifact = context.store.read(RESPONSE_MODEL)
    model = ResponseModel.from_arrays(artifact.tensors("model"), artifact.json("model"))
    names = tuple(context.store.read(USER_PROFILES).json("features")["names"])
    more = refits(context, n_refits) if robustness > 0 else ()
    money = is_money(design_of(context))
    return Sampler((model, *more), names, terms, money, robustness, axes)


def refits(context: Context, n: int) -> tuple[ResponseModel, ...]:
    """Response models of logs whose users are drawn with replacement (Efron 1979)."""
    artifact = context.store.read(RESPONSE_MODEL)
    config = parse(ResponseConfig, artifact.manifest.config, where="response model")
    offers = context.store.read(CAMPAIGN_LOG).table("offers")
    log = read_trial(config, context, offers)
    net = is_money(design_of(context))
    resident: Resident[int] = context.executor.load(list(range(n)))
    found = resident.map(
        _refit, log, offers, context.seed, net, progress=context.progress, stage="refits"
    )
    resident.release()
    return tuple(found)


def _refit(number: int, log: TrialLog, offers: pa.Table, seed: int, is_net: bool) -> ResponseModel:
    users, place = np.unique(log.groups, return_inverse=True)
    times = np.bincount(
        stream(seed, "design.refit", number).integers(len(users), size=len(users)),
        minlength=len(users),
    )
    rows = np.repeat(np.arange(len(place)), times[place])
    return ResponseModel.fit(
        log.rows(rows), offers, derive(seed, "design.refit", number), is_net=is_net
    )
