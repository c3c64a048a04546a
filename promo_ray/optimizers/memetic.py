"""The default method: a sweep along the genes, then CMA-ES runs from there and from anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from promo_ray.errors import ConfigError
from promo_ray.optimizers.cma import default_size
from promo_ray.optimizers.covariance import (
    centered,
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
from promo_ray.optimizers.crossing import part_of, trials
from promo_ray.optimizers.draws import Draws
from promo_ray.optimizers.population import Clock, PopulationMethod, worst_of
from promo_ray.optimizers.ranking import Ranked, behind, best_of, newcomers, ranked_of, take
from promo_ray.optimizers.space import SearchSpace
from promo_ray.optimizers.states import split, stack
from promo_ray.optimizers.sweep import (
    RUN,
    START,
    SWEEP,
    Control,
    MemeticState,
    along,
    begin_gene,
    next_turn,
)
from promo_ray.registry import register

_MOST = 32  # largest run in multiples of the smallest
_MOST_FULL = 150  # genes up to which runs learn a full covariance
_MOST_CROSSED = 10  # genes, whole numbers among them, up to which runs cross


@register("auto")
@dataclass(frozen=True, kw_only=True)
class Memetic(PopulationMethod[MemeticState]):
    """Default for an unknown problem of up to some hundred genes and at least 50 evaluations each.

    1. A sweep looks along every gene in turn from the best point so far, by a grid and by closing
       in: it solves what is separable, finds good values of choices, and costs some 50
       evaluations per gene, 200 where genes have many peaks.
    2. A CMA-ES run: with small steps from there where most genes have many peaks, else from the
       points given or a random one.
    3. CMA-ES runs start anew at random points, in turn with doubled populations and with small
       ones of varied step size, each kind with half of the evaluations (BIPOP, Hansen 2009).
       With whole numbers among at most 10 genes, the large ones are runs of differential evolution.

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
        super().__post_init__()
        if not 0 < self.sigma <= 1 or not 1 <= self.first_growth <= _MOST:
            raise ConfigError(
                f"sigma in (0, 1] and first_growth in [1, {_MOST}] must hold; "
                f"got {self.sigma}, {self.first_growth}"
            )

    def size(self, space: SearchSpace) -> int:
        """See `Optimizer.size`."""
        return self.pop_size or default_size(space.n_genes)

    def _first(self, space: SearchSpace, clock: Clock, x: Tensor, is_given: bool) -> MemeticState:
        batch, (n, d) = x.shape[:-2], x.shape[-2:]
        worst, zeros = worst_of(x), x.new_zeros(x.shape[:-2])
        start = Control(is_given=float(is_given))
        control = torch.tensor(start, dtype=torch.float64).expand(*batch, -1).clone()
        model = new_model(x[..., 0, :] * 0 + 0.5, zeros + self.sigma, d > _MOST_FULL)
        pool, values = x.new_zeros((*batch, _MOST * n, d)), x.new_zeros((*batch, _MOST * n))
        table = space.table(x.device, x.dtype)
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

    def _seat(self, state: MemeticState, came: Ranked, ranks: Tensor | None) -> MemeticState:
        # a run's mean goes to a newcomer better than all so far
        new = newcomers(self.ranked(state), came, ranks)
        best = best_of(ranked_of(new.x, new.fitness, new.violation), state.best())
        wins = (best.fitness != state.best_fitness) | (best.violation != state.best_violation)
        table = state.space.table(came.x.device, came.x.dtype)
        goal = (best.x[..., 0, :] - table.low) / width_of(table)
        return state._replace(
            mean=torch.where(wins, goal, state.mean),
            best_x=torch.where(wins.unsqueeze(-1), best.x, state.best_x),
            best_fitness=best.fitness,
            best_violation=best.violation,
        )

    def _ask_one(self, state: MemeticState) -> MemeticState:
        control = state.control_of()
        if control.phase == START:
            return state
        draws = self._draws(state.clock, (), state.x)
        if control.phase == SWEEP:
            return state._replace(x=along(state, control, draws))
        if _crosses(state, control):
            n = state.x.shape[0] * int(control.size)
            order = self._order(state, state.pool_fitness[:n], state.pool_violation[:n])
            return state._replace(x=trials(state, control, draws, int(order[0])))
        return state._replace(x=_samples(state, control, draws))

    def _tell_one(self, state: MemeticState) -> MemeticState:
        control = state.control_of()
        draws = self._draws(state.clock, (), state.x)
        draws.skip(8 * state.x.numel() + 64)  # beyond what ask takes
        if control.phase == START:
            control = control._replace(phase=SWEEP)
            first = begin_gene(state, control, 0)
            if not self.sweeps or first.gene >= state.space.n_genes:
                return self._run_here(state, control, draws)
            return state.at(first)
        if control.phase == SWEEP:
            state = state.pooled(int(control.turn))
            control = next_turn(state, control)
            if control.gene >= state.space.n_genes:
                return self._run_here(state, control, draws)
            return state.at(control)
        return self._run_on(state, control, draws)

    def _run_here(self, state: MemeticState, control: Control, draws: Draws) -> MemeticState:
        """The first run."""
        mean = state.best_share()[0]
        if self.sweeps and state.space.is_real and not (control.is_fine or control.is_given):
            # few peaks: what a sweep finds in a bent or tilted valley is a bad start
            mean = draws.uniform(state.space.n_genes)
        # a second sweep has found the peak; the run is to stay on it
        sigma = self.sigma / 100 if control.is_fine else self.sigma
        model = new_model(mean, torch.full_like(state.sigma, sigma), state.is_separable())
        control = control._replace(phase=RUN, size=1, pooled=0, is_large=0, updates=0)
        return state._replace(**model._asdict()).at(control)

    def _run_on(self, state: MemeticState, control: Control, draws: Draws) -> MemeticState:
        """Pool the samples told; update the run when they are enough; restart when it is done."""
        n, crosses = state.x.shape[0], _crosses(state, control)
        if crosses and control.updates > 0:
            state = self._kept(state, part_of(state, control))
        state = state.pooled(int(control.pooled))
        spent = {"large" if control.is_large else "small": n}
        control = control._replace(
            pooled=control.pooled + 1,
            **{key: getattr(control, key) + value for key, value in spent.items()},
        )
        if control.pooled < control.size:
            return state.at(control)
        if not crosses:
            state = self._updated(state, control)
        state = self._traced(state, control)
        control = control._replace(pooled=0, updates=control.updates + 1)
        if _is_done(state, control):
            return self._restarted(state, control, draws)
        return state.at(control)

    def _kept(self, state: MemeticState, rows: slice) -> MemeticState:
        """The trials told, or what is better in their place in the population."""
        old = state.pool_fitness[rows], state.pool_violation[rows]
        wins = self._replaces(state, (state.fitness, state.violation), old)
        return state._replace(
            x=torch.where(wins.unsqueeze(-1), state.x, state.pool_x[rows]),
            fitness=torch.where(wins, state.fitness, old[0]),
            violation=torch.where(wins, state.violation, old[1]),
        )

    def _traced(self, state: MemeticState, control: Control) -> MemeticState:
        """The state with the best of its pool in the trace."""
        n = int(control.size) * state.x.shape[0]
        best = self._order(state, state.pool_fitness[:n], state.pool_violation[:n])[:1]
        return state._replace(trace=torch.cat([state.trace[1:], state.pool_fitness[best]]))

    def _updated(self, state: MemeticState, control: Control) -> MemeticState:
        n = int(control.size) * state.x.shape[0]
        order = self._order(state, state.pool_fitness[:n], state.pool_violation[:n])
        table = state.space.table(state.x.device, state.x.dtype)
        x = take(state.pool_x[:n], order)
        model = state.model()
        factor = stretch(model, table, n)
        weights = weights_of(x.shape[-1], n, state.is_separable())
        if not state.space.is_real:
            x = centered(x, model, table, weights.n_parents)
        steps = (x - model.mean) / (model.sigma * factor)
        model = held(update(model, steps, factor, weights))
        if not state.space.is_real:
            model = model._replace(mean=torch.where(table.is_unordered, x[0], model.mean))
        return state._replace(**model._asdict())

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
        model = new_model(u[:d], torch.full_like(state.sigma, sigma), state.is_separable())
        control = control._replace(size=size, is_large=float(is_large), updates=0)
        return state._replace(**model._asdict()).at(control)


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


def _samples(state: MemeticState, control: Control, draws: Draws) -> Tensor:
    """Samples of the run, `(pop, genes)`."""
    n, d = state.x.shape
    model = state.model()
    table = state.space.table(state.x.device, state.x.dtype)
    factor = stretch(model, table, n * int(control.size))
    x = model.mean + model.sigma * factor * sample(model, draws.normal(n, d))
    return x if state.space.is_real else with_choices(x, model, table, draws)


def _is_mixed(state: MemeticState) -> bool:
    """Few genes, whole numbers among them."""
    return not state.space.is_real and state.space.n_genes <= _MOST_CROSSED


def _crosses(state: MemeticState, control: Control) -> bool:
    """The run is one of differential evolution."""
    return bool(control.is_large) and _is_mixed(state)


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
    if _crosses(state, control):
        return False
    longest = float(state.sigma) * math.sqrt(max(float(variances(state.model()).max()), 0.0))
    is_flat = float(state.axes.max()) > 1e7 * float(state.axes.min())
    limit = 100 + 150 * (d + 3) ** 2 / math.sqrt(n)
    return longest < 4000 * eps or is_flat or control.updates > limit
