"""Users a menu is designed for, and their columns in a space of menus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promo_ray.design.columns import Channel, Columns, Predicted, Surface, Variants
from promo_ray.design.genome import EVERYONE, MenuSpace
from promo_ray.errors import DataError

_FEWEST_USERS = 8


@dataclass(frozen=True, eq=False)
class MenuUsers:
    """Users a menu is designed for.

    Attributes:
        x: `(n, d)` float64 features as in the fit of the surface.
        basket: `(n,)` float64 median order value, currency units; NaN = unknown.
        segments: `(n,)` bool members of each segment, by name.
        reach: `(n,)` bool whom a channel reaches, by its name; all where it is missing.

    Raises:
        DataError: no user, a segment without members, or an array of another length.
    """

    x: NDArray[np.float64]
    basket: NDArray[np.float64]
    segments: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    reach: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.x)
        if n < _FEWEST_USERS:
            raise DataError(f"must hold at least {_FEWEST_USERS} users; got {n}", where="users")
        named: dict[str, NDArray[Any]] = {"basket": self.basket}
        named |= {f"segments.{k}": v for k, v in self.segments.items()}
        named |= {f"reach.{k}": v for k, v in self.reach.items()}
        for name, values in named.items():
            if np.shape(values) != (n,):
                raise DataError(f"must have {n} rows; got {np.shape(values)}", where=name)
        for name, members in self.segments.items():
            if not np.any(members):
                raise DataError("must have at least one user; the audience is empty",
                                where=f"segments.{name}")  # fmt: skip


def columns_of(
    surfaces: tuple[Surface, ...],
    users: MenuUsers,
    space: MenuSpace,
    rows: NDArray[np.int64],
    is_money: bool,
    robustness: float,
) -> Columns:
    """Columns of some of the users for every variant of a space; see `design_menu`.

    Raises:
        DataError: a segment of the space that the users do not have, or reach of a channel that
            a space with channels does not have.
    """
    channels = [c.name for c in space.channels]
    for name in users.reach:
        if space.channels != (Channel(),) and name not in channels:
            raise DataError(
                f"must be of a channel of the space, {', '.join(channels)}",
                where=f"users.reach.{name}",
            )
    base = Predicted(
        surfaces, users.x[rows], users.basket[rows], space.grid.terms, is_money, robustness
    )
    if space.n_offers == len(space.grid) and space.segments == (EVERYONE,):
        return base
    everyone = np.ones(len(users.x), dtype=bool)
    for name in space.segments:
        if name != EVERYONE and name not in users.segments:
            raise DataError(f"must have the segment {name!r} of the space", where="users.segments")
    members = [everyone if s == EVERYONE else users.segments[s] for s in space.segments]
    reach = [users.reach.get(c.name, everyone) for c in space.channels]
    return Variants(
        base,
        space.grid.terms["contact_cost"].to_numpy(),
        np.column_stack(members)[rows],
        np.column_stack(reach)[rows],
        space.windows,
        space.channels,
        is_money,
    )
