from __future__ import annotations

import numpy as np
import pytest

from promo_ray.errors import ConfigError, DataError
from promo_ray.response.inputs import arms, finite_matrix, group_codes, propensities
from promo_ray.response.trial import folds_of


def test_fold_belongs_to_the_user_alone() -> None:
    users = np.array([f"u{i}" for i in range(300)])
    whole = folds_of(users, 300, 5, 7)
    part = folds_of(users[40:90], 50, 5, 7)
    np.testing.assert_array_equal(part, whole[40:90])
    assert (np.bincount(whole, minlength=5) > 30).all()


def test_rows_of_a_user_share_a_fold() -> None:
    users = np.repeat(np.arange(50), 3)
    folds = folds_of(users, 150, 4, 0).reshape(50, 3)
    assert (folds == folds[:, :1]).all()


def test_other_seeds_split_otherwise() -> None:
    users = np.arange(200)
    assert (folds_of(users, 200, 5, 0) != folds_of(users, 200, 5, 1)).mean() > 0.5


def test_one_fold_is_refused() -> None:
    with pytest.raises(ConfigError, match="n_folds"):
        folds_of(None, 10, 1, 0)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0, 1, -1], "whole numbers"),
        ([0, 1.5, 1], "whole numbers"),
        ([0, 2, 2], "no row of 1"),
        ([0, 0, 0], "at least one other"),
        ([0, np.nan, 1], "finite"),
        (["a", "b", "c"], "numbers"),
        ([0, 1], "3 rows"),
    ],
)
def test_bad_arms_are_refused_by_name(values: list[object], text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        arms(values, "treatment", 3)
    assert caught.value.where == "treatment"


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.2, np.nan])
def test_propensity_outside_its_range_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match="propensity"):
        propensities([0.5, bad], "propensity", np.array([0, 1]), 2)


def test_propensities_of_all_arms_give_that_of_the_arm_taken() -> None:
    found = propensities([[0.2, 0.8], [0.3, 0.7]], "propensity", np.array([1, 0]), 2)
    assert found.tolist() == [0.8, 0.3]
    with pytest.raises(DataError, match="sum to 1"):
        propensities([[0.2, 0.9], [0.3, 0.7]], "propensity", np.array([1, 0]), 2)


def test_features_must_be_a_finite_matrix() -> None:
    with pytest.raises(DataError, match="two dimensions"):
        finite_matrix([1.0, 2.0], "x")
    with pytest.raises(DataError, match="row 1 is not"):
        finite_matrix([[1.0], [np.inf]], "x")


def test_groups_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match="groups"):
        group_codes(["a", "b"], 3)


@pytest.mark.parametrize("groups", [["a", None, "b"], [1.0, np.nan, 2.0]])
def test_a_missing_user_is_refused(groups: list[object]) -> None:
    with pytest.raises(DataError, match="groups: must be known in every row; row 1 has none"):
        group_codes(np.array(groups, dtype=object if None in groups else float), 3)


def test_folds_are_counted_in_whole_numbers() -> None:
    with pytest.raises(ConfigError, match="n_folds must be a whole number"):
        folds_of(None, 10, 2.5, 0)  # type: ignore[arg-type]
