"""Real randomized trials for the uplift benchmark, with folds that anyone can recompute."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

N_FOLDS = 3
_HILLSTROM = ["recency", "history", "mens", "womens", "newbie", "zip_code", "channel"]
_GIFTS = [
    "highest_prev", "ltmedmra", "freq", "years", "year5", "months_since_last", "dormant",
    "female", "couple", "state50one", "nonlit", "cases", "perbush", "close25", "red0", "blue0",
    "redcty", "bluecty", "pwhite", "pblack", "page18_39", "ave_hh_sz", "median_hhincome",
    "powner", "psch_atlstba", "pop_propurban",
]  # fmt: skip


class Contrast(NamedTuple):
    """Rows of a trial.

    Attributes:
        name: trial, outcome and arm.
        x: `(n, d)` float64 features, missing values at the median of the column.
        arm: `(n,)` int64, 0 = control.
        outcome: `(n,)` float64.
        propensity: `(n,)` float64 share of the row's arm.
        folds: `(n,)` int64 in [0, 3) by a hash of the row's id.
    """

    name: str
    x: Floats
    arm: NDArray[np.int64]
    outcome: Floats
    propensity: Floats
    folds: NDArray[np.int64]


def data_root() -> Path:
    """Folder of the data sets: `PROMO_RAY_DATA`, else ../shared/data beside the project."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    return Path(os.environ.get("PROMO_RAY_DATA", beside))


def hash_folds(name: str, row_ids: list[int], n_folds: int = N_FOLDS) -> NDArray[np.int64]:
    """`(n,)` int64 folds from SHA-256 of `name` and the row's id."""
    draws = [hashlib.sha256(f"{name}:{i}".encode()).hexdigest()[:8] for i in row_ids]
    return np.array([int(draw, 16) % n_folds for draw in draws], dtype=np.int64)


def contrasts() -> list[Contrast]:
    """Women's mail, men's mail, purchase and gift, of the trials that are at `data_root`."""
    return [c for read in (_hillstrom, _starbucks, _gifts) for c in read()]


def three_arms() -> Contrast | None:
    """Hillstrom with both mails: 0 = none, 1 = men's, 2 = women's; None if it is not there."""
    found = _frame("hillstrom/hillstrom.parquet")
    if found is None:
        return None
    levels = {"No E-Mail": 0, "Mens E-Mail": 1, "Womens E-Mail": 2}
    arm = found["segment"].replace_strict(levels).to_numpy()
    return _contrast("hillstrom", "visit, three arms", found, _HILLSTROM, arm, "visit")


def _hillstrom() -> list[Contrast]:
    found = _frame("hillstrom/hillstrom.parquet")
    parts = []
    for mail in ("Womens", "Mens"):
        if found is not None:
            rows = found.filter(pl.col("segment").is_in(["No E-Mail", f"{mail} E-Mail"]))
            arm = (rows["segment"] != "No E-Mail").cast(pl.Int64).to_numpy()
            name = f"visit, {mail.lower()} mail"
            parts.append(_contrast("hillstrom", name, rows, _HILLSTROM, arm, "visit"))
    return parts


def _starbucks() -> list[Contrast]:
    found = _frame("starbucks_promo/promo.parquet")
    if found is None:
        return []
    features = [f"v{j}" for j in range(1, 8)]
    arm = found["promotion"].to_numpy()
    return [_contrast("starbucks_promo", "purchase", found, features, arm, "purchase")]


def _gifts() -> list[Contrast]:
    found = _frame("charitable_match/gifts.parquet")
    if found is None:
        return []
    arm = found["treatment"].to_numpy()
    return [_contrast("charitable_match", "gave", found, _GIFTS, arm, "gave")]


def _frame(file: str) -> pl.DataFrame | None:
    path = data_root() / file
    return pl.read_parquet(path).sort("row_id") if path.exists() else None


def _contrast(
    trial: str, what: str, rows: pl.DataFrame, features: list[str], arm: Floats, outcome: str
) -> Contrast:
    own = rows.select(features)
    texts = [c for c in features if own[c].dtype == pl.String]
    x = own.to_dummies(texts).cast(pl.Float64).fill_nan(None)
    x = x.with_columns(pl.all().fill_null(pl.all().median()))
    arms = np.asarray(arm, dtype=np.int64)
    shares = np.bincount(arms) / len(arms)
    return Contrast(
        name=f"{trial}: {what}",
        x=x.to_numpy(),
        arm=arms,
        outcome=rows[outcome].cast(pl.Float64).to_numpy(),
        propensity=shares[arms],
        folds=hash_folds(f"fold:{trial}", rows["row_id"].to_list()),
    )
