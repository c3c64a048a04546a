"""Model features of users: the same columns and the same bits in every shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promo_ray.errors import ConfigError, DataError
from promo_ray.profiles.exact import part_sums, part_values
from promo_ray.registry import register

# heavy tails: ln(1 + value)
LOG_COLUMNS = (
    "recency_days",
    "frequency",
    "monetary",
    "basket_median",
    "units_per_order",
    "tenure_days",
    "n_categories",
    "n_views",
    "orders_28d",
    "orders_91d",
    "gap_mean_days",
)
PLAIN_COLUMNS = ("deal_share", "return_share", "weekend_share", "price_sensitivity")
_OTHER = "(other)"


@dataclass(frozen=True, kw_only=True)
class NumericFeature:
    """One number; `fill` (after the logarithm) stands where it is missing."""

    column: str
    is_log: bool
    fill: float
    has_indicator: bool  # adds x_is_missing_<column>


@dataclass(frozen=True, kw_only=True)
class CategoricalFeature:
    """One 0/1 column per level; `has_other` adds one for every level that is not listed."""

    column: str
    levels: tuple[str, ...]
    has_other: bool
    has_missing: bool


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """What `feature_matrix` makes, in order."""

    numeric: tuple[NumericFeature, ...] = ()
    categorical: tuple[CategoricalFeature, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the feature columns, in order."""
        names = []
        for number in self.numeric:
            names.append(f"x_{number.column}")
            if number.has_indicator:
                names.append(f"x_is_missing_{number.column}")
        for category in self.categorical:
            levels = [*category.levels, *([_OTHER] if category.has_other else [])]
            names += [f"x_{category.column}={level}" for level in levels]
            if category.has_missing:
                names.append(f"x_is_missing_{category.column}")
        return tuple(names)


class NumericStats(NamedTuple):
    """Statistics of m numeric columns.

    Attributes:
        n_observed: `(m,)` int64 rows with a value.
        n_missing: `(m, m)` int64 rows where both columns are missing.
        parts: `(4, m)` int64 integer parts of the sums.
        low: `(m,)` float64 smallest value.
        high: `(m,)` float64 largest value.
    """

    n_observed: NDArray[np.int64]
    n_missing: NDArray[np.int64]
    parts: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class FeatureStats(NamedTuple):
    """Columns found, their numeric statistics, and counts of levels (None = missing)."""

    columns: tuple[str, ...]
    numeric: NumericStats
    levels: Mapping[str, Mapping[str | None, int]]


@register("features")
@dataclass(frozen=True, kw_only=True)
class Features:
    """Finds the `FeatureSpec` of a sharded table of `user_table` (with `price_sensitivity`).

    Behavior columns and numeric `attr_*` become numbers, string `attr_*` 0/1 columns for the
    most frequent levels (ties by name), `protected_*` nothing. Missing numbers are filled with
    the mean over all users and marked, once for all columns that are missing for the same users.
    A column that never varies is left out.
    """

    max_levels: int = 20  # listed levels of a string attribute
    max_distinct: int = 10_000  # distinct levels above which an attribute is refused

    def __post_init__(self) -> None:
        if not 1 <= self.max_levels <= self.max_distinct:
            raise ConfigError(
                "1 <= max_levels <= max_distinct must hold; "
                f"got {self.max_levels!r} and {self.max_distinct!r}"
            )

    def init(self, seed: int) -> FeatureSpec | None:
        """No spec before the pass; the seed is not used."""
        return None

    def partial(self, shard: pa.Table, state: FeatureSpec | None) -> FeatureStats:
        """Statistics of one shard."""
        columns = _numeric_columns(shard)
        x = np.empty((shard.num_rows, len(columns)))
        for j, column in enumerate(columns):
            x[:, j] = _number(shard, column, is_log=column in LOG_COLUMNS)
        missing = np.isnan(x)
        numeric = NumericStats(
            (~missing).sum(axis=0),
            missing.T.astype(np.int64) @ missing.astype(np.int64),
            part_sums(np.where(missing, 0.0, x)),
            np.where(missing, np.inf, x).min(axis=0, initial=np.inf),
            np.where(missing, -np.inf, x).max(axis=0, initial=-np.inf),
        )
        levels = {c: dict(Counter(shard.column(c).to_pylist())) for c in _string_columns(shard)}
        return FeatureStats(columns, numeric, levels)

    def merge(self, a: FeatureStats, b: FeatureStats) -> FeatureStats:
        """Statistics of both.

        Raises:
            DataError: shards have other columns, or an attribute has too many levels.
        """
        if a.columns != b.columns or list(a.levels) != list(b.levels):
            raise DataError("shards must have the same columns of the same types", where="features")
        x, y = a.numeric, b.numeric
        numeric = NumericStats(
            x.n_observed + y.n_observed,
            x.n_missing + y.n_missing,
            x.parts + y.parts,
            np.minimum(x.low, y.low),
            np.maximum(x.high, y.high),
        )
        levels = {c: dict(Counter(a.levels[c]) + Counter(b.levels[c])) for c in a.levels}
        for column, counts in levels.items():
            self._check_levels(column, len(counts))
        return FeatureStats(a.columns, numeric, levels)

    def update(self, state: FeatureSpec | None, stats: FeatureStats) -> FeatureSpec:
        """The spec."""
        x = stats.numeric
        means = part_values(x.parts) / np.maximum(x.n_observed, 1)
        is_kept = (x.n_observed > 0) & ((x.high > x.low) | (x.n_missing.diagonal() > 0))
        is_marked = _first_of_pattern(x.n_missing, is_kept)
        numeric = tuple(
            NumericFeature(
                column=column,
                is_log=column in LOG_COLUMNS,
                fill=float(means[j]),
                has_indicator=bool(is_marked[j]),
            )
            for j, column in enumerate(stats.columns)
            if is_kept[j]
        )
        categorical = [self._category(c, counts) for c, counts in stats.levels.items()]
        return FeatureSpec(numeric=numeric, categorical=tuple(c for c in categorical if c))

    def done(self, state: FeatureSpec | None) -> bool:
        """Whether the spec is there."""
        return state is not None

    def _check_levels(self, column: str, n: int) -> None:
        if n > self.max_distinct:
            raise DataError(
                f"column {column!r} must have at most {self.max_distinct} levels; got {n}",
                where="users",
            )

    def _category(self, column: str, counts: Mapping[str | None, int]) -> CategoricalFeature | None:
        self._check_levels(column, len(counts))
        if len(counts) < 2:
            return None
        known = sorted((-n, level) for level, n in counts.items() if level is not None)
        return CategoricalFeature(
            column=column,
            levels=tuple(level for _, level in known[: self.max_levels]),
            has_other=len(known) > self.max_levels,
            has_missing=None in counts,
        )


def _first_of_pattern(n_missing: NDArray[np.int64], is_kept: NDArray[np.bool_]) -> list[bool]:
    """Which kept columns are the first to be missing for just their rows."""
    own = n_missing.diagonal()
    is_first = []
    for j in range(len(own)):
        same = (own[:j] == own[j]) & (n_missing[:j, j] == own[j]) & is_kept[:j]
        is_first.append(bool(is_kept[j] and own[j] > 0 and not same.any()))
    return is_first


def feature_matrix(
    table: pa.Table, spec: FeatureSpec
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Features of one shard.

    Args:
        table: a table of `user_table`, with `price_sensitivity` if the spec has it.
        spec: final state of `Features`.

    Returns:
        Names, and `(n, d)` float64 without a missing value. A level that the spec does not know
        gives 0 in every column of its attribute, or 1 in `(other)`.

    Raises:
        DataError: a column of the spec is missing.
    """
    columns: list[NDArray[np.float64]] = []
    for number in spec.numeric:
        value = _number(table, number.column, is_log=number.is_log)
        missing = np.isnan(value)
        columns.append(np.where(missing, number.fill, value))
        if number.has_indicator:
            columns.append(missing.astype(np.float64))
    for category in spec.categorical:
        value = _column(table, category.column)
        is_null = value.is_null().to_numpy()
        flags = [pc.equal(value, level).fill_null(False).to_numpy() for level in category.levels]
        columns += [flag.astype(np.float64) for flag in flags]
        if category.has_other:
            listed = np.logical_or.reduce(flags)
            columns.append((~listed & ~is_null).astype(np.float64))
        if category.has_missing:
            columns.append(is_null.astype(np.float64))
    if not columns:
        return (), np.zeros((table.num_rows, 0))
    return spec.names, np.stack(columns, axis=1)


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise DataError(f"column {name!r} must be present", where="features")
    return table.column(name)


def _number(table: pa.Table, name: str, *, is_log: bool) -> NDArray[np.float64]:
    column = _column(table, name)
    value = np.ascontiguousarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    value = np.where(np.isfinite(value), value, np.nan)
    return np.log1p(np.maximum(value, 0.0)) if is_log else value


def _numeric_columns(table: pa.Table) -> tuple[str, ...]:
    behavior = [c for c in (*LOG_COLUMNS, *PLAIN_COLUMNS) if c in table.column_names]
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    attributes = sorted(
        f.name
        for f in table.schema
        if f.name.startswith("attr_") and any(test(f.type) for test in numbers)
    )
    return (*behavior, *attributes)


def _string_columns(table: pa.Table) -> list[str]:
    kinds = (pa.types.is_string, pa.types.is_large_string)
    return sorted(
        f.name
        for f in table.schema
        if f.name.startswith("attr_") and any(test(f.type) for test in kinds)
    )
