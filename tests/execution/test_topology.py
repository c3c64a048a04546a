from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_ray.errors import ConfigError
from promo_ray.execution.topology import resolve_topology

SPECS = ["ring", "torus", "fully_connected", "unconnected", "random-1", "random-3"]


def graph(spec: Any, n: int, event: int = 1, seed: int = 0) -> list[tuple[int, ...]]:
    topology = resolve_topology(spec)
    return [topology.sources(n, i, event, seed) for i in range(n)]


@given(spec=st.sampled_from(SPECS), n=st.integers(1, 30), event=st.integers(1, 5))
def test_sources_are_other_islands_in_rising_order(spec: str, n: int, event: int) -> None:
    for i, sources in enumerate(graph(spec, n, event)):
        assert list(sources) == sorted(set(sources) - {i})
        assert all(0 <= s < n for s in sources)


def test_the_graphs_are_those_of_their_names() -> None:
    assert graph("ring", 4) == [(3,), (0,), (1,), (2,)]
    assert graph("fully_connected", 3) == [(1, 2), (0, 2), (0, 1)]
    assert graph("unconnected", 3) == [(), (), ()]
    # 3 x 4: neighbors left, right, above and below, edges joined
    assert graph("torus", 12)[0] == (1, 3, 4, 8)
    assert graph("torus", 12)[5] == (1, 4, 6, 9)
    assert graph("torus", 7) == [tuple(sorted(((i - 1) % 7, (i + 1) % 7))) for i in range(7)]


@given(n=st.integers(2, 40))
def test_a_torus_is_symmetric(n: int) -> None:
    found = graph("torus", n)
    assert all(i in found[s] for i, sources in enumerate(found) for s in sources)


def test_random_graphs_differ_between_events_and_seeds_and_not_between_calls() -> None:
    found = {(e, s): graph("random-2", 9, e, s) for e in (1, 2) for s in (0, 1)}
    assert len({str(g) for g in found.values()}) == 4
    assert found[1, 0] == graph("random-2", 9, 1, 0)
    assert all(len(sources) == 2 for sources in found[1, 0])


def test_weights_are_chances() -> None:
    weights = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.5], [1.0, 0.0, 1.0]])
    drawn = [graph(weights, 3, e) for e in range(400)]
    assert all(g[0] == (1,) and g[2] == (0,) for g in drawn)
    assert sum(g[1] == (2,) for g in drawn) == pytest.approx(200, abs=40)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("star", "topology must be one of ring"),
        ("random-x", "topology must be one of"),
        ("random-0", "K >= 1"),
        ([[0.0, 1.0]], r"square; got shape \(1, 2\)"),
        ([[0.0, 1.0], [2.0, 0.0]], r"in \[0, 1\]"),
        ([["a"]], "must be numbers"),
        (3, "square"),
    ],
)
def test_bad_topologies_are_refused(spec: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        resolve_topology(spec)


def test_weights_of_other_islands_are_refused() -> None:
    with pytest.raises(ConfigError, match="of 3 islands; got 2"):
        graph([[0.0, 1.0], [1.0, 0.0]], 3)
