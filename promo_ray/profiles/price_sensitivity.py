"""How much cheaper than others a user buys, shrunken by how little is known of the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.profiles.exact import part_sums, part_values
from promo_ray.registry import register

_COLUMNS = ("price_lines", "price_log_mean", "price_log_ss")


class PriceModel(NamedTuple):
    """Variance components of ln(price paid / reference price) of purchase lines.

    Attributes:
        n_users: users with a priced line; -1 before the pass.
        n_lines: priced lines.
        mean: mean over lines.
        var_within: variance of lines around their user's level.
        var_between: variance of the users' levels.
    """

    n_users: int
    n_lines: int
    mean: float
    var_within: float
    var_between: float


class PriceStats(NamedTuple):
    """Counts, sum of squared line counts, and integer parts `(4, 3)` of n y, n y**2 and ss."""

    n_users: int
    n_lines: int
    n_squared: int
    parts: NDArray[np.int64]


@register("price_sensitivity")
@dataclass(frozen=True)
class PriceSensitivity:
    """Empirical-Bayes level of the relative price that a user pays.

    Line l of user u has y_ul = ln(price paid / reference price) = mu + b_u + e_ul, with b_u of
    variance `var_between` and e_ul of variance `var_within`. With n_u lines of mean y_u and
    ss_u = sum over l of (y_ul - y_u)**2, over U users and N lines, the analysis of variance gives

        var_within  = sum ss_u / (N - U)
        var_between = max(0, (sum n_u (y_u - mu)**2 / (U - 1) - var_within) / n_0)
        n_0         = (N - sum n_u**2 / N) / (U - 1)

    and the best linear predictor of the user's level is

        b_u = (y_u - mu) * n_u var_between / (n_u var_between + var_within).

    b_u < 0: buys cheaper than the average line, so prices matter to this user; -0.1 is about 10 %
    cheaper. b_u > 0: pays more. It needs no exposure data: what a user passed over is not logged.

    Source: Searle, Casella and McCulloch 1992, Variance Components, sections 3.6 and 7.
    """

    def init(self, seed: int) -> PriceModel:
        """State before the pass; the seed is not used."""
        return PriceModel(-1, 0, 0.0, 0.0, 0.0)

    def partial(self, shard: pa.Table, state: PriceModel) -> PriceStats:
        """Sums of one shard, a table of `user_table`."""
        n, mean, ss = _columns(shard)
        seen = n > 0
        n, mean, ss = n[seen], mean[seen], ss[seen]
        parts = part_sums(np.stack([n * mean, n * (mean * mean), ss], axis=1))
        return PriceStats(len(n), int(n.sum()), int((n * n).sum()), parts)

    def merge(self, a: PriceStats, b: PriceStats) -> PriceStats:
        """Sums of both."""
        return PriceStats(
            a.n_users + b.n_users,
            a.n_lines + b.n_lines,
            a.n_squared + b.n_squared,
            a.parts + b.parts,
        )

    def update(self, state: PriceModel, stats: PriceStats) -> PriceModel:
        """Variance components; 0 where the data cannot tell them."""
        n_users, n_lines = stats.n_users, stats.n_lines
        if n_users < 2 or n_lines == n_users:
            return PriceModel(n_users, n_lines, 0.0, 0.0, 0.0)
        total, squares, within = (float(v) for v in part_values(stats.parts))
        mean = total / n_lines
        var_within = within / (n_lines - n_users)
        mean_square = max(0.0, squares - total * mean) / (n_users - 1)
        n_0 = (n_lines - stats.n_squared / n_lines) / (n_users - 1)
        var_between = max(0.0, (mean_square - var_within) / n_0)
        return PriceModel(n_users, n_lines, mean, var_within, var_between)

    def done(self, state: PriceModel) -> bool:
        """Whether the pass is over."""
        return state.n_users >= 0


def price_sensitivity(table: pa.Table, model: PriceModel) -> pa.Array:
    """Shrunken level b_u of each user, see `PriceSensitivity`; <= 0 is sensitive.

    Args:
        table: a table of `user_table`.
        model: final state of `PriceSensitivity`.

    Returns:
        `(n,)` float64 in log price units; null for users without a priced line.
    """
    n, mean, _ = _columns(table)
    signal = n * model.var_between
    noise = signal + model.var_within
    weight = np.divide(signal, noise, out=np.zeros_like(signal), where=noise > 0)
    level = (mean - model.mean) * weight
    return pa.array(np.where(n > 0, level, 0.0), mask=n == 0)


def _columns(
    table: pa.Table,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    for name in _COLUMNS:
        if name not in table.column_names:
            raise DataError(f"column {name!r} must be present", where="price_sensitivity")
    n, mean, ss = (np.nan_to_num(table.column(c).to_numpy().astype(np.float64)) for c in _COLUMNS)
    return n, mean, ss
