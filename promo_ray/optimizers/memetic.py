"""The default method: a sweep along the genes, then CMA-ES runs from there and from anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from promo_ray.errors import ConfigError
from promo_ray.optimizers.cma import default_size
from promo_ray.optimizers.covariance import (
    Model,
    held,
    individuals,
    new_model,
    sample,
    stretch,
    update,
    variances,
    weights_of,
    width_of,
    with_choices,
)
from promo_ray.optimizers.draws import Draws
from promo_ray.optimizers.population import (
    Clock,
    PopulationMethod,
    Ranked,
    begin,
    behind,
    best_of,
    first_population,
    newcomers,
    ranked_of,
    split,
    stack,
    take,
)
from promo_ray.optimizers.space import SearchSpace, pick_device
from promo_ray.registry import register

_START, _SWEEP, _RUN = 0, 1, 2
_GRID = 24  # points along a gene at least before the sweep closes in
# peaks to close in on, and how far about them in steps of the grid
_ZOOMS = ((8, 1.0), (8, 0.7), (8, 0.5), (8, 0.3), (4, 0.2), (2, 0.1), (1, 0.05))
_MOST = 32  # largest run in multiples of the smallest
_MOST_FULL = 150  # genes up to which runs learn a full covariance


class Control(NamedTuple):
    """Where an island stands; kept as float64 numbers.

    Attributes:
        phase: 0 = first population, 1 = sweep, 2 = CMA-ES run.
        gene, turn: gene and round of the sweep.
        size: samples per update of the run, in populations.
        pooled: populations told of since the last update.
        is_large: the run is one of growing size.
        large, small: evaluations spent on runs of growing and of smallest size.
        grown: size of the last large run.
        updates: updates of the run.
    """

    phase: float = _START
    gene: float = 0
    turn: float = 0
    size: float = 1
    pooled: float = 0
    is_large: float = 0
    large: float = 0
    small: float = 0
    grown: float = 0
    updates: float = 0


class MemeticState(NamedTuple):
    """Sweep or run under way, and the best so far.

    Attributes:
        space, clock: see `population.Optimizer`.
        control: `(*batch, 10)` float64, see `Control`.
        mean, sigma, cov, basis, axes, path_s, path_c, age: see `covariance.Model`.
        x: `(*batch, pop, genes)` points asked for last, as shares of latent ranges, not yet
            mirrored into them.
        fitness, violation: `(*batch, pop)` of `x`.
        pool_x, pool_fitness, pool_violation: `(*batch, 32 pop, ...)` what was told of the gene
            that is swept, or of the run since its last update.
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


@register("auto")
@dataclass(frozen=True, kw_only=True)
class Memetic(PopulationMethod):
    """Default for an unknown problem of up to some hundred genes and at least 50 evaluations each.

    1. A sweep looks along every gene in turn from the best point so far, by a grid and by closing
       in: it solves what is separable, finds good values of choices, and costs some 60
       evaluations per gene.
    2. A CMA-ES run of small steps goes on from there.
    3. CMA-ES runs start anew at random points, in turn with doubled populations and with small
       ones of varied step size, each kind with half of the evaluations (BIPOP, Hansen 2009).

    Genes without order keep the value of the best sample and change at a rate of one per sample.
    Islands of a batch are taken one by one on the host: fitness is batched, the method is not.

    Attributes:
        pop_size: individuals per generation; 0 = 4 + 3 ln(genes), even.
        sigma: first step size of runs from random points, as a share of each gene's range.
        sweeps: whether to sweep; not worth it below 200 evaluations per gene.
        first_growth: populations per generation of the first large run.
        epsilon_generations: see `PopulationMethod`.
    """

    method: ClassVar[str] = "auto"
    state_class: ClassVar[type[MemeticState]] = MemeticState

    pop_size: int = 0
    sigma: float = 0.25
    sweeps: bool = True
    first_growth: int = 3

    def __post_init__(self) -> None:
        if self.pop_size:
            super().__post_init__()
        if not 0 < self.sigma <= 1 or not 1 <= self.first_growth <= _MOST:
            raise ConfigError(
                f"sigma in (0, 1] and first_growth in [1, {_MOST}] must hold; "
                f"got {self.sigma}, {self.first_growth}"
            )

    def size(self, space: SearchSpace) -> int:
        """See `Optimizer.size`."""
        return self.pop_size or default_size(space.n_genes)

    def init(
        self,
        space: SearchSpace,
        seed: int = 0,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        batch: tuple[int, ...] = (),
        *,
        island: int | Sequence[int] = 0,
        x0: ArrayLike | None = None,
    ) -> MemeticState:
        """See `Optimizer.init`."""
        clock = begin(space, seed, batch, island)
        like = torch.empty(0, dtype=dtype, device=pick_device(device))
        n, d = self.size(space), space.n_genes
        x = first_population(self.method, clock, space, (*batch, n, d), like, x0)
        worst = torch.full((*batch, n), torch.inf, dtype=dtype, device=like.device)
        zeros = x.new_zeros(batch)
        control = torch.tensor(Control(), dtype=torch.float64).expand(*batch, -1).clone()
        model = new_model(x[..., 0, :] * 0 + 0.5, zeros + self.sigma, d > _MOST_FULL)
        pool, values = x.new_zeros((*batch, _MOST * n, d)), x.new_zeros((*batch, _MOST * n))
        table = space.table(like.device, dtype)
        x = (x - table.low) / width_of(table)
        trace = x.new_zeros((*batch, 10 + math.ceil(30 * d / n)))
        return MemeticState(
            space, clock, control, *model, x, -worst, worst, pool, values, values, trace,
            individuals(space, x[..., :1, :]), -worst[..., :1], worst[..., :1], zeros,
        )  # fmt: skip

    def ask(self, state: MemeticState) -> tuple[MemeticState, Tensor]:
        """See `Optimizer.ask`; the first individuals asked for are the first population."""
        state = _each(state, self._ask_one)
        x = individuals(state.space, state.x)
        return state._replace(clock=state.clock._replace(is_asked=True)), x

    def tell(
        self, state: MemeticState, fitness: Tensor, violation: Tensor | None = None
    ) -> MemeticState:
        """See `Optimizer.tell`."""
        state, fitness, violation = self._told(state, fitness, violation, state.x)
        asked = ranked_of(individuals(state.space, state.x), fitness, violation)
        best = best_of(asked, state.best())
        state = state._replace(
            fitness=fitness, violation=violation, best_x=best.x, best_fitness=best.fitness,
            best_violation=best.violation,
        )  # fmt: skip
        return _each(state, self._tell_one)

    def ranked(self, state: MemeticState) -> Ranked:
        """See `Optimizer.ranked`; the best so far, then the last generation."""
        last = ranked_of(individuals(state.space, state.x), state.fitness, state.violation)
        return behind(state.best(), last)

    def replace_worst(
        self,
        state: MemeticState,
        x: Tensor,
        fitness: Tensor,
        violation: Tensor | None = None,
        *,
        ranks: Tensor | None = None,
    ) -> MemeticState:
        """See `Optimizer.replace_worst`; a run's mean goes to a newcomer better than all so far."""
        new = newcomers(self.ranked(state), x, fitness, violation, ranks)
        best = best_of(ranked_of(new.x, new.fitness, new.violation), state.best())
        wins = (best.fitness != state.best_fitness) | (best.violation != state.best_violation)
        table = state.space.table(x.device, x.dtype)
        goal = (best.x[..., 0, :] - table.low) / width_of(table)
        return state._replace(
            mean=torch.where(wins, goal, state.mean),
            best_x=torch.where(wins.unsqueeze(-1), best.x, state.best_x),
            best_fitness=best.fitness,
            best_violation=best.violation,
        )

    def _ask_one(self, state: MemeticState) -> MemeticState:
        control = Control(*state.control.tolist())
        if control.phase == _START:
            return state
        draws = self._draws(state, (), state.x)
        if control.phase == _SWEEP:
            return state._replace(x=_along(state, control, draws))
        return state._replace(x=_samples(state, control, draws))

    def _tell_one(self, state: MemeticState) -> MemeticState:
        control = Control(*state.control.tolist())
        draws = self._draws(state, (), state.x)
        draws.skip(8 * state.x.numel() + 64)  # beyond what ask takes
        if control.phase == _START:
            control = control._replace(phase=_SWEEP)
            if not self.sweeps:
                return self._run_here(state, control)
            return _stored(state, _to_gene(state, control, 0))
        if control.phase == _SWEEP:
            state = _pooled(state, int(control.turn))
            control = _next_turn(state, control)
            if control.gene >= state.space.n_genes:
                return self._run_here(state, control)
            return _stored(state, control)
        return self._run_on(state, control, draws)

    def _run_here(self, state: MemeticState, control: Control) -> MemeticState:
        """A run of small steps from the best so far."""
        mean = _best_share(state)[0]
        sigma = self.sigma / 4 if self.sweeps else self.sigma
        model = new_model(mean, torch.full_like(state.sigma, sigma), _separable(state))
        control = control._replace(phase=_RUN, size=1, pooled=0, is_large=0, updates=0)
        return _stored(state._replace(**model._asdict()), control)

    def _run_on(self, state: MemeticState, control: Control, draws: Draws) -> MemeticState:
        """Pool the samples told; update the run when they are enough; restart when it is done."""
        n = state.x.shape[0]
        state = _pooled(state, int(control.pooled))
        spent = {"large" if control.is_large else "small": n}
        control = control._replace(
            pooled=control.pooled + 1,
            **{key: getattr(control, key) + value for key, value in spent.items()},
        )
        if control.pooled < control.size:
            return _stored(state, control)
        state = self._updated(state, control)
        control = control._replace(pooled=0, updates=control.updates + 1)
        if _is_done(state, control):
            return self._restarted(state, control, draws)
        return _stored(state, control)

    def _updated(self, state: MemeticState, control: Control) -> MemeticState:
        n = int(control.size) * state.x.shape[0]
        order = self._order(state, state.pool_fitness[:n], state.pool_violation[:n])
        table = state.space.table(state.x.device, state.x.dtype)
        x = take(state.pool_x[:n], order)
        model = state.model()
        factor = stretch(model, table, n)
        steps = (x - model.mean) / (model.sigma * factor)
        weights = weights_of(x.shape[-1], n, _separable(state))
        model = held(update(model, steps, factor, weights))
        if not state.space.is_real:
            model = model._replace(mean=torch.where(table.is_unordered, x[0], model.mean))
        trace = torch.cat([state.trace[1:], state.pool_fitness[order[:1]]])
        return state._replace(**model._asdict(), trace=trace)

    def _restarted(self, state: MemeticState, control: Control, draws: Draws) -> MemeticState:
        """A run from a random point: the kind that has spent less."""
        d = state.space.n_genes
        u = draws.uniform(d + 1)
        is_large = control.large <= control.small
        sigma, size = self.sigma, 1.0
        if is_large:
            size = min(_MOST, 2 * control.grown if control.grown else self.first_growth)
            control = control._replace(grown=size)
        else:
            sigma *= 10 ** (-2 * float(u[d]))
        model = new_model(u[:d], torch.full_like(state.sigma, sigma), _separable(state))
        control = control._replace(size=size, is_large=float(is_large), updates=0)
        return _stored(state._replace(**model._asdict()), control)


def _each(state: MemeticState, change: Callable[[MemeticState], MemeticState]) -> MemeticState:
    """A change of single states, for every island of a batch."""
    batch = state.epsilon.shape
    if not batch:
        return change(state)
    many = stack([change(s) for s in split(state)])
    tensors = {
        name: getattr(many, name).reshape(*batch, *getattr(many, name).shape[1:])
        for name in MemeticState._fields[2:]
    }
    return state._replace(**tensors)


def _stored(state: MemeticState, control: Control) -> MemeticState:
    return state._replace(control=torch.tensor(control, dtype=torch.float64))


def _separable(state: MemeticState) -> bool:
    return state.cov.ndim == state.mean.ndim


def _n_grid(n: int) -> int:
    return math.ceil(_GRID / n)


def _pooled(state: MemeticState, number: int) -> MemeticState:
    """What was told last as population `number` of the pool."""
    n = state.x.shape[0]
    pools = [p.clone() for p in (state.pool_x, state.pool_fitness, state.pool_violation)]
    for pool, values in zip(pools, (state.x, state.fitness, state.violation), strict=True):
        pool[number * n : (number + 1) * n] = values
    return state._replace(pool_x=pools[0], pool_fitness=pools[1], pool_violation=pools[2])


def _to_gene(state: MemeticState, control: Control, gene: int) -> Control:
    """The sweep at the start of a gene; genes without choice are passed over."""
    while gene < state.space.n_genes and state.space.lower[gene] == state.space.upper[gene]:
        gene += 1
    return control._replace(gene=gene, turn=0)


def _along(state: MemeticState, control: Control, draws: Draws) -> Tensor:
    """Points along one gene through the best so far, `(pop, genes)`."""
    n, gene, turn = state.x.shape[0], int(control.gene), int(control.turn)
    n_grid = _n_grid(n)
    u = draws.uniform(n)
    place = torch.arange(n, dtype=state.x.dtype, device=state.x.device)
    if turn < n_grid:
        share = (place * n_grid + turn + u) / (n * n_grid)
        # the bounds themselves: the answer often lies there
        share[0] = 0.0 if turn == 0 else share[0]
        share[-1] = 1.0 if turn == n_grid - 1 else share[-1]
    else:
        n_peaks, reach = _ZOOMS[turn - n_grid]
        peaks = _peaks(state, turn, gene, n_peaks)
        spread = 2 * ((place / len(peaks)).floor() + u) / math.ceil(n / len(peaks)) - 1
        share = peaks[place.long() % len(peaks)] + spread * (reach / (n * n_grid))
    x = _best_share(state).expand_as(state.x).clone()
    x[:, gene] = share.clamp(0, 1)
    return x


def _best_share(state: MemeticState) -> Tensor:
    """The best so far as shares of latent ranges, `(1, genes)`."""
    table = state.space.table(state.x.device, state.x.dtype)
    return (state.best_x - table.low) / width_of(table)


def _peaks(state: MemeticState, turn: int, gene: int, n_peaks: int) -> Tensor:
    """Values of a gene that were better than those next to them, best first: `(<= n_peaks,)`."""
    n = turn * state.x.shape[0]
    bad = state.pool_violation[:n] > 0
    score = torch.where(bad, -torch.inf, state.pool_fitness[:n])
    value, order = torch.cat([state.pool_x[:n, gene], _best_share(state)[:, gene]]).sort(
        stable=True
    )
    score = torch.cat([score, state.best_fitness])[order]
    edge = score.new_full((1,), -torch.inf)
    padded = torch.cat([edge, score, edge])
    is_peak = (score >= padded[:-2]) & (score >= padded[2:])
    best = torch.where(is_peak, score, -torch.inf).argsort(descending=True, stable=True)
    return value[best[: min(n_peaks, int(is_peak.sum()))]]


def _next_turn(state: MemeticState, control: Control) -> Control:
    """The sweep after a round: the next round about the best values, or the next gene."""
    n, gene, turn = state.x.shape[0], int(control.gene), int(control.turn) + 1
    table = state.space.table(state.x.device, state.x.dtype)
    is_coarse = turn < _n_grid(n)
    step = float(width_of(table)[gene]) / (n * _n_grid(n))
    is_known = bool(table.is_unordered[gene]) or (bool(table.is_whole[gene]) and step < 1)
    if is_coarse or not (is_known or turn >= _n_grid(n) + len(_ZOOMS)):
        return control._replace(turn=turn)
    return _to_gene(state, control, gene + 1)


def _samples(state: MemeticState, control: Control, draws: Draws) -> Tensor:
    """Samples of the run, `(pop, genes)`."""
    n, d = state.x.shape
    model = state.model()
    table = state.space.table(state.x.device, state.x.dtype)
    factor = stretch(model, table, n * int(control.size))
    x = model.mean + model.sigma * factor * sample(model, draws.normal(n, d))
    return x if state.space.is_real else with_choices(x, model, table, draws)


def _is_done(state: MemeticState, control: Control) -> bool:
    """Whether a run has converged or cannot go on (Hansen 2016, section B.3)."""
    n, d = int(control.size) * state.x.shape[0], state.space.n_genes
    eps = torch.finfo(state.x.dtype).eps
    window = min(10 + math.ceil(30 * d / n), len(state.trace))
    last = state.trace[-window:]
    if control.updates >= window:
        level = float(last.abs().max())
        tolerance = 4 * eps * level + 1e-11 * min(level, 1.0)
        if not math.isfinite(level) or float(last.max() - last.min()) <= tolerance:
            return True
    longest = float(state.sigma) * math.sqrt(max(float(variances(state.model()).max()), 0.0))
    is_flat = float(state.axes.max()) > 1e7 * float(state.axes.min())
    limit = 100 + 150 * (d + 3) ** 2 / math.sqrt(n)
    return longest < 16 * eps or is_flat or control.updates > limit
