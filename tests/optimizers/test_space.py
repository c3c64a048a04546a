from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from promo_ray.errors import ConfigError, DataError
from promo_ray.optimizers import Choice, Integer, Real, SearchSpace, Subset

bound = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("lower", "upper", "match"),
    [
        ([], [], "at least 1"),
        ([0.0], [1.0, 2.0], "as many"),
        ([0.0, 2.0], [1.0, 1.0], "gene 1"),
        ([float("nan")], [1.0], "gene 0"),
        ([0.0], [float("inf")], "gene 0"),
        (["a"], ["b"], "numbers"),
        (-1, 1, "numbers"),
    ],
)
def test_bad_boxes_are_refused(lower: Any, upper: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        SearchSpace.box(lower, upper)


@given(bound, st.floats(1e-3, 1e6))
def test_bounds_in_float32_lie_inside_the_exact_box(low: float, width: float) -> None:
    space = SearchSpace.box([low], [low + width])
    if np.spacing(np.float32(abs(low) + width)) * 2 < width:
        lower, upper = space.bounds(torch.device("cpu"), torch.float32)
        assert low <= float(lower) <= float(upper) <= low + width


def test_a_box_without_a_number_of_its_dtype_is_refused() -> None:
    space = SearchSpace.box([0, 0.1], [1, 0.1 + 1e-12])
    with pytest.raises(ConfigError, match=r"no number in .* of number 1; take float64"):
        space.bounds(torch.device("cpu"), torch.float32)
    space.bounds(torch.device("cpu"), torch.float64)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Choice(("a", "b", "a")),
        lambda: Choice((1, True)),
        lambda: Subset("aab", 2),
        lambda: SearchSpace([(0, 1)]),  # type: ignore[list-item, arg-type]
    ],
)
def test_genes_without_meaning_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"must differ|must be Real"):
        make()


@pytest.mark.parametrize("broken", [lambda x: x[..., :1], lambda x: x * torch.nan])
def test_a_repair_that_breaks_individuals_is_named(broken: Any) -> None:
    space = SearchSpace.box([0, 0], [1, 1], repair=broken)
    with pytest.raises(DataError, match="repair: must give numbers of shape"):
        space.snap(torch.zeros(3, 2))


def test_half_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="float32 or float64"):
        SearchSpace.box([0], [1]).bounds(torch.device("cpu"), torch.float16)


@pytest.mark.parametrize(("x0", "match"), [([[0.0]], "must be"), ([[0.5, 2.0]], "row 0")])
def test_bad_starting_points_are_refused(x0: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        SearchSpace.box([0, 0], [1, 1]).points(x0)


MIXED = SearchSpace(
    (Real(-1.5, 2.5), Integer(-3, 8), Choice(("a", None, 3)), Subset(tuple("vwxyz"), 3))
)


@given(
    st.floats(-1.5, 2.5),
    st.integers(-3, 8),
    st.sampled_from(["a", None, 3]),
    st.sets(st.sampled_from("vwxyz"), min_size=3, max_size=3),
)
def test_values_come_back_from_their_code(
    real: float, whole: int, one: Any, some: set[str]
) -> None:
    values = (real, whole, one, tuple(sorted(some)))
    code = MIXED.encode(values)
    assert MIXED.decode(code) == values
    assert np.array_equal(MIXED.encode(MIXED.decode(code)), code)
    x = torch.from_numpy(code).unsqueeze(0)
    assert torch.equal(MIXED.snap(x), x)


@given(st.lists(st.floats(-50, 50), min_size=6, max_size=6))
def test_any_point_snaps_to_an_individual_that_stays(point: list[float]) -> None:
    for dtype in (torch.float32, torch.float64):
        x = MIXED.snap(torch.tensor([point], dtype=dtype))
        assert torch.equal(MIXED.snap(x), x)
        again = MIXED.encode(MIXED.decode(x[0]))
        assert np.array_equal(again, x[0].double().numpy())


def test_cells_of_whole_numbers_have_the_same_width() -> None:
    space = SearchSpace((Integer(2, 5),))
    table = space.table(torch.device("cpu"), torch.float64)
    points = torch.linspace(float(table.low), float(table.high), 40_001).double().unsqueeze(-1)
    counts = np.bincount(space.snap(points).long().numpy().ravel())
    np.testing.assert_allclose(counts[2:], 10_000, atol=2)


def test_a_repair_runs_and_its_answer_is_brought_into_the_bounds() -> None:
    space = SearchSpace.box([0.0, 0.0], [1.0, 1.0], repair=lambda x: x * 3)
    assert space.snap(torch.tensor([[0.2, 0.9]])).tolist() == [[pytest.approx(0.6), 1.0]]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SearchSpace(()), "at least 1"),
        (lambda: Real(1.0, 0.0, "depth"), "depth"),
        (lambda: Integer(0, 1.5), "whole"),
        (lambda: Choice(()), "at least one value"),
        (lambda: Subset(("a",), 2), "size"),
        (lambda: SearchSpace.box([0], [1], slot_size=0), "slot_size"),
        (lambda: MIXED.encode((0.0, 1)), "need 4 values"),
        (lambda: MIXED.encode((0.0, 1, "b", "vwx")), "gene 2"),
        (lambda: MIXED.encode((0.0, 1.5, "a", "vwx")), "gene 1"),
        (lambda: MIXED.encode((0.0, 1, "a", ("v", "v", "x"))), "gene 3"),
        (lambda: MIXED.decode([0.0]), "shape"),
    ],
)
def test_bad_genes_and_values_are_refused(make: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make()
