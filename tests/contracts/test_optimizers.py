from __future__ import annotations

import pytest

from promo_ray.registry import methods
from promo_ray.testing.optimizer import check_optimizer


@pytest.mark.parametrize("name", list(methods("optimizers")))
def test_registered_optimizer_keeps_the_contract(name: str) -> None:
    check_optimizer(methods("optimizers")[name]())
