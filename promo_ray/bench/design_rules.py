"""Random constraints, and a check of menus against them that shares nothing with the repair."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from promo_ray.design import (
    Budget,
    Channel,
    Constraints,
    GridSteps,
    MenuSpace,
    Window,
    allocate_menu,
    wide_grid,
)
from promo_ray.design.budgets import rows_on
from promo_ray.seeding import stream

_SCOPES = ("tea", "coffee")
_BASKET = 40.0
BASKETS = {"": _BASKET, "tea": 25.0, "coffee": 15.0}
_N_MENUS = 20
_N_USERS = 40


def random_space(seed: int) -> MenuSpace:
    """A space of some hundred variants without constraints."""
    rng = stream(seed, "bench.space")
    depths = np.sort(rng.permutation(np.arange(1, 13))[:4]) * 0.05
    grid = wide_grid(
        rng.lognormal(np.log(_BASKET), 0.5, 200),
        steps=GridSteps(
            depth_rates=tuple(depths.tolist()),
            amount_rates=(0.1, 0.3, 0.6),
            threshold_quantiles=(0.5, 0.9),
        ),
        scopes=_SCOPES,
        bundles=[("a", "b"), ("a", "c")],
    )
    return MenuSpace(
        grid,
        int(rng.integers(1, 9)),
        segments=("everyone", "members")[: int(rng.integers(1, 3))],
        windows=(Window(), Window("a week", 0.3))[: int(rng.integers(1, 3))],
        channels=(Channel("mail"), Channel("letter", 0.5))[: int(rng.integers(1, 3))],
    )


def random_constraints(seed: int, space: MenuSpace) -> Constraints:
    """Constraints of every kind, each there or not."""
    rng = stream(seed, "bench.constraints")
    names = [*space.grid.offer_ids, *sorted(set(space.grid.terms["mechanic"].to_pylist()))]

    def maybe(value: Any) -> Any:
        return value if rng.random() < 0.5 else None

    # offers or mechanics: an offer beside its own mechanic would overlap
    kind = space.grid.offer_ids if rng.random() < 0.7 else tuple(names[len(space.grid) :])
    drawn = [kind[i] for i in rng.permutation(len(kind))[:12]]
    groups = [tuple(drawn[i : i + 3]) for i in range(0, 3 * int(rng.integers(0, 4)), 3)]
    pairs = [names[i] for i in rng.permutation(len(names))[: 2 * int(rng.integers(0, 4))]]
    floor: float | None = maybe(float(rng.uniform(0, 0.5)))
    margins = {"": float(rng.uniform(-0.1, 0.8)), "tea": float(rng.uniform(0, 0.8))}
    return Constraints(
        max_offers=maybe(int(rng.integers(1, 9))),
        max_depth_rate=maybe(float(rng.uniform(0, 0.6))),
        min_margin_rate=floor,
        margin_rate=None if floor is None else margins,
        typical_basket=BASKETS,
        mechanics=maybe(("percent_off", "spend_threshold")),
        forbidden_pairs=_pairs(pairs),
        exclusive_groups=tuple(g for g in groups if g),
    )


def _pairs(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple(zip(names[::2], names[1::2], strict=True))


def random_budgets(seed: int, space: MenuSpace) -> tuple[Budget, ...]:
    """One to four budgets, of money or contacts, on all offers or on a part of them."""
    rng = stream(seed, "bench.budgets")
    terms = space.grid.terms
    axes: dict[str, Sequence[str]] = {
        "mechanics": sorted(set(terms["mechanic"].to_pylist())),
        "channels": [c.name for c in space.channels],
        "segments": space.segments,
        "scopes": ("", *_SCOPES),
        "offer_ids": space.grid.offer_ids,
    }
    found = []
    for k in range(int(rng.integers(1, 5))):
        names = list(axes)[: len(axes) if k else 0]
        field = names[int(rng.integers(len(names)))] if names else ""
        own = {field: tuple(rng.permutation(axes[field])[:2].tolist())} if field else {}
        measure = ("money", "contacts")[int(rng.integers(2))]
        limit = float(rng.uniform(0.01, 0.6))
        found.append(Budget(limit=limit, name=f"budget {k}", measure=measure, **own))
    return tuple(found)


def overspent(
    space: MenuSpace, budgets: Sequence[Budget], menu: Sequence[int], seed: int
) -> list[str]:
    """Budgets that the allocation of a menu to random users breaks, by name."""
    rng = stream(seed, "bench.users")
    value = rng.normal(0.3, 1.0, (_N_USERS, len(menu)))
    cost = rng.gamma(2.0, 0.5, (_N_USERS, len(menu)))
    use = rows_on(space, budgets).use(np.array(menu, dtype=np.int64), cost.T).transpose(0, 2, 1)
    limits = [b.limit * _N_USERS for b in budgets]
    slot = allocate_menu(value, use, limits).slot
    spent = [0.0] * len(budgets)
    for i, j in enumerate(slot.tolist()):
        if j < 0:
            continue
        row, segment, _, channel = space.parts(menu[j])
        terms = space.grid.terms.slice(row, 1).to_pylist()[0]
        has = {
            "mechanics": terms["mechanic"],
            "channels": channel.name,
            "segments": segment,
            "scopes": terms["scope"] or "",
            "offer_ids": terms["offer_id"],
        }
        for k, budget in enumerate(budgets):
            wanted = {field: getattr(budget, field) for field in has}
            if all(names is None or has[f] in names for f, names in wanted.items()):
                spent[k] += cost[i, j] if budget.measure == "money" else 1.0
    over = zip(budgets, spent, limits, strict=True)
    return [b.name for b, used, limit in over if used > limit * (1 + 1e-9)]


def violations_of(space: MenuSpace, menu: Sequence[int]) -> list[str]:
    """Rules that a menu of variants breaks, by name."""
    rules = space.constraints
    terms = space.grid.terms.to_pylist()
    rows = [terms[space.parts(v)[0]] for v in menu]
    found = []
    if len(set(menu)) < len(menu):
        found.append("an offer twice")
    if len(menu) > (math.inf if rules.max_offers is None else rules.max_offers):
        found.append("max_offers")
    for row in rows:
        depth = _depth(row)
        if depth > 0 and rules.max_depth_rate is not None and depth > rules.max_depth_rate + 1e-6:
            found.append("max_depth_rate")
        if depth > 0 and rules.min_margin_rate is not None and isinstance(rules.margin_rate, dict):
            margins: dict[str, float] = rules.margin_rate
            margin = margins.get(row["scope"] or "", margins[""])
            # of what is paid, at least the floor must be left
            if margin - depth < rules.min_margin_rate * (1 - depth) - 1e-6:
                found.append("min_margin_rate")
        if rules.mechanics is not None and row["mechanic"] not in rules.mechanics:
            found.append("mechanics")
    for a, b in itertools.combinations(rows, 2):
        for first, second in rules.forbidden_pairs:
            if (_is(a, first) and _is(b, second)) or (_is(b, first) and _is(a, second)):
                found.append("forbidden_pairs")
    for group in rules.exclusive_groups:
        if sum(any(_is(row, name) for name in group) for row in rows) > 1:
            found.append("exclusive_groups")
    return found


def _is(row: Mapping[str, Any], name: str) -> bool:
    return name in (row["offer_id"], row["mechanic"])


def _depth(row: Mapping[str, Any]) -> float:
    if row["depth_rate"] is not None:
        return float(row["depth_rate"])
    return float(row["amount"]) / (row["threshold"] or BASKETS[row["scope"] or ""])


def count_violations(n_sets: int, seed: int = 0) -> dict[str, Any]:
    """Violations in random menus, decoded and repaired, under random rules and budgets.

    One menu of each set is allocated to users, and what it spends is counted by hand.
    """
    n_menus = n_broken = n_unstable = n_overspent = 0
    spaces = [random_space(seed + i) for i in range(50)]
    for i in range(n_sets):
        space = spaces[i % len(spaces)]
        space = space.under(random_constraints(seed + i, space))
        box = space.space
        u = stream(seed + i, "bench.genes").random((_N_MENUS, box.n_genes))
        lower, upper = np.array(box.lower) - 0.5, np.array(box.upper) + 0.5
        x = box.snap(torch.from_numpy(lower + u * (upper - lower)).float())
        menus = space.decode(x)
        n_unstable += int(not torch.equal(box.snap(x), x))
        for row in menus.tolist():
            n_menus += 1
            n_broken += bool(violations_of(space, [v for v in row if v >= 0]))
        budgets, menu = random_budgets(seed + i, space), [v for v in menus[0].tolist() if v >= 0]
        n_overspent += bool(overspent(space, budgets, menu, seed + i))
    return {
        "n_sets": n_sets,
        "n_menus": n_menus,
        "n_menus_that_break_a_rule": n_broken,
        "n_allocations_over_a_budget": n_overspent,
        "n_repairs_that_change_repaired_ones": n_unstable,
    }
