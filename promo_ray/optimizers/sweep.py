"""State of the default method, and its first part: a search along every gene in turn."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from promo_ray.optimizers.covariance import Model, width_of
from promo_ray.optimizers.draws import Draws
from promo_ray.optimizers.population import Clock
from promo_ray.optimizers.ranking import Ranked
from promo_ray.optimizers.space import SearchSpace

START, SWEEP, RUN = 0, 1, 2
_GRID = 24  # points along a gene at least before the sweep closes in
_FINE = 0.1  # half width of the second sweep, as a share of a gene's range
_FEW = 6  # rounds of closing in that a gene with one or two peaks does without
# peaks to close in on, and how far about them in steps of the grid
_ZOOMS = ((8, 1.0), (8, 0.7), (8, 0.5), (8, 0.3), (4, 0.2), (2, 0.1), (1, 0.05))


class Control(NamedTuple):
    """Where an island stands; kept as float64 numbers.

    Attributes:
        phase: 0 = first population, 1 = sweep, 2 = CMA-ES run.
        gene, turn: gene and round of the sweep.
        is_fine: the sweep is the second one, close about the best.
        center: middle of the part of the gene that is looked at, as a share of its range.
        size: samples per update of the run, in populations.
        pooled: populations told of since the last update.
        is_large: the run is one of growing size, or of differential evolution.
        large, small: evaluations spent on those runs and on runs of smallest size.
        grown: size of the last large run.
        updates: updates of the run.
        is_given: the search was given points to start from.
        rough: genes of several peaks that the sweep found.
    """

    phase: float = START
    gene: float = 0
    turn: float = 0
    is_fine: float = 0
    center: float = 0.5
    size: float = 1
    pooled: float = 0
    is_large: float = 0
    large: float = 0
    small: float = 0
    grown: float = 0
    updates: float = 0
    is_given: float = 0
    rough: float = 0


class MemeticState(NamedTuple):
    """Sweep or run under way, and the best so far.

    Attributes:
        space, clock: see `population.Optimizer`.
        control: `(*batch, 14)` float64, see `Control`.
        mean, sigma, cov, basis, axes, path_s, path_c, age: see `covariance.Model`.
        x: `(*batch, pop, genes)` points asked for last, as shares of latent ranges, not yet
            mirrored into them.
        fitness, violation: `(*batch, pop)` of `x`.
        pool_x, pool_fitness, pool_violation: `(*batch, 32 pop, ...)` what was told of the gene
            that is swept, or of the run since its last update, or the population of a run of
            differential evolution.
        trace: `(*batch, n)` best fitness of the last updates.
        best_x: `(*batch, 1, genes)` individual.
        best_fitness, best_violation: `(*batch, 1)`.
        epsilon: `(*batch,)` violation that counted as none at first.
    """

    space: SearchSpace
    clock: Clock
    control: Tensor
    mean: Tensor
    sigma: Tensor
    cov: Tensor
    basis: Tensor
    axes: Tensor
    path_s: Tensor
    path_c: Tensor
    age: Tensor
    x: Tensor
    fitness: Tensor
    violation: Tensor
    pool_x: Tensor
    pool_fitness: Tensor
    pool_violation: Tensor
    trace: Tensor
    best_x: Tensor
    best_fitness: Tensor
    best_violation: Tensor
    epsilon: Tensor

    def model(self) -> Model:
        """The distribution of the run."""
        return Model(*(getattr(self, name) for name in Model._fields))

    def best(self) -> Ranked:
        """Best so far."""
        return Ranked(self.best_x, self.best_fitness, self.best_violation)

    def control_of(self) -> Control:
        """Where a single island stands."""
        return Control(*self.control.tolist())

    def at(self, control: Control) -> MemeticState:
        """The state of a single island that stands elsewhere."""
        return self._replace(control=torch.tensor(control, dtype=torch.float64))

    def is_separable(self) -> bool:
        """The run learns variances alone."""
        return self.cov.ndim == self.mean.ndim

    def best_share(self) -> Tensor:
        """The best so far as shares of latent ranges, `(*batch, 1, genes)`."""
        table = self.space.table(self.x.device, self.x.dtype)
        return (self.best_x - table.low) / width_of(table)

    def pooled(self, number: int) -> MemeticState:
        """A single island with what was told last as population `number` of its pool."""
        n = self.x.shape[0]
        pools = [p.clone() for p in (self.pool_x, self.pool_fitness, self.pool_violation)]
        for pool, values in zip(pools, (self.x, self.fitness, self.violation), strict=True):
            pool[number * n : (number + 1) * n] = values
        return self._replace(pool_x=pools[0], pool_fitness=pools[1], pool_violation=pools[2])


def along(state: MemeticState, control: Control, draws: Draws) -> Tensor:
    """Points along one gene through the best so far, `(pop, genes)`."""
    n, gene, turn = state.x.shape[0], int(control.gene), int(control.turn)
    n_grid = _n_grid(n)
    reach = _FINE if control.is_fine else 0.5
    u = draws.uniform(n)
    place = torch.arange(n, dtype=state.x.dtype, device=state.x.device)
    if turn < n_grid:
        if state.space.table(state.x.device, state.x.dtype).is_whole[gene]:
            u = torch.full_like(u, 0.5)  # meets every one of up to 24 values
        cell = (place * n_grid + turn + u) / (n * n_grid)
        # the ends themselves: the answer often lies on a bound
        cell[0] = 0.0 if turn == 0 else cell[0]
        cell[-1] = 1.0 if turn == n_grid - 1 else cell[-1]
        share = control.center + (2 * cell - 1) * reach
    else:
        n_peaks, steps = _ZOOMS[turn - n_grid]
        peaks = _peaks(state, turn, gene, n_peaks)
        spread = 2 * ((place / len(peaks)).floor() + u) / math.ceil(n / len(peaks)) - 1
        share = peaks[place.long() % len(peaks)] + spread * (2 * reach * steps / (n * n_grid))
    x = state.best_share().expand_as(state.x).clone()
    x[:, gene] = share.clamp(0, 1)
    return x


def begin_gene(state: MemeticState, control: Control, gene: int) -> Control:
    """The sweep at the start of a gene; those without choice are passed over.

    Where all genes are real and most had several peaks, a second sweep looks closely about the
    best. Behind the last gene of the last sweep `gene` is the number of genes.
    """
    d = state.space.n_genes
    while gene < d and state.space.lower[gene] == state.space.upper[gene]:
        gene += 1
    if gene >= d and state.space.is_real and not control.is_fine and 2 * control.rough > d:
        return begin_gene(state, control._replace(is_fine=1), 0)
    center = float(state.best_share()[0, gene]) if control.is_fine and gene < d else 0.5
    return control._replace(gene=gene, turn=0, center=center)


def next_turn(state: MemeticState, control: Control) -> Control:
    """The sweep after a round: the next round about the best values, or the next gene."""
    n, gene, turn = state.x.shape[0], int(control.gene), int(control.turn) + 1
    table = state.space.table(state.x.device, state.x.dtype)
    if turn < _n_grid(n):
        return control._replace(turn=turn)
    if turn == _n_grid(n) and len(_peaks(state, turn, gene, 3)) < 3:
        turn += _FEW  # hardly more than one peak: the run that follows climbs it
    elif turn == _n_grid(n) and not control.is_fine:
        control = control._replace(rough=control.rough + 1)
    step = float(width_of(table)[gene]) / (n * _n_grid(n))
    is_known = bool(table.is_unordered[gene]) or (bool(table.is_whole[gene]) and step < 1)
    if is_known or turn >= _n_grid(n) + len(_ZOOMS):
        return begin_gene(state, control, gene + 1)
    return control._replace(turn=turn)


def _n_grid(n: int) -> int:
    return math.ceil(_GRID / n)


def _peaks(state: MemeticState, turn: int, gene: int, n_peaks: int) -> Tensor:
    """Values of a gene that were better than those next to them, best first: `(<= n_peaks,)`."""
    n = turn * state.x.shape[0]
    bad = state.pool_violation[:n] > 0
    score = torch.where(bad, -torch.inf, state.pool_fitness[:n])
    value, order = torch.cat([state.pool_x[:n, gene], state.best_share()[:, gene]]).sort(
        stable=True
    )
    score = torch.cat([score, state.best_fitness])[order]
    edge = score.new_full((1,), -torch.inf)
    padded = torch.cat([edge, score, edge])
    is_peak = (score >= padded[:-2]) & (score >= padded[2:])
    best = torch.where(is_peak, score, -torch.inf).argsort(descending=True, stable=True)
    return value[best[: min(n_peaks, int(is_peak.sum()))]]
