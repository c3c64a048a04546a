"""The search distribution of CMA-ES and its update; batch dimensions first everywhere.

Source of every formula and default: Hansen 2016, "The CMA evolution strategy: a tutorial"
(arXiv 1604.00772), with active (negative) weights; the separable form is Ros and Hansen 2008;
whole numbers follow Marty et al. 2024 (LB+IC-CMA-ES) without its correction of bias; those at
their least deviation are left out of the adaptation of the step size.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from promo_ray.optimizers.draws import Draws
from promo_ray.optimizers.space import SearchSpace, Table


class Weights(NamedTuple):
    """Constants of a dimension and a number of samples.

    Attributes:
        up: `(samples,)` recombination weights, best first; the last ones negative.
        n_parents: samples of positive weight.
        mu_eff: variance-effective number of parents.
        c_sigma, d_sigma: rate and damping of the step size.
        c_c, c_1, c_mu: rates of the path, of the rank-one and of the rank-mu update.
        chi: expected length of a standard normal vector.
        every: generations between decompositions.
    """

    up: tuple[float, ...]
    n_parents: int
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float
    chi: float
    every: int


class Model(NamedTuple):
    """A normal distribution with its paths; a latent range has length 1 and begins at 0.

    Attributes:
        mean: `(*batch, genes)`.
        sigma: `(*batch,)` step size.
        cov: `(*batch, genes, genes)`, or `(*batch, genes)` variances if separable.
        basis: eigenvectors as columns, of the shape of `cov`; unused if separable.
        axes: `(*batch, genes)` roots of the eigenvalues.
        path_s, path_c: `(*batch, genes)` evolution paths of step size and covariance.
        age: `(*batch,)` updates done.
    """

    mean: Tensor
    sigma: Tensor
    cov: Tensor
    basis: Tensor
    axes: Tensor
    path_s: Tensor
    path_c: Tensor
    age: Tensor


@functools.lru_cache(maxsize=256)
def weights_of(d: int, n: int, is_separable: bool) -> Weights:
    """Defaults for d genes and n samples."""
    raw = [math.log((n + 1) / 2) - math.log(i) for i in range(1, n + 1)]
    parents = [w for w in raw if w > 0]
    others = raw[len(parents) :]
    mu_eff = sum(parents) ** 2 / sum(w * w for w in parents)
    c_1 = 2 / ((d + 1.3) ** 2 + mu_eff)
    c_mu = min(1 - c_1, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((d + 2) ** 2 + mu_eff))
    if is_separable:
        c_1, c_mu = c_1 * (d + 2) / 3, min(c_mu * (d + 2) / 3, 0.9)
        c_1 = min(c_1, 1 - c_mu)
    mu_neg = sum(others) ** 2 / max(sum(w * w for w in others), 1e-300)
    scale = min(1 + c_1 / c_mu, 1 + 2 * mu_neg / (mu_eff + 2), (1 - c_1 - c_mu) / (d * c_mu))
    total = sum(parents)
    total_neg = max(-sum(others), 1e-300)
    up = [w / total for w in parents] + [max(scale, 0) * w / total_neg for w in others]
    c_sigma = (mu_eff + 2) / (d + mu_eff + 5)
    return Weights(
        up=tuple(up),
        n_parents=len(parents),
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        d_sigma=1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (d + 1)) - 1) + c_sigma,
        c_c=(4 + mu_eff / d) / (d + 4 + 2 * mu_eff / d),
        c_1=c_1,
        c_mu=c_mu,
        chi=math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d)),
        every=1 if is_separable else max(1, int(1 / ((c_1 + c_mu) * d * 10))),
    )


def new_model(mean: Tensor, sigma: Tensor, is_separable: bool) -> Model:
    """A round distribution about a mean."""
    ones, zeros = torch.ones_like(mean), torch.zeros_like(mean)
    cov = ones if is_separable else torch.diag_embed(ones)
    return Model(mean, sigma, cov, cov, ones, zeros, zeros, torch.zeros_like(sigma))


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """Product of matrices, one batch element at a time so that its bits do not depend on others."""
    if a.ndim == 2:
        return a @ b
    flat = zip(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]), strict=True)
    out = torch.stack([x @ y for x, y in flat])
    return out.reshape(*a.shape[:-2], *out.shape[-2:])


def _is_separable(model: Model) -> bool:
    return model.cov.ndim == model.mean.ndim


def variances(model: Model) -> Tensor:
    """Variance of every gene, `(*batch, genes)`, in units of sigma."""
    return model.cov if _is_separable(model) else model.cov.diagonal(dim1=-2, dim2=-1)


def width_of(table: Table) -> Tensor:
    """Latent range of every gene, 1 where it has none: `(genes,)`."""
    return torch.where(table.high > table.low, table.high - table.low, 1.0)


def mirrored(share: Tensor) -> Tensor:
    """Points of the line folded into [0, 1]; those inside stay as they are.

    The distribution lives on the whole line and sees the box mirrored at its bounds, so that
    bounds distort neither its mean nor its covariance.
    """
    folded = torch.remainder(share, 2)
    return torch.where(folded > 1, 2 - folded, folded)


def individuals(space: SearchSpace, share: Tensor) -> Tensor:
    """Individuals `(..., genes)` of points of the line as shares of each gene's range."""
    table = space.table(share.device, share.dtype)
    x = table.low + mirrored(share) * (table.high - table.low)
    return space.snap(torch.clamp(x, table.low, table.high))


def held(model: Model) -> Model:
    """The same distribution near the box, with deviations of at most half of a range.

    Variances that have shrunk or grown far go into sigma, before they run out of numbers.
    """
    model = _rescaled(model)
    period = 2 * torch.floor(model.mean / 2)
    longest = variances(model).amax(-1).clamp(min=1e-30).sqrt()
    sigma = torch.minimum(model.sigma, 0.5 / longest).clamp(min=1e-30)
    return model._replace(mean=model.mean - period, sigma=sigma)


def _rescaled(model: Model) -> Model:
    top = variances(model).amax(-1)
    is_far = (top < 1e-12) | (top > 1e12)
    if not bool(is_far.any()):
        return model
    # a power of two: nothing is rounded
    power = torch.floor(torch.log2(top.clamp(min=1e-37)) / 2)
    unit = torch.where(is_far, torch.exp2(power), 1.0)
    row = unit.unsqueeze(-1)
    square = (row if _is_separable(model) else row.unsqueeze(-1)).square()
    return model._replace(
        sigma=model.sigma * unit,
        cov=model.cov / square,
        axes=model.axes / row,
        path_c=model.path_c / row,
    )


def with_choices(share: Tensor, model: Model, table: Table, draws: Draws) -> Tensor:
    """Samples `(*batch, n, genes)` whose genes without order keep the value of the mean.

    One such gene per sample on average is drawn anew; the best sample hands its values on.
    """
    n, d = share.shape[-2:]
    rate = 1 / max(1, int(table.is_unordered.sum()))
    anew, changes = draws.unit(n, d), draws.unit(n, d) < rate
    chosen = torch.where(changes, anew, model.mean.unsqueeze(-2))
    return torch.where(table.is_unordered, chosen, share)


def sample(model: Model, z: Tensor) -> Tensor:
    """Steps `(*batch, n, genes)` of the distribution, in units of sigma, from normal numbers."""
    scaled = z * model.axes.unsqueeze(-2)
    if _is_separable(model):
        return scaled
    return _matmul(scaled, model.basis.transpose(-1, -2).contiguous())


def stretch(model: Model, table: Table, n: int) -> Tensor:
    """Factor `(*batch, genes)` on steps that keeps whole numbers moving.

    A whole number deviates by at least min(mu_eff / genes, 0.2) (Marty et al. 2024).
    """
    d = model.mean.shape[-1]
    root = variances(model).clamp(min=1e-30).sqrt()
    deviation = model.sigma.unsqueeze(-1) * root * width_of(table)
    least = min(weights_of(d, n, _is_separable(model)).mu_eff / d, 0.2)
    return torch.where(table.is_whole, (least / deviation).clamp(min=1), 1.0)


def centered(x: Tensor, model: Model, table: Table, n_parents: int) -> Tensor:
    """Samples `(*batch, n, genes)`, best first, whose parents sit amid the cells they jumped to.

    Only where a whole number differs from that of the mean: else means would come to rest at the
    edges of cells, and variances of whole numbers die out (Marty et al. 2024).
    """
    width = width_of(table)
    cell, home = torch.floor(x * width), torch.floor(model.mean * width).unsqueeze(-2)
    is_parent = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1) < n_parents
    jumps = table.is_whole & is_parent & (cell != home)
    return torch.where(jumps, (cell + 0.5) / width, x)


def update(model: Model, steps: Tensor, factor: Tensor, weights: Weights) -> Model:
    """The distribution after its samples were ranked.

    Args:
        model: before.
        steps: `(*batch, n, genes)` steps taken, best first, in units of sigma, without `factor`.
        factor: `(*batch, genes)` see `stretch`; genes that it stretches move no matter how small
            sigma is, and would have it shrink before the others have settled.
        weights: see `weights_of`.
    """
    w = weights
    d = model.mean.shape[-1]
    up = torch.tensor(w.up, dtype=steps.dtype, device=steps.device).unsqueeze(-1)
    shift = (up[: w.n_parents] * steps[..., : w.n_parents, :]).sum(-2)
    white = _whitened(model, torch.cat([shift.unsqueeze(-2), steps[..., w.n_parents :, :]], -2))
    age = model.age + 1
    path_s = (1 - w.c_sigma) * model.path_s
    moves = math.sqrt(w.c_sigma * (2 - w.c_sigma) * w.mu_eff) * white[..., 0, :]
    free = (factor <= 1).to(steps.dtype)
    path_s = path_s + free * moves
    share = free.mean(-1)  # of the genes that say how long the path is
    length = ((free * path_s).square().sum(-1) / share.clamp(min=1 / d)).sqrt()
    settled = torch.sqrt(1 - (1 - w.c_sigma) ** (2 * age))
    holds = (length / settled < (1.4 + 2 / (d + 1)) * w.chi).to(steps.dtype).unsqueeze(-1)
    path_c = (1 - w.c_c) * model.path_c
    path_c = path_c + holds * math.sqrt(w.c_c * (2 - w.c_c) * w.mu_eff) * shift
    # negative weights count by direction alone
    squared = white[..., 1:, :].square().sum(-1).clamp(min=1e-30)
    kept = up[: w.n_parents].expand(*steps.shape[:-2], w.n_parents, 1)
    turned = up[w.n_parents :] * (d / squared).unsqueeze(-1)
    full = torch.cat([kept, turned], dim=-2)
    decay = 1 - w.c_1 - w.c_mu * sum(w.up) + (1 - holds) * w.c_1 * w.c_c * (2 - w.c_c)
    if _is_separable(model):
        cov = decay * model.cov + w.c_1 * path_c.square()
        cov = (cov + w.c_mu * (full * steps.square()).sum(-2)).clamp(min=1e-30)
    else:
        outer = path_c.unsqueeze(-1) * path_c.unsqueeze(-2)
        spread = _matmul((full * steps).transpose(-1, -2).contiguous(), steps)
        cov = decay.unsqueeze(-1) * model.cov + w.c_1 * outer + w.c_mu * spread
    growth = (w.c_sigma / w.d_sigma * (length / w.chi - 1)).clamp(max=1.0)
    growth = torch.where(share > 0, growth, 0.0)
    found = Model(
        model.mean + model.sigma.unsqueeze(-1) * factor * shift,
        model.sigma * torch.exp(growth), cov, model.basis, model.axes, path_s, path_c, age,
    )  # fmt: skip
    return _decomposed(found, w.every)


def _whitened(model: Model, steps: Tensor) -> Tensor:
    """Steps in the coordinates in which the distribution is round."""
    if _is_separable(model):
        return steps / model.axes.unsqueeze(-2)
    turned = _matmul(steps, model.basis) / model.axes.unsqueeze(-2)
    return _matmul(turned, model.basis.transpose(-1, -2).contiguous())


def _decomposed(model: Model, every: int) -> Model:
    """The model with axes of its covariance, renewed every so many updates."""
    if _is_separable(model):
        return model._replace(axes=model.cov.sqrt())
    due = model.age % every == 0
    if not bool(due.any()):
        return model
    cov = (model.cov + model.cov.transpose(-1, -2)) * 0.5
    d = cov.shape[-1]
    flat = [torch.linalg.eigh(c) for c in cov.reshape(-1, d, d)]
    values = torch.stack([v for v, _ in flat]).reshape(model.axes.shape)
    vectors = torch.stack([v for _, v in flat]).reshape(cov.shape)
    top = values[..., -1:]
    axes = torch.maximum(values, top * (1e-14 if cov.dtype == torch.float64 else 1e-6)).sqrt()
    row, matrix = due.unsqueeze(-1), due.unsqueeze(-1).unsqueeze(-1)
    return model._replace(
        cov=cov,
        basis=torch.where(matrix, vectors, model.basis),
        axes=torch.where(row, axes, model.axes),
    )
