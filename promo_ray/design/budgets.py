"""Budgets of a menu: what each measures, and which offers it covers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from promo_ray.design.genome import MenuSpace
from promo_ray.design.native import MAX_BUDGETS
from promo_ray.errors import ConfigError

_MOST = float(np.finfo(np.float64).max)  # an integer above it is no float
_MEASURES = ("money", "contacts")
_FIELDS = ("mechanics", "channels", "segments", "scopes", "offer_ids")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A limit on what the offers of a menu use together; several may cover the same offers.

    An offer is covered if every field that is not None names what it has.

    Attributes:
        limit: > 0, in what is measured.
        name: for messages and results.
        measure: `money` = expected cost, currency units; `contacts` = 1 for each offer given.
        mechanics, channels, segments, offer_ids: names as the space has them; None = all.
        scopes: category paths, "" = the whole basket; None = all.

    Raises:
        ConfigError: a field out of range; it and the budget are named.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    limit: float
    name: str = "budget"
    measure: str = "money"
    mechanics: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None
    segments: tuple[str, ...] | None = None
    scopes: tuple[str, ...] | None = None
    offer_ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"name of a budget must be a text, not empty; got {self.name!r}")
        own = f"of budget {self.name!r} must be"
        if not _is_limit(self.limit):
            raise ConfigError(f"limit {own} > 0 and finite; got {self.limit!r}")
        if self.measure not in _MEASURES:
            raise ConfigError(f"measure {own} of {', '.join(_MEASURES)}; got {self.measure!r}")
        for field in _FIELDS:
            names = getattr(self, field)
            if names is None:
                continue
            if isinstance(names, str) or not isinstance(names, Collection) or not len(names):
                raise ConfigError(f"{field} {own} a list of names, or None; got {names!r}")
            # sorted, as the order of a set differs between processes
            own_order = sorted(names) if isinstance(names, Set) else names
            object.__setattr__(self, field, tuple(own_order))


Budgets = float | Budget | Mapping[str, float | Budget] | Sequence[Budget] | None


def _is_limit(value: Any) -> bool:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return is_number and bool(0 < value <= _MOST)


def budgets_of(given: Budgets, where: str = "budgets") -> tuple[Budget, ...]:
    """Budgets, each by a name of its own; none = unlimited.

    Args:
        given: limit in money on all offers, one budget, several, or by name; None = unlimited.
        where: name of the argument, for errors.

    Raises:
        ConfigError: a limit out of range, something else than a budget, or a name twice.
    """
    if given is None:
        return ()
    if isinstance(given, Budget):
        return (given,)
    if isinstance(given, Mapping):
        found = [
            replace(b, name=name) if isinstance(b, Budget) else Budget(limit=b, name=name)
            for name, b in given.items()
        ]
    elif isinstance(given, Sequence) and not isinstance(given, str):
        found = list(given)
    elif _is_limit(given):
        found = [Budget(limit=float(given))]
    else:
        raise ConfigError(f"{where} must be > 0 and finite, or None; got {given!r}")
    for budget in found:
        if not isinstance(budget, Budget):
            raise ConfigError(f"{where} must be of Budget; got {budget!r}")
    if len(found) > MAX_BUDGETS:
        raise ConfigError(f"{where} must be at most {MAX_BUDGETS}; got {len(found)}")
    names = [b.name for b in found]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"{where} must be at least one, each of another name; got {names}")
    return tuple(found)


@dataclass(frozen=True, eq=False)
class BudgetRows:
    """Budgets on the variants of a space.

    Attributes:
        names: `(K,)` of the budgets.
        limit: `(K,)` float64 over the number of users.
        is_money: `(K,)` bool, else contacts.
        covers: `(K, variants)` bool.
    """

    names: tuple[str, ...]
    limit: NDArray[np.float64]
    is_money: NDArray[np.bool_]
    covers: NDArray[np.bool_]

    def use(self, offers: NDArray[np.int64], cost: NDArray[Any]) -> NDArray[Any]:
        """`(K, m, n)` use of each budget when users get offers of cost `(m, n)`; dtype of cost."""
        measured = np.where(self.is_money[:, None, None], cost, cost.dtype.type(1))
        return np.where(self.covers[:, offers, None], measured, cost.dtype.type(0))

    def key(self) -> str:
        """Text that tells these limits from others."""
        covers = np.packbits(self.covers, axis=None).tobytes()
        return repr((self.limit.tolist(), self.is_money.tolist(), covers))


def rows_of(given: float | BudgetRows | None, n_offers: int) -> BudgetRows:
    """Budgets on variants; a number limits the money per user on all of them.

    Raises:
        ConfigError: a number that is negative or NaN, too many budgets, or of other variants.
    """
    if isinstance(given, BudgetRows):
        if len(given.names) > MAX_BUDGETS:
            raise ConfigError(f"budgets must be at most {MAX_BUDGETS}; got {len(given.names)}")
        if given.covers.shape[1] != n_offers:
            raise ConfigError(
                f"budgets must be of {n_offers} variants; got {given.covers.shape[1]}"
            )
        return given
    if given is not None and not given >= 0:
        raise ConfigError(f"budget_per_user must be >= 0; got {given}")
    k = 0 if given is None else 1
    limit = np.array([] if given is None else [given], dtype=np.float64)
    return BudgetRows(
        ("budget",) * k, limit, np.ones(k, dtype=bool), np.ones((k, n_offers), dtype=bool)
    )


def rows_on(space: MenuSpace, budgets: Sequence[Budget]) -> BudgetRows:
    """Budgets, limits per user, on the variants of a space.

    Raises:
        ConfigError: a name that the space does not have, or a budget that covers no offer.
    """
    row, segment, _, channel = space.axes_of(np.arange(space.n_offers))
    terms = space.grid.terms
    scopes = ["" if s is None else s for s in terms["scope"].to_pylist()]
    axes: dict[str, tuple[Sequence[str], NDArray[np.int64]]] = {
        "mechanics": (terms["mechanic"].to_pylist(), row),
        "channels": ([c.name for c in space.channels], channel),
        "segments": (space.segments, segment),
        "scopes": (scopes, row),
        "offer_ids": (space.grid.offer_ids, row),
    }
    covers = np.ones((len(budgets), space.n_offers), dtype=bool)
    for k, budget in enumerate(budgets):
        for field, (known, place) in axes.items():
            names = getattr(budget, field)
            if names is None:
                continue
            for name in names:
                if name not in known:
                    raise ConfigError(
                        f"{field} of budget {budget.name!r} must be of the space; got {name!r}"
                    )
            covers[k] &= np.isin(known, names)[place]
        if not covers[k].any():
            raise ConfigError(f"budget {budget.name!r} must cover an offer; it covers none")
    return BudgetRows(
        tuple(b.name for b in budgets),
        np.array([b.limit for b in budgets], dtype=np.float64),
        np.array([b.measure == "money" for b in budgets], dtype=bool),
        covers,
    )
