"""Which constraints cost a menu value, and what relaxing each would bring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from promo_ray.design.budgets import Budget
from promo_ray.design.constraints import Constraints
from promo_ray.design.fitness import MenuFitness, padded
from promo_ray.design.genome import MenuSpace
from promo_ray.design.local import Menu, neighbors
from promo_ray.errors import ConfigError

_MOST_PER_RULE = 2_000  # menus tried per constraint


class Binding(NamedTuple):
    """A constraint that costs value.

    Attributes:
        constraint: its field, as in `Constraints` or `budget`.
        detail: which part of it, or how it would be relaxed.
        gain: value per user that one step beyond it brings at least, on users that the search
            never saw; of a budget: value of one more unit of what it measures.
        menu: the menu of that step; the present one for a budget.
    """

    constraint: str
    detail: str
    gain: float
    menu: Menu


def binding_rules(
    space: MenuSpace, menu: Menu, search: MenuFitness, held_out: MenuFitness
) -> list[Binding]:
    """Constraints that bind at a menu, the costliest first behind the budgets.

    Each constraint is dropped in turn; the menu one step away (see `local.neighbors`) that is
    best on the search sample is valued on other users. A gain there is a lower bound of what
    relaxing would bring, and none is no proof that a constraint is free. A constraint that cannot
    be dropped alone, as what it bars has no margin or basket named, is not tried.

    Args:
        space: where the menu was found.
        menu: the winner.
        search: fitness on the users of the search.
        held_out: fitness on others.
    """
    now = held_out.scores(padded([menu]))
    budgets = held_out.budgets
    found = [
        Binding("budget", _budget_words(name, is_money), price, menu)
        for name, is_money, price in zip(
            budgets.names, budgets.is_money, now.price[0].tolist(), strict=True
        )
        if price > 0
    ]
    bindings = []
    for name, detail, relaxed in _relaxations(space):
        best = None if relaxed is None else _best_step(space, relaxed, menu, search)
        if best is None:
            continue
        gain = float(held_out(padded([best]))[0]) - float(now.value[0])
        if gain > 0:
            bindings.append(Binding(name, detail, gain, best))
    return found + sorted(bindings, key=lambda b: -b.gain)


def _budget_words(name: str, is_money: bool) -> str:
    words = f"value of one more {'unit of money' if is_money else 'contact'}"
    return words if name == Budget.name else f"{name}: {words}"


def _best_step(
    space: MenuSpace, relaxed: MenuSpace, menu: Menu, search: MenuFitness
) -> Menu | None:
    """The best menu one step away that only the relaxed space allows, if it is better."""
    rows = np.arange(len(space.grid))
    step = max(1, -(-len(rows) * (len(menu) + 1) // _MOST_PER_RULE))
    pool = [space.variant(int(row)) for row in rows[::step]]
    near = neighbors(relaxed, menu, pool)
    if not near:
        return None
    kept = space.mend(padded(near)).tolist()
    # what the present rules would change is what only the relaxed ones allow
    new = [m for m, row in zip(near, kept, strict=True) if list(m) != [v for v in row if v >= 0]]
    if not new:
        return None
    new = new[:: -(-len(new) // _MOST_PER_RULE)]
    values = search(padded([menu, *new]))
    at = int(values.argmax())
    return None if at == 0 else new[at - 1]


def _relaxations(space: MenuSpace) -> Iterator[tuple[str, str, MenuSpace | None]]:
    """Each constraint, what is relaxed, and the space without it; None = there is none."""
    now = space.constraints
    yield "max_offers", f"{space.max_offers + 1} offers", space.with_one_more()
    for name, free in (
        ("max_depth_rate", None),
        ("min_margin_rate", None),
        ("mechanics", None),
        ("support", "any"),
    ):
        if getattr(now, name) not in (None, free):
            yield name, f"none instead of {getattr(now, name)}", _without(space, name, free)
    for name in ("forbidden_pairs", "exclusive_groups"):
        parts = tuple(getattr(now, name))
        for i, part in enumerate(parts):
            rest = parts[:i] + parts[i + 1 :]
            yield name, " with ".join(part), _without(space, name, rest)


def _without(space: MenuSpace, name: str, value: object) -> MenuSpace | None:
    relaxed: Constraints = replace(space.constraints, **{name: value})  # type: ignore[arg-type]
    try:
        return space.under(relaxed)
    except ConfigError:  # what it would let in needs a basket or margin that nobody named
        return None
