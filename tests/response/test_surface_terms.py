"""Channel, window and scope: planted effects are found, and shares of the own basket count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from planted_trials import offers

from promo_ray.errors import DataError
from promo_ray.response.model import ResponseModel, TrialLog
from promo_ray.response.offer_features import TermScale, pair_features

Floats = NDArray[np.float64]
TEA = 2  # column of the features with the share of tea


def delivered(*rows: dict[str, Any]) -> pa.Table:
    """Table of offer terms with a channel and a window."""
    table = offers(*({k: v for k, v in row.items() if k in _PLAIN} for row in rows))
    channel = pa.array([row.get("channel") for row in rows], pa.string())
    days = pa.array([row.get("window_days") for row in rows], pa.float64())
    return table.append_column("channel", channel).append_column("window_days", days)


_PLAIN = ("mechanic", "depth_rate", "scope")
GRID = delivered(
    *(
        {"mechanic": "percent_off", "depth_rate": depth, "channel": c, "window_days": w, "scope": s}
        for depth in (0.1, 0.3)
        for c, w in (("email", 7.0), ("push", 7.0), ("email", 21.0))
        for s in (None, "Tea")
    )
)


def true_gross(x: Floats, table: pa.Table) -> Floats:
    """Effect before discount: pull of the own saving, push worth 4 more, tripled window 2 more."""
    found = np.empty((len(x), table.num_rows))
    for j, row in enumerate(table.to_pylist()):
        share = np.ones(len(x)) if row["scope"] is None else x[:, TEA]
        pull = 1.0 - np.exp(-row["depth_rate"] * share / 0.1)
        more = 4.0 * (row["channel"] == "push")
        found[:, j] = 10.0 * pull + more + 2.0 * np.log(row["window_days"] / 7.0) / np.log(3.0)
    return found


def planted(n: int, seed: int) -> TrialLog:
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=(n, 2)), rng.beta(0.7, 1.4, n)])
    arm = rng.integers(0, GRID.num_rows + 1, n)
    gross = np.column_stack([np.zeros(n), true_gross(x, GRID)])[np.arange(n), arm]
    return TrialLog(
        groups=np.array([f"u{i}" for i in range(n)]),
        x=x,
        basket=np.full(n, 40.0),
        arm=arm,
        outcome=30.0 + 3.0 * x[:, 1] + gross + 6.0 * rng.normal(size=n),
        cost=np.zeros(n),
        propensity=np.full(n, 1.0 / (GRID.num_rows + 1)),
    )


@pytest.fixture(scope="module")
def model() -> ResponseModel:
    return ResponseModel.fit(planted(5000, 0), GRID, 0, scopes={"Tea": TEA, "Wine": 0})


@pytest.fixture(scope="module")
def fresh() -> Floats:
    return planted(2000, 1).x


def test_channel_window_and_affinity_are_found(model: ResponseModel, fresh: Floats) -> None:
    assert model.surface.terms == TermScale(40.0, ("email", "push"), 7.0, {"Tea": TEA})
    base = {"mechanic": "percent_off", "depth_rate": 0.2, "channel": "email", "window_days": 7.0}
    new = delivered(
        base, base | {"channel": "push"}, base | {"window_days": 21.0}, base | {"scope": "Tea"}
    )
    found = model.surface.effects(fresh, np.full(len(fresh), 40.0), new).gross
    truth = true_gross(fresh, new)
    assert (found[:, 1] - found[:, 0]).mean() == pytest.approx(4.0, abs=0.6)
    assert (found[:, 2] - found[:, 0]).mean() == pytest.approx(2.0, abs=0.6)
    assert np.corrcoef(found[:, 3], truth[:, 3])[0, 1] > 0.9
    np.testing.assert_allclose(found.mean(axis=0), truth.mean(axis=0), atol=0.7)


def test_depth_still_never_does_less(model: ResponseModel, fresh: Floats) -> None:
    rows = [
        {"mechanic": "percent_off", "depth_rate": d, "channel": c, "scope": s, "window_days": 14.0}
        for c in ("email", "push", "never tried")
        for s in (None, "Tea", "Wine")
        for d in (0.0, 0.05, 0.2, 0.5, 0.9)
    ]
    found = model.surface.effects(fresh, np.full(len(fresh), 40.0), delivered(*rows)).gross
    assert (np.diff(found.reshape(len(fresh), -1, 5), axis=2) >= -1e-9).all()


def test_written_terms_predict_the_same_bits(model: ResponseModel, fresh: Floats) -> None:
    again = ResponseModel.from_arrays(*model.to_arrays())
    one, two = (m.effects(fresh, np.full(len(fresh), 40.0), GRID).effect for m in (model, again))
    np.testing.assert_array_equal(one, two)


def test_own_share_of_a_scope_sets_saving_and_discount() -> None:
    table = offers(
        {"mechanic": "percent_off", "depth_rate": 0.2, "scope": "Tea"},
        {"mechanic": "amount_off", "amount": 10.0, "scope": "Tea"},
        {"mechanic": "spend_threshold", "amount": 5.0, "threshold": 20.0, "scope": "Tea"},
    )
    x = np.array([[0.0], [0.5], [1.0]])
    pairs = pair_features(x, np.full(3, 40.0), table, TermScale(40.0, scopes={"Tea": 0}))
    np.testing.assert_allclose(pairs.saving[:, 0], [0.0, 0.1, 0.2])
    np.testing.assert_allclose(pairs.nominal[:, 1], [0.0, 10.0, 10.0])
    assert pairs.reach[0, 2] == 0 < pairs.reach[1, 2] < pairs.reach[2, 2]
    np.testing.assert_array_equal(pairs.affinity[:, 0, 0], x[:, 0])


def test_shares_beyond_one_are_refused() -> None:
    table = offers({"mechanic": "percent_off", "depth_rate": 0.2, "scope": "Tea"})
    with pytest.raises(DataError, match=r"shares in \[0, 1\] of scope 'Tea'"):
        pair_features(np.array([[1.5]]), np.ones(1), table, TermScale(1.0, scopes={"Tea": 0}))
