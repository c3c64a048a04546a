from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.design import Channel, Constraints, MenuSpace, Window, offer_grid
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


def random_genes(space: MenuSpace, n: int, seed: int) -> torch.Tensor:
    box = space.space
    u = np.random.default_rng(seed).random((n, box.n_genes))
    lower, upper = np.array(box.lower) - 0.5, np.array(box.upper) + 0.5
    return box.snap(torch.from_numpy(lower + u * (upper - lower)).float())


WIDE = MenuSpace(
    GRID,
    4,
    segments=("everyone", "members"),
    windows=(Window(), Window("a week", 0.25)),
    channels=(Channel("mail"), Channel("letter", 0.5)),
    constraints=Constraints(exclusive_groups=(("percent_off",), ("message", "o5"))),
)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_menu_has_one_form_whatever_the_order_of_its_slots(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = random_genes(WIDE, 3, seed)
    menus = WIDE.decode(x)
    slots = x.reshape(3, 4, len(GENES))[:, torch.from_numpy(rng.permutation(4))]
    assert torch.equal(WIDE.decode(slots.flatten(-2)), menus)
    assert torch.equal(WIDE.space.snap(slots.flatten(-2))[:, ::8], x[:, ::8])
    own = [[v for v in row if v >= 0] for row in menus.tolist()]
    assert torch.equal(WIDE.decode(torch.from_numpy(WIDE.encode(own)).float()), menus)
    for menu in own:
        assert menu == sorted(set(menu))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_repair_keeps_the_menu_and_leaves_repaired_genes_alone(seed: int) -> None:
    x = random_genes(WIDE, 4, seed)
    again = WIDE.space.snap(x)
    assert torch.equal(again, x)
    switched_on = (WIDE.decode(x) >= 0).sum(-1)
    assert torch.equal(x[:, ::8].sum(-1).long(), switched_on)


def test_packed_genes_take_a_byte_each_and_come_back() -> None:
    x = random_genes(WIDE, 50, 1)
    packed = WIDE.pack(x)
    assert packed.dtype == np.uint8
    assert packed.shape == (50, 4, len(GENES))
    assert torch.equal(WIDE.unpack(packed), x)


def test_a_variant_is_an_offer_with_its_segment_window_and_channel() -> None:
    variant = WIDE.variant(3, 1, 0, 1)
    row, segment, window, channel = WIDE.parts(variant)
    assert (row, segment, window.name, channel.name) == (3, "members", "any time", "letter")
    seen = {(*WIDE.parts(v)[:2], WIDE.parts(v)[2].name) for v in range(WIDE.n_offers)}
    assert len(seen) == len(GRID) * 4


def test_duplicates_collapse_and_empty_slots_come_last() -> None:
    menus = torch.tensor([[3, -1, 3, 1], [-1, -1, -1, 0], [2, 2, 2, 2]])
    want = [[1, 3, -1, -1], [0, -1, -1, -1], [2, -1, -1, -1]]
    assert canonical(menus, 5).tolist() == want


def test_leading_batch_dimensions_pass_through() -> None:
    genes = torch.stack([random_genes(WIDE, 3, 0), random_genes(WIDE, 3, 1)])
    both = WIDE.decode(genes)
    assert both.shape == (2, 3, 4)
    assert torch.equal(both[1], WIDE.decode(genes[1]))


def test_menus_are_counted() -> None:
    n = len(GRID)
    assert MenuSpace(GRID, 2).n_menus == 1 + n + n * (n - 1) // 2
    assert MenuSpace(GRID, 10**6).max_offers == n


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_offers"):
        MenuSpace(GRID, 0)
    with pytest.raises(ConfigError, match="segments"):
        MenuSpace(GRID, 2, segments=())
    with pytest.raises(ConfigError, match="channels"):
        MenuSpace(GRID, 2, channels=(Channel("a"), Channel("a")))
    with pytest.raises(ConfigError, match="share of window"):
        Window("never", 0.0)
    with pytest.raises(ConfigError, match="contact_cost of channel"):
        Channel("mail", -1.0)
    with pytest.raises(ConfigError, match="at most 4"):
        SPACE.encode([range(5)])
