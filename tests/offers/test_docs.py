from __future__ import annotations

from pathlib import Path

from promo_ray.offers import Reason
from promo_ray.registry import methods

PAGE = (Path(__file__).parents[2] / "docs" / "offers.md").read_text()


def test_every_reason_code_is_documented_in_its_order() -> None:
    table = "".join(f"| `{reason.value}` | {reason.words} |\n" for reason in Reason)
    assert table in PAGE


def test_every_mechanic_is_documented_with_its_layers() -> None:
    for name, kind in methods("offers.mechanics").items():
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
        layers = row.rpartition("| ")[2].removesuffix(" |")
        assert layers.split(",")[0] == kind.layers[0]  # type: ignore[attr-defined]
