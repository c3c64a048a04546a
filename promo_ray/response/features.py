"""Features of any kind as finite numbers: missing values and categories, learned at the fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import DataError

Floats = NDArray[np.float64]

_MAX_LEVELS = 20  # flags per column of texts; rarer levels share "none of these"


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A column of numbers.

    Attributes:
        fill: value in place of a missing one, the median.
        is_flagged: whether a second column says where a value was missing.
    """

    fill: float
    is_flagged: bool


@dataclass(frozen=True, kw_only=True)
class Levels:
    """A column of texts.

    Attributes:
        names: levels with a flag each, the most frequent first.
    """

    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """How columns become numbers.

    Attributes:
        columns: one entry per column of the raw features.
        names: of the columns, if they came in a frame.
    """

    columns: tuple[Numbers | Levels, ...]
    names: tuple[str, ...] = ()

    @classmethod
    def fit(cls, x: ArrayLike) -> Encoder:
        """Encoder of `(n, d)` features: numbers, NaN or None = missing, or texts.

        Raises:
            DataError: no matrix, infinite values, or a column without any value.
        """
        raw = _matrix(x)
        columns = tuple(_column(raw[:, j], j) for j in range(raw.shape[1]))
        return cls(columns=columns, names=_names(x))

    def transform(self, x: ArrayLike) -> Floats:
        """`(n, p)` float64, finite; a level that was not in the fit has no flag.

        Raises:
            DataError: another number or other names of columns than in the fit, infinite values,
                or texts in a column of numbers.
        """
        names = _names(x)
        if names and self.names and names != self.names:
            text = f"must have the columns {', '.join(self.names)}; got {', '.join(names)}"
            raise DataError(text, where="x")
        raw = _matrix(x)
        if raw.shape[1] != len(self.columns):
            raise DataError(f"must have {len(self.columns)} columns; got {raw.shape[1]}", where="x")
        parts: list[Floats] = []
        for j, column in enumerate(self.columns):
            if isinstance(column, Levels):
                texts = _texts(raw[:, j])
                parts.extend((texts == name).astype(np.float64) for name in column.names)
                continue
            values = _numbers(raw[:, j], j)
            is_missing = np.isnan(values)
            parts.append(np.where(is_missing, column.fill, values))
            if column.is_flagged:
                parts.append(is_missing.astype(np.float64))
        return np.column_stack(parts) if parts else np.zeros((len(raw), 0))


def _matrix(x: ArrayLike) -> NDArray[Any]:
    raw = np.asarray(x)
    if raw.dtype.kind in "US" and not isinstance(x, np.ndarray):
        raw = np.asarray(x, dtype=object)  # numbers beside texts stay numbers
    if raw.ndim != 2:
        raise DataError(f"must have two dimensions; got {raw.ndim}", where="x")
    return raw


def _names(x: ArrayLike) -> tuple[str, ...]:
    return tuple(str(name) for name in x.columns) if isinstance(x, pd.DataFrame) else ()


def _column(raw: NDArray[Any], j: int) -> Numbers | Levels:
    if raw.dtype.kind in "OUS" and any(isinstance(v, str) for v in raw.tolist()):
        texts = _texts(raw)
        names, counts = np.unique(texts[texts != ""], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:_MAX_LEVELS]
        return Levels(names=tuple(str(n) for n in names[order]))
    values = _numbers(raw, j)
    is_missing = np.isnan(values)
    if len(values) and is_missing.all():
        raise DataError(f"column {j} must hold a value; all are missing", where="x")
    fill = float(np.median(values[~is_missing])) if len(values) else 0.0
    return Numbers(fill=fill, is_flagged=bool(is_missing.any()))


def _texts(raw: NDArray[Any]) -> NDArray[np.str_]:
    return np.array(["" if v is None or v != v else str(v) for v in raw.tolist()], dtype=np.str_)


def _numbers(raw: NDArray[Any], j: int) -> Floats:
    try:
        values = raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"column {j} must be numbers ({error})", where="x") from error
    if np.isinf(values).any():
        raise DataError(f"column {j} must be finite or missing", where="x")
    return values
