from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.design import MenuSpace, offer_grid
from promo_ray.design.genome import GENES, canonical
from promo_ray.errors import ConfigError

ROWS: list[dict[str, Any]] = [
    {"mechanic": "percent_off", "depth_rate": 0.1},
    {"mechanic": "percent_off", "depth_rate": 0.3},
    {"mechanic": "percent_off", "depth_rate": 0.1, "scope": "tea"},
    {"mechanic": "spend_threshold", "amount": 5.0, "threshold": 50.0},
    {"mechanic": "spend_threshold", "amount": 15.0, "threshold": 75.0},
    {"mechanic": "product_bundle", "depth_rate": 0.1, "item_ids": ["a", "b"]},
    {"mechanic": "product_bundle", "depth_rate": 0.1, "item_ids": ["a", "c"]},
    {"mechanic": "message", "label": "letter for men"},
    {"mechanic": "message", "label": "letter for women"},
    {"mechanic": "message", "label": "letter for women"},  # the same terms twice
]
BASE = {**dict.fromkeys(OFFER_TERMS.names), "contact_cost": 0.1, "label": ""}
TRIED = [{**BASE, "offer_id": f"o{i}", **row} for i, row in enumerate(ROWS)]
GRID = offer_grid(pa.Table.from_pylist(TRIED, schema=OFFER_TERMS), "between")
SPACE = MenuSpace(GRID, 4)
indexes = st.integers(0, len(GRID) - 1)


def decode(genes: np.ndarray) -> list[tuple[int, ...]]:
    menus = SPACE.decode(torch.from_numpy(genes).float())
    return [tuple(i for i in row if i >= 0) for row in menus.tolist()]


def test_every_offer_can_be_reached() -> None:
    singles = [(i,) for i in range(len(GRID))]
    assert decode(SPACE.encode(singles)) == singles


@given(st.lists(st.sets(indexes, max_size=4).map(sorted), min_size=1, max_size=5))
def test_decoding_undoes_encoding(menus: list[list[int]]) -> None:
    assert decode(SPACE.encode(menus)) == [tuple(m) for m in menus]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_menu_has_one_form_whatever_the_order_of_its_slots(seed: int) -> None:
    rng = np.random.default_rng(seed)
    genes = rng.random((3, 4, len(GENES)))
    shuffled = genes[:, rng.permutation(4)]
    menus = decode(genes.reshape(3, -1))
    assert decode(shuffled.reshape(3, -1)) == menus
    assert decode(SPACE.encode(menus)) == menus
    for menu in menus:
        assert list(menu) == sorted(set(menu))


def test_duplicates_collapse_and_empty_slots_come_last() -> None:
    menus = torch.tensor([[3, -1, 3, 1], [-1, -1, -1, 0], [2, 2, 2, 2]])
    want = [[1, 3, -1, -1], [0, -1, -1, -1], [2, -1, -1, -1]]
    assert canonical(menus, 5).tolist() == want


def test_leading_batch_dimensions_pass_through() -> None:
    genes = torch.rand(2, 3, 4 * len(GENES), generator=torch.Generator().manual_seed(0))
    both = SPACE.decode(genes)
    assert both.shape == (2, 3, 4)
    assert torch.equal(both[1], SPACE.decode(genes[1]))


def test_menus_are_counted() -> None:
    n = len(GRID)
    assert MenuSpace(GRID, 2).n_menus == 1 + n + n * (n - 1) // 2
    assert MenuSpace(GRID, 10**6).max_offers == n


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_offers"):
        MenuSpace(GRID, 0)
    with pytest.raises(ConfigError, match="at most 4"):
        SPACE.encode([range(5)])
