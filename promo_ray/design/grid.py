"""The grid of candidate offers: those that were tried, and good-looking ones in between."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.errors import ConfigError, DataError
from promo_ray.offers import Offer, from_terms
from promo_ray.offers.money import minor_digits

_DEPTH_STEP = 0.05  # shares off are told in steps of 5 %
_STEPS_BETWEEN = 5  # steps that an amount or threshold range is cut into, about


@dataclass(frozen=True)
class OfferGrid:
    """Candidate offers.

    Attributes:
        terms: one row per offer, schema `OFFER_TERMS`.
        is_tried: `(g,)` bool; False = no user ever got it, so nothing logged can prove it.
        is_between: `(g,)` bool; False = outside the range of what was tried, where a model can
            only guess.
        executable: offers, by id, that the columns of `terms` do not say in full.
    """

    terms: pa.Table
    is_tried: NDArray[np.bool_]
    is_between: NDArray[np.bool_]
    executable: Mapping[str, Offer] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.terms.num_rows)

    @property
    def offer_ids(self) -> tuple[str, ...]:
        """Ids in the order of the grid."""
        return tuple(self.terms.column("offer_id").to_pylist())

    def offers(self, currency: str) -> tuple[Offer, ...]:
        """Executable offers in the order of the grid."""
        return tuple(
            self.executable.get(row["offer_id"]) or from_terms(row, currency)
            for row in self.terms.to_pylist()
        )

    def where(self, kept: NDArray[np.bool_]) -> OfferGrid:
        """The offers for which `kept` `(g,)` holds."""
        terms = self.terms.filter(pa.array(kept))
        return OfferGrid(terms, self.is_tried[kept], self.is_between[kept], self.executable)

    def plus(self, rows: Sequence[Mapping[str, Any]], offers: Sequence[Offer]) -> OfferGrid:
        """The grid and offers that nobody ever got, as rows of terms and as shops execute them."""
        nothing = np.zeros(len(rows), dtype=bool)
        return OfferGrid(
            pa.concat_tables([self.terms, pa.Table.from_pylist(rows, schema=OFFER_TERMS)]),
            np.concatenate([self.is_tried, nothing]),
            np.concatenate([self.is_between, nothing]),
            {**self.executable, **{offer.id: offer for offer in offers}},
        )


def offer_grid(tried: pa.Table, support: str = "tried", currency: str = "USD") -> OfferGrid:
    """Candidates for a menu.

    Args:
        tried: offers of the campaign log, schema `OFFER_TERMS`, at least one.
        support: `tried` = these alone, each can be proven on the log; `between` = also depths,
            amounts and thresholds on good-looking steps between tried ones of the same mechanic,
            scope, items and cost of contact. A spend threshold in between gives a share of the
            threshold within the tried shares.
        currency: ISO 4217 code, for labels.

    Raises:
        ConfigError: unknown support.
        DataError: no offer, an id twice, or terms that are no offer.
    """
    if support not in ("tried", "between"):
        raise ConfigError(f"support must be tried or between; got {support!r}")
    rows = tried.select(OFFER_TERMS.names).to_pylist()
    if not rows:
        raise DataError("must have at least one offer", where="offers")
    ids = [row["offer_id"] for row in rows]
    if len(set(ids)) < len(ids):
        raise DataError("offer_id must be unique", where="offers")
    for row in rows:
        from_terms(row, currency)
    new = _between(rows, currency) if support == "between" else []
    terms = pa.Table.from_pylist([*rows, *new], schema=OFFER_TERMS)
    is_tried = np.arange(len(rows) + len(new)) < len(rows)
    return OfferGrid(terms, is_tried, np.ones(len(is_tried), dtype=bool))


def place_of(row: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """Mechanic, scope and items of an offer."""
    return row["mechanic"], row["scope"] or "", tuple(row["item_ids"] or ())


def size_of(row: Mapping[str, Any]) -> float:
    """Depth or amount of an offer, 0 if it has none."""
    return float(row["depth_rate"] or row["amount"] or 0.0)


def free_id(offer: Mapping[str, Any] | str, taken: set[str]) -> str:
    """An id that nothing else has, and takes it.

    Args:
        offer: row of `OFFER_TERMS` that is named by what it is, or an id that may be taken.
        taken: ids in use; the new one is added.
    """
    if isinstance(offer, str):
        name = offer
    else:
        numbers = (offer["depth_rate"], offer["amount"], offer["threshold"])
        scope = (offer["scope"] or "").rpartition(" > ")[2].replace(" ", "_")
        parts = [f"{v:g}" for v in numbers if v is not None] + [scope, *(offer["item_ids"] or ())]
        name = "-".join([offer["mechanic"], *(p for p in parts if p)])
    free = (name if k == 1 else f"{name}-{k}" for k in itertools.count(1))
    found = next(n for n in free if n not in taken)
    taken.add(found)
    return found


def minor_unit(currency: str) -> float:
    """The smallest amount of a currency, currency units."""
    return float(10.0 ** -minor_digits(currency))


def _between(rows: Sequence[Mapping[str, Any]], currency: str) -> list[dict[str, Any]]:
    """New rows between tried ones, sorted by id."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((*place_of(row), row["contact_cost"]), []).append(row)
    known = {_parameters(row) for row in rows}
    taken = {row["offer_id"] for row in rows}
    new: dict[str, dict[str, Any]] = {}
    for members in groups.values():
        for depth, amount, threshold in _points(members, minor_unit(currency)):
            row = {
                **members[0],
                "depth_rate": depth,
                "amount": amount,
                "threshold": threshold,
            }
            if _parameters(row) in known:
                continue
            known.add(_parameters(row))
            row["offer_id"] = free_id(row, taken)
            row["label"] = from_terms(row, currency).describe()
            new[row["offer_id"]] = row
    return [new[k] for k in sorted(new)]


def _parameters(row: Mapping[str, Any]) -> tuple[Any, ...]:
    numbers = [
        None if row[c] is None else round(row[c], 6) for c in ("depth_rate", "amount", "threshold")
    ]
    return (*numbers, *place_of(row), row["contact_cost"])


def _points(
    members: Sequence[Mapping[str, Any]], unit: float
) -> list[tuple[float | None, float | None, float | None]]:
    """`(depth_rate, amount, threshold)` on good-looking steps within the tried ranges."""

    def steps(column: str) -> list[float | None]:
        values = [row[column] for row in members if row[column] is not None]
        if not values:
            return [None]
        low, high = min(values), max(values)
        wide = max(nice_step((high - low) / _STEPS_BETWEEN), unit)
        step = _DEPTH_STEP if column == "depth_rate" else wide
        inner = [round(k * step, 6) for k in range(math.ceil(low / step), int(high / step) + 1)]
        # rounding must not carry a step out of the tried range
        return sorted({*values, *(v for v in inner if low <= v <= high)})

    points = itertools.product(steps("depth_rate"), steps("amount"), steps("threshold"))
    if members[0]["mechanic"] != "spend_threshold":
        return list(points)
    shares = [row["amount"] / row["threshold"] for row in members]
    low, high = min(shares) - 1e-9, max(shares) + 1e-9
    return [(d, a, t) for d, a, t in points if a and t and low <= a / t <= high]


def nice_step(width: float) -> float:
    """Smallest of 1, 2, 5 times a power of ten that is >= `width`; 1 for width 0."""
    if width <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= width * (1 - 1e-9))
