"""Instances of the benchmark, and the judges that the benchmark and its readers rely on."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

from promo_ray.bench.allocation import table
from promo_ray.bench.allocation_instances import (
    CHUNK_USERS,
    FAMILIES,
    Case,
    Instance,
    generate,
    n_rows,
    read,
    write,
)
from promo_ray.bench.allocation_judges import excess, lagrangian, total_value
from promo_ray.bench.allocation_meter import Peak
from promo_ray.bench.allocation_peers import main
from promo_ray.bench.allocation_program import judged, program


@pytest.mark.parametrize("family", FAMILIES)
def test_files_and_memory_hold_the_same_instance(family: str, tmp_path: Path) -> None:
    case = Case(family, 300, seed=3)
    write(case, tmp_path / "own")
    drawn, found = generate(case), read(tmp_path / "own")
    assert drawn.arguments().keys() == found.arguments().keys()
    for name, table_of_drawn in drawn.arguments().items():
        np.testing.assert_array_equal(table_of_drawn, found.arguments()[name])
    assert len(drawn.limits()) == n_rows(case)
    over_users = {"value", "costs", "offer_idx", "capacity_use", "segment_idx"}
    assert case.n_bytes == sum(a.nbytes for n, a in drawn.arguments().items() if n in over_users)


def test_large_files_are_mapped_and_drawn_chunk_by_chunk(tmp_path: Path) -> None:
    case = Case("coupon", CHUNK_USERS + 500)
    write(case, tmp_path / "own")
    found = read(tmp_path / "own", is_mapped=True)
    assert isinstance(found.value, np.memmap)
    assert isinstance(found.costs, np.memmap)
    np.testing.assert_array_equal(found.value, generate(case).value)
    first = generate(Case("coupon", CHUNK_USERS))
    np.testing.assert_array_equal(found.value[:CHUNK_USERS], first.value)


def test_seeds_draw_different_users() -> None:
    a, b = (generate(Case("dense", 50, seed=s)) for s in (0, 1))
    assert not np.array_equal(a.value, b.value)


def test_candidate_lists_hold_each_offer_once() -> None:
    for family in ("sparse", "match"):
        offer_idx = generate(Case(family, 200)).offer_idx
        assert offer_idx is not None
        assert (np.diff(np.sort(offer_idx, axis=1), axis=1) > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_optimal_prices_bound_the_linear_optimum_tightly_and_others_from_above(
    family: str,
) -> None:
    instance = generate(Case(family, 400))
    lp, n = program(instance), 400
    found = linprog(lp.cost, A_ub=lp.matrix, b_ub=lp.limit, method="highs-ipm")
    assert found.status == 0, "the instance must have an answer"
    prices = -found.ineqlin.marginals[n:]
    assert (prices > 1e-9).any(), "rows must bind"
    assert lagrangian(instance, prices) == pytest.approx(-found.fun, rel=1e-7)
    shares = judged(instance, lp, found.x, prices)
    assert shares["objective"] == pytest.approx(-found.fun)
    assert shares["row_violation"] < 1e-7
    assert shares["n_split_users"] <= len(prices)
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = prices * rng.uniform(0, 2, len(prices))
        assert lagrangian(instance, other) >= -found.fun * (1 - np.sign(-found.fun) * 1e-12)


def test_an_excess_of_one_last_place_shows() -> None:
    costs = np.full((1, 10, 1), 0.1, dtype=np.float32)
    used = math.fsum(costs.ravel().tolist())
    value = np.ones((10, 1), np.float32)
    everyone = np.zeros(10, np.int32)
    for limit, sign in ((np.nextafter(used, 0), 1), (used, 0), (np.nextafter(used, 9), -1)):
        instance = Instance(value, costs, np.array([limit]))
        assert np.sign(excess(instance, everyone)[0]) == sign
    assert total_value(instance, everyone) == 10.0


def test_excess_counts_offers_and_served_members() -> None:
    instance = Instance(
        value=np.ones((3, 2), np.float32),
        costs=np.empty((0, 3, 2), np.float32),
        budgets=np.empty(0),
        offer_idx=np.array([[0, 1], [1, 2], [2, 0]], np.int32),
        capacity=np.array([1.0, 5.0, 0.0]),
        capacity_use=np.array([[2, 9], [9, 3], [4, 9]], np.float32),
        segment_idx=np.array([0, 1, 1], np.int32),
        floors=np.array([1.0, 2.0]),
    )
    choice = np.array([0, 1, -1], np.int32)
    np.testing.assert_array_equal(excess(instance, choice), [1.0, -5.0, 3.0, 0.0, 1.0])


@pytest.mark.parametrize("family", ["dense", "promo"])
def test_the_solver_runs_as_in_its_own_process(family: str, tmp_path: Path) -> None:
    write(Case(family, 500), tmp_path / "own")
    main(["promo_ray", str(tmp_path / "own"), str(tmp_path / "out.json"), "2"])
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["is_feasible"]
    assert record["value_error"] == 0.0
    assert -1e-12 <= record["bound_over_dual"] < 1e-9
    assert record["n_runs"] == 2


def test_a_missing_peer_is_told_not_raised(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    try:
        __import__("dualip")
    except ImportError:
        pass
    else:
        pytest.skip("dualip is installed")
    write(Case("dense", 20), tmp_path / "own")
    main(["dualip", str(tmp_path / "own"), str(tmp_path / "out.json")])
    assert "skipped" in json.loads((tmp_path / "out.json").read_text())


def test_the_table_has_a_line_per_record_and_tells_why_one_is_missing() -> None:
    sizes = {"family": "dense", "n": 10_000, "rows": 5}
    text = table(
        [
            {**sizes, "solver": "promo_ray", "cpu_s": 0.01, "gap": 1e-6, "is_feasible": True},
            {**sizes, "solver": "highs", "skipped": "not here"},
        ]
    )
    head, ours, peer = text.splitlines()
    assert head.startswith("instance")
    assert "1.0e-06" in ours
    assert peer.endswith("(not here)")


def test_peak_memory_counts_what_was_held_and_freed() -> None:
    with Peak() as peak:
        np.ones(1 << 23, np.float64).sum()
    assert 60 < peak.mb < 100
