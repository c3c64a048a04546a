from __future__ import annotations

import torch
from torch import Tensor

from promo_ray.optimizers import Integer, Real, SearchSpace
from promo_ray.optimizers.covariance import centered, new_model, stretch, update, weights_of

N, D = 12, 20
WEIGHTS = weights_of(D, N, False)
MODEL = new_model(torch.full((D,), 0.5).double(), torch.tensor(1e-3).double(), False)


def sigma_after(steps: Tensor, factor: Tensor) -> float:
    return float(update(MODEL, steps, factor, WEIGHTS).sigma)


def test_stretched_genes_have_no_say_in_the_step_size() -> None:
    steps = torch.randn(N, D, generator=torch.Generator().manual_seed(0)).double()
    factor = torch.ones(D).double()
    factor[:16] = 7.0
    moved = steps.clone()
    moved[:, :16] = 0  # as if whole numbers did not leave their cells
    assert sigma_after(moved, factor) == sigma_after(steps, factor)
    assert sigma_after(moved, factor * 0 + 1) < sigma_after(steps, factor * 0 + 1)
    assert sigma_after(steps, factor * 0 + 7) == float(MODEL.sigma)  # none is left to tell


def test_many_genes_keep_their_whole_numbers_moving_as_few_do() -> None:
    space = SearchSpace((*(Integer(0, 4) for _ in range(D - 2)), Real(0, 1), Real(0, 1)))
    table = space.table(torch.device("cpu"), torch.float64)
    factor = stretch(MODEL, table, N)
    least = min(WEIGHTS.mu_eff / D, 0.2)
    deviation = factor * MODEL.sigma * torch.where(table.is_whole, 5.0, 1.0)
    assert torch.allclose(deviation[:-2], torch.full((D - 2,), least).double())
    assert torch.equal(factor[-2:], torch.ones(2).double())


def test_parents_sit_amid_the_cells_they_jumped_to() -> None:
    space = SearchSpace((Integer(0, 4), Real(0, 1)))
    table = space.table(torch.device("cpu"), torch.float64)
    model = new_model(torch.tensor([0.5, 0.5]).double(), torch.tensor(0.1).double(), False)
    x = torch.tensor([[0.61, 0.9], [0.55, 0.9], [0.61, 0.9]]).double()
    found = centered(x, model, table, 2)
    want = torch.tensor([[0.7, 0.9], [0.55, 0.9], [0.61, 0.9]]).double()  # cells of width 1 / 5
    assert torch.allclose(found, want, atol=1e-12)
