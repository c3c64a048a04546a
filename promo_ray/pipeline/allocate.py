"""Stage allocate: score the menu for every user, then decide who gets what within the budgets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from promo_ray.allocation import (
    Block,
    BlockDecision,
    ResidentAllocation,
    choose_block,
    solve_resident,
)
from promo_ray.artifacts import FileEntry, PartRef, PartWriter
from promo_ray.artifacts.assignment import ASSIGNMENT
from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.candidates import CANDIDATES
from promo_ray.artifacts.offer_set import OFFER_SET
from promo_ray.artifacts.response_model import RESPONSE_MODEL
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.config import config_class, resolve
from promo_ray.errors import ConfigError
from promo_ray.execution import Resident
from promo_ray.pipeline.scoring import (
    SEGMENTS,
    Scored,
    limits_of,
    lists,
    scored_sources,
    scorer_of,
)
from promo_ray.pipeline.stage import Context, StageResult, current, finished, skipped
from promo_ray.seeding import keys_of


@config_class
class AllocateConfig:
    """Limits of the campaign.

    Attributes:
        budget: most that the campaign may be expected to cost (discounts and contacts), currency
            units; None = `budget_rate` of what the best single offer to everybody would cost.
        budget_rate: see `budget`, in (0, 1].
        contact_rate: most users that may get an offer, as a share of all; None = no limit.
        capacity: most users per offer, by offer id.
        tolerance: relative distance of the certified bound at which the solver stops.
    """

    budget: Annotated[float, Field(gt=0)] | None = None
    budget_rate: Annotated[float, Field(gt=0, le=1)] = 0.3
    contact_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    capacity: Mapping[str, Annotated[int, Field(ge=0)]] = field(default_factory=dict)
    tolerance: Annotated[float, Field(gt=0)] = 1e-7


def run(config: AllocateConfig, context: Context) -> StageResult:
    """Write `candidates` and `assignment`."""
    if why := missing(context):
        return skipped("allocate", why, context, [CANDIDATES, ASSIGNMENT])
    kinds = (CANDIDATES, ASSIGNMENT)
    inputs = context.inputs(OFFER_SET, RESPONSE_MODEL, USER_PROFILES, USERS, CAMPAIGN_LOG)
    solved_from = context.inputs(CANDIDATES)
    if context.is_current(CANDIDATES, config, inputs) and context.is_current(
        ASSIGNMENT, config, solved_from
    ):
        return current("allocate", context, kinds)
    started = time.perf_counter()
    offers = context.store.read(OFFER_SET).table("offers")
    limits = _score_all(config, context, offers, inputs)
    _solve(config, context, limits)
    return finished("allocate", context, kinds, started)


def missing(context: Context) -> str:
    """Why the stage cannot run; empty if it can."""
    return "" if context.has(OFFER_SET) else "there is no menu of offers"


class _Totals(NamedTuple):
    n: int
    value: NDArray[np.float64]  # (m,) of giving each offer to every eligible user
    cost: NDArray[np.float64]


class _Limits(NamedTuple):
    offer_ids: list[str]
    budget_names: list[str]
    budgets: list[float]
    capacity: NDArray[np.float64] | None


def _totals(shard: Scored) -> _Totals:
    able = np.isfinite(shard.value)
    value = np.where(able, shard.value, 0.0).sum(axis=0)
    return _Totals(len(able), value, np.where(able, shard.cost, 0.0).sum(axis=0))


def _add(a: _Totals, b: _Totals) -> _Totals:
    return _Totals(a.n + b.n, a.value + b.value, a.cost + b.cost)


def _score_all(
    config: AllocateConfig, context: Context, offers: pa.Table, inputs: dict[str, str]
) -> _Limits:
    scorer = scorer_of(context, offers)._replace(limits=limits_of(context))
    sources = scored_sources(context, scorer)
    resident: Resident[Scored] = context.executor.load(sources)
    totals = resident.reduce(_totals, _add)
    limits = _limits(config, offers["offer_id"].to_pylist(), totals)
    settings = resolve(config)
    with context.store.write(
        CANDIDATES, config=settings, seed=context.seed, inputs=inputs
    ) as writer:
        entries = resident.map(
            _write_candidates,
            len(limits.budgets),
            writer.part_writer(),
            each=range(resident.n_shards),
            progress=context.progress,
            stage="score",
        )
        writer.add(entries)
        writer.json(
            "menu",
            {
                "offer_ids": limits.offer_ids,
                "budget_names": limits.budget_names,
                "budgets": limits.budgets,
                "segments": SEGMENTS,
                "to_all": {"value": totals.value.tolist(), "cost": totals.cost.tolist()},
            },
        )
    resident.release()
    return limits


def _limits(config: AllocateConfig, offer_ids: list[str], totals: _Totals) -> _Limits:
    unknown = sorted(set(config.capacity) - set(offer_ids))
    if unknown:
        known = ", ".join(offer_ids)
        raise ConfigError(f"allocate.capacity must name offers of the menu ({known}); {unknown[0]}")
    budget = config.budget
    if budget is None:
        budget = config.budget_rate * float(totals.cost[int(totals.value.argmax())])
    names, budgets = ["spend"], [float(budget)]
    if config.contact_rate is not None:
        names, budgets = (
            [*names, "contacts"],
            [*budgets, float(int(config.contact_rate * totals.n))],
        )
    capacity = None
    if config.capacity:
        capacity = np.array([config.capacity.get(i, np.inf) for i in offer_ids], dtype=np.float64)
    return _Limits(offer_ids, names, budgets, capacity)


def _write_candidates(shard: Scored, n_budgets: int, write: PartWriter, index: int) -> FileEntry:
    n, m = shard.value.shape
    costs = [shard.cost, np.ones((n, m))][:n_budgets]
    stacked = np.stack(costs, axis=1).reshape(n, n_budgets * m)
    table = pa.table(
        {
            "user_id": pa.array(shard.user_ids, pa.string()),
            "segment_idx": shard.segment_idx,
            "value": lists(shard.value.astype(np.float32)),
            "cost": lists(stacked.astype(np.float32)),
        }
    )
    return write("candidates", index, table)


class CandidateSource(NamedTuple):
    """Reads one shard of `candidates` as a block of the allocation; runs in the worker."""

    part: PartRef
    n_offers: int
    n_budgets: int

    def __call__(self) -> Block:
        """Read the block."""
        table = self.part()
        return block_of_candidates(table, self.n_offers, self.n_budgets)


def block_of_candidates(table: pa.Table, n_offers: int, n_budgets: int) -> Block:
    """Block of a part of `candidates`: arrays of the table, shapes as in `Block`."""
    n = table.num_rows
    value = _matrix(table["value"]).reshape(n, n_offers)
    cost = _matrix(table["cost"]).reshape(n, n_budgets, n_offers)
    costs = np.ascontiguousarray(cost.transpose(1, 0, 2))
    return Block(value, costs, keys_of(table["user_id"].to_pylist()))


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    flat: NDArray[np.float32] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32, copy=False)


def _solve(config: AllocateConfig, context: Context, limits: _Limits) -> None:
    parts = context.store.read(CANDIDATES).parts("candidates")
    shape = (len(limits.offer_ids), len(limits.budgets))
    resident: Resident[Block] = context.executor.load([CandidateSource(p, *shape) for p in parts])
    context.progress("allocate", 0)
    found = solve_resident(
        resident,
        np.array(limits.budgets),
        capacity=limits.capacity,
        tolerance=config.tolerance,
        seed=context.seed,
        progress=context.progress,
    )
    inputs = context.inputs(CANDIDATES)
    with context.store.write(
        ASSIGNMENT, config=resolve(config), seed=context.seed, inputs=inputs
    ) as writer:
        each = list(zip(found.decisions, parts, range(len(parts)), strict=True))
        chosen = resident.map(_assign, limits.offer_ids, writer.part_writer(), each=each)
        writer.add(c.entry for c in chosen)
        counts = np.sum([c.counts for c in chosen], axis=0)
        solution = _solution(found, limits)
        solution["by_segment"] = {
            name: counts[i].tolist() for i, name in enumerate(SEGMENTS) if counts[i].any()
        }
        writer.json("solution", solution)
        shown = ("value", "bound", "gap", "n_passes", "n_offered")
        writer.metrics = {name: solution[name] for name in shown if name in solution}
        writer.metrics["n_offered"] = int(counts[:, 1:].sum())
    resident.release()


class _Chosen(NamedTuple):
    entry: FileEntry
    counts: NDArray[np.int64]  # (segments, 1 + m), column 0 = no offer


def _assign(
    block: Block,
    offer_ids: list[str],
    write: PartWriter,
    own: tuple[BlockDecision, PartRef, int],
) -> _Chosen:
    decision, part, index = own
    slot = choose_block(block, decision)
    users = part()
    rows = np.arange(len(slot))
    taken = np.maximum(slot, 0)
    is_given = slot >= 0
    value = np.where(is_given, block.value[rows, taken], 0.0).astype(np.float64)
    cost = np.where(is_given, block.costs[0][rows, taken], 0.0).astype(np.float64)
    table = pa.table(
        {
            "user_id": users["user_id"],
            "offer_id": pa.array([offer_ids[s] if s >= 0 else None for s in slot], pa.string()),
            "slot": pa.array(slot, pa.int32()),
            "value": value,
            "cost": cost,
        }
    )
    counts = np.zeros((len(SEGMENTS), len(offer_ids) + 1), dtype=np.int64)
    np.add.at(counts, (users["segment_idx"].to_numpy(), slot + 1), 1)
    return _Chosen(write("assignment", index, table), counts)


def _solution(found: ResidentAllocation, limits: _Limits) -> dict[str, Any]:
    budgets = np.array(limits.budgets)
    k = len(budgets)
    return {
        "offer_ids": limits.offer_ids,
        "budget_names": limits.budget_names,
        "budgets": budgets.tolist(),
        "used": (budgets - found.slack[:k]).tolist(),
        "slack": found.slack.tolist(),
        "prices": found.prices.tolist(),
        "value": found.value,
        "bound": found.bound,
        "gap": found.gap,
        "n_passes": found.n_passes,
        "n_split_users": found.n_split_users,
        "converged": found.converged,
    }
