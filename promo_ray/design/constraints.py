"""Rules that every menu keeps: which offers may be in it, and which may not stand together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from promo_ray.design.grid import OfferGrid, place_of, size_of
from promo_ray.errors import ConfigError

_SUPPORT = ("any", "between", "tried")
_EDGE = 1e-9  # what rounding may add to a depth


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Guardrails of a menu. Offers are named by id, or all of a mechanic by its name.

    Attributes:
        max_offers: offers in a menu at most, >= 1; None = as many as the space has slots.
        max_depth_rate: largest discount as a share of the order, in [0, 1]; None = no limit.
        min_margin_rate: margin that must be left after the discount, as a share of what is paid,
            in [0, 1); None = no floor.
        margin_rate: margin before the discount as a share of the price, below 1: of all, or by
            scope with the key "" for the whole basket; needed for `min_margin_rate`.
        typical_basket: order, in currency units, that an amount off is held against: of all, or by
            scope what is spent in it, with the key "" for the whole basket; needed where a limit
            of depth or margin meets offers of an amount off without threshold, of each scope.
        mechanics: mechanics allowed; None = all.
        support: `any`; `between` = offers within the range of what was tried; `tried` = offers
            that were tried.
        forbidden_pairs: pairs of offers that must not stand in one menu.
        exclusive_groups: of each group at most one offer stands in a menu; groups must not
            overlap.

    Raises:
        ConfigError: a setting out of range, groups that overlap, or a pair of an offer with
            itself.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    max_offers: int | None = None
    max_depth_rate: float | None = None
    min_margin_rate: float | None = None
    margin_rate: float | Mapping[str, float] | None = None
    typical_basket: float | Mapping[str, float] | None = None
    mechanics: tuple[str, ...] | None = None
    support: str = "any"
    forbidden_pairs: tuple[tuple[str, str], ...] = ()
    exclusive_groups: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.max_offers is not None and self.max_offers < 1:
            raise ConfigError(f"max_offers must be >= 1; got {self.max_offers}")
        if self.max_depth_rate is not None and not 0 <= self.max_depth_rate <= 1:
            raise ConfigError(f"max_depth_rate must be in [0, 1]; got {self.max_depth_rate}")
        if self.min_margin_rate is not None:
            if not 0 <= self.min_margin_rate < 1:
                raise ConfigError(f"min_margin_rate must be in [0, 1); got {self.min_margin_rate}")
            if self.margin_rate is None:
                raise ConfigError("margin_rate must be given with min_margin_rate; got none")
        for rate in _by_scope(self.margin_rate).values():
            if not (math.isfinite(rate) and rate < 1):
                raise ConfigError(f"margin_rate must be finite and < 1; got {rate}")
        for basket in _by_scope(self.typical_basket).values():
            if not 0 < basket < math.inf:
                raise ConfigError(f"typical_basket must be finite and > 0; got {basket}")
        if self.support not in _SUPPORT:
            raise ConfigError(f"support must be one of {', '.join(_SUPPORT)}; got {self.support!r}")
        for pair in self.forbidden_pairs:
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ConfigError(f"forbidden_pairs must be of two different offers; got {pair!r}")
        seen: set[str] = set()
        for group in self.exclusive_groups:
            if len(group) != len(set(group)) or seen & set(group):
                both = sorted(seen & set(group)) or sorted(group)
                raise ConfigError(f"exclusive_groups must not overlap; {both[0]!r} is in two")
            seen |= set(group)

    @property
    def has_depth_limit(self) -> bool:
        """Some offers may be too deep."""
        return self.max_depth_rate is not None or self.min_margin_rate is not None


def _by_scope(given: float | Mapping[str, float] | None) -> Mapping[str, float]:
    return {} if given is None else given if isinstance(given, Mapping) else {"": given}


class Compiled(NamedTuple):
    """Constraints on the rows of a grid.

    Attributes:
        mended: `(g,)` int64 row that stands for each: itself if allowed, else the deepest allowed
            one of its mechanic, scope or items and threshold, else of any threshold; -1 = none.
        conflicts: `(g, g)` bool rows that must not stand together; None = no such rows. The
            diagonal holds where two variants of a row are one too many.
    """

    mended: NDArray[np.int64]
    conflicts: NDArray[np.bool_] | None


def compiled(constraints: Constraints, grid: OfferGrid) -> Compiled:
    """Tables of constraints for the rows of a grid.

    Raises:
        ConfigError: a name that is neither an offer nor a mechanic of the grid, groups that
            overlap on the grid, or a missing margin or basket.
    """
    rows = grid.terms.to_pylist()
    is_allowed = _allowed(constraints, grid, rows)
    mended = np.arange(len(rows), dtype=np.int64)
    for i in np.flatnonzero(~is_allowed).tolist():
        mended[i] = _mended(rows, is_allowed, i)
    return Compiled(mended, _conflicts(constraints, rows))


def depth_of(row: Mapping[str, Any], basket: float | Mapping[str, float] | None) -> float:
    """Largest discount of an offer as a share of what its scope's order is meant to be.

    Raises:
        ConfigError: an amount off without threshold and no typical basket of its scope.
    """
    if row["mechanic"] in ("percent_off", "product_bundle"):
        return float(row["depth_rate"] or 0.0)
    if row["threshold"]:
        return float(row["amount"] / row["threshold"])
    if row["amount"]:
        scope = row["scope"] or ""
        if scope not in _by_scope(basket):
            # what is spent in a category is less than the basket, so that does not stand in
            raise ConfigError(
                f"typical_basket must be given for scope {scope!r} to limit the depth of an amount "
                f"off; got {basket}"
            )
        return float(row["amount"] / _by_scope(basket)[scope])
    return 0.0


def depth_limit(constraints: Constraints, scope: str | None) -> float:
    """Deepest discount allowed in a scope: (1 - d) * floor <= margin - d, and the limit.

    Raises:
        ConfigError: no margin is known for the scope.
    """
    limit = 1.0 if constraints.max_depth_rate is None else constraints.max_depth_rate
    if constraints.min_margin_rate is None:
        return limit
    margins = _by_scope(constraints.margin_rate)
    margin = margins.get(scope or "", margins.get(""))
    if margin is None:
        raise ConfigError(f"margin_rate must be given for scope {scope or ''!r} or for ''")
    floor = constraints.min_margin_rate
    return min(limit, (margin - floor) / (1 - floor))


def _allowed(
    constraints: Constraints, grid: OfferGrid, rows: Sequence[Mapping[str, Any]]
) -> NDArray[np.bool_]:
    is_allowed = {
        "any": np.ones(len(rows), dtype=bool),
        "between": grid.is_between,
        "tried": grid.is_tried,
    }[constraints.support].copy()
    if constraints.mechanics is not None:
        known = {row["mechanic"] for row in rows}
        for name in constraints.mechanics:
            if name not in known:
                raise ConfigError(f"mechanics must be of {', '.join(sorted(known))}; got {name!r}")
        is_allowed &= np.array([row["mechanic"] in constraints.mechanics for row in rows])
    if constraints.has_depth_limit:
        for i in np.flatnonzero(is_allowed).tolist():
            row = rows[i]
            depth = depth_of(row, constraints.typical_basket)
            is_free = depth == 0.0  # it changes no price, so no floor is touched
            is_allowed[i] &= is_free or depth <= depth_limit(constraints, row["scope"]) + _EDGE
    return is_allowed


def _mended(rows: Sequence[Mapping[str, Any]], is_allowed: NDArray[np.bool_], i: int) -> int:
    mine = rows[i]
    alike = [
        j
        for j in np.flatnonzero(is_allowed).tolist()
        if place_of(rows[j]) == place_of(mine) and size_of(rows[j]) <= size_of(mine)
    ]
    near = [j for j in alike if rows[j]["threshold"] == mine["threshold"]] or alike
    return max(near, key=lambda j: (size_of(rows[j]), -j), default=-1)


def _conflicts(
    constraints: Constraints, rows: Sequence[Mapping[str, Any]]
) -> NDArray[np.bool_] | None:
    if not constraints.forbidden_pairs and not constraints.exclusive_groups:
        return None
    found = np.zeros((len(rows), len(rows)), dtype=bool)
    for pair in constraints.forbidden_pairs:
        a, b = (_named(rows, name, "forbidden_pairs") for name in pair)
        found[np.ix_(a, b)] = found[np.ix_(b, a)] = True
    taken: set[int] = set()
    for group in constraints.exclusive_groups:
        names = [_named(rows, name, "exclusive_groups") for name in group]
        members = list(itertools.chain.from_iterable(names))
        if taken & set(members) or len(set(members)) < len(members):
            raise ConfigError(f"exclusive_groups must not overlap; {list(group)!r} does")
        taken |= set(members)
        found[np.ix_(members, members)] = True
    return found


def _named(rows: Sequence[Mapping[str, Any]], name: str, field_name: str) -> list[int]:
    found = [i for i, row in enumerate(rows) if name in (row["offer_id"], row["mechanic"])]
    if not found:
        raise ConfigError(f"{field_name} must name offers or mechanics of the grid; got {name!r}")
    return found
