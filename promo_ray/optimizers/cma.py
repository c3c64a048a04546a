"""CMA-ES with full or separable covariance, whole numbers kept moving."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from promo_ray.errors import ConfigError
from promo_ray.optimizers.covariance import (
    Model,
    centered,
    held,
    individuals,
    new_model,
    sample,
    stretch,
    update,
    weights_of,
    width_of,
    with_choices,
)
from promo_ray.optimizers.population import Clock, PopulationMethod, worst_of
from promo_ray.optimizers.ranking import Ranked, behind, best_of, ranked_of, seated, take
from promo_ray.optimizers.space import SearchSpace
from promo_ray.registry import register


class CmaState(NamedTuple):
    """Distribution, its last samples, and the best so far.

    Attributes:
        space, clock: see `population.Optimizer`.
        mean, sigma, cov, basis, axes, path_s, path_c, age: see `covariance.Model`.
        x: `(*batch, pop, genes)` samples as shares of latent ranges, not yet mirrored into them.
        fitness, violation: `(*batch, pop)` of `x`.
        best_x: `(*batch, 1, genes)` individual.
        best_fitness, best_violation: `(*batch, 1)`.
        epsilon: `(*batch,)` violation that counted as none at first.
    """

    space: SearchSpace
    clock: Clock
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
    best_x: Tensor
    best_fitness: Tensor
    best_violation: Tensor
    epsilon: Tensor

    def model(self) -> Model:
        """The distribution."""
        return Model(*(getattr(self, name) for name in Model._fields))

    def best(self) -> Ranked:
        """Best so far."""
        return Ranked(self.best_x, self.best_fitness, self.best_violation)


@register("cma")
@dataclass(frozen=True, kw_only=True)
class CmaEs(PopulationMethod[CmaState]):
    """Evolution strategy that learns the covariance of good steps; one run without restarts.

    For 2 to 100 genes that depend on one another; float64 if more than five digits matter.
    The box is mirrored at its bounds.

    Attributes:
        pop_size: samples per generation; 0 = 4 + 3 ln(genes), even.
        is_separable: variances alone: for more than 100 genes, or genes that do not interact.
        sigma: first step size as a share of each gene's range.
        epsilon_generations: see `PopulationMethod`.
    """

    method: ClassVar[str] = "cma"
    state_class: ClassVar[type[CmaState]] = CmaState

    pop_size: int = 0
    is_separable: bool = False
    sigma: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma <= 1:
            raise ConfigError(f"sigma must be in (0, 1]; got {self.sigma}")

    def size(self, space: SearchSpace) -> int:
        """See `Optimizer.size`."""
        return self.pop_size or default_size(space.n_genes)

    def _first(self, space: SearchSpace, clock: Clock, x: Tensor, is_given: bool) -> CmaState:
        # the first mean is the first row of x0, or a random point
        table = space.table(x.device, x.dtype)
        x, worst = (x - table.low) / width_of(table), worst_of(x)
        sigma = torch.full(x.shape[:-2], self.sigma, dtype=x.dtype, device=x.device)
        model = new_model(x[..., 0, :], sigma, self.is_separable)
        if not is_given:
            x = self._samples(space, clock, model)
        first = individuals(space, x[..., :1, :])
        return CmaState(
            space, clock, *model, x, -worst, worst, first, -worst[..., :1], worst[..., :1],
            torch.zeros_like(sigma),
        )  # fmt: skip

    def ask(self, state: CmaState) -> tuple[CmaState, Tensor]:
        """See `Optimizer.ask`."""
        if state.clock.generation > 0:
            state = state._replace(x=self._samples(state.space, state.clock, state.model()))
        x = individuals(state.space, state.x)
        return state._replace(clock=state.clock._replace(is_asked=True)), x

    def tell(self, state: CmaState, fitness: Tensor, violation: Tensor | None = None) -> CmaState:
        """See `Optimizer.tell`."""
        state, fitness, violation = self._told(state, fitness, violation, state.x)
        asked = ranked_of(individuals(state.space, state.x), fitness, violation)
        best = best_of(asked, state.best())
        order = self._order(state, fitness, violation)
        n, d = state.x.shape[-2:]
        table = state.space.table(state.x.device, state.x.dtype)
        model = state.model()
        factor = stretch(model, table, n)
        scale = (model.sigma.unsqueeze(-1) * factor).unsqueeze(-2)
        weights = weights_of(d, n, self.is_separable)
        x = take(state.x, order)
        if not state.space.is_real:
            x = centered(x, model, table, weights.n_parents)
        steps = (x - model.mean.unsqueeze(-2)) / scale
        model = held(update(model, steps, factor, weights))
        if not state.space.is_real:
            mean = torch.where(table.is_unordered, x[..., 0, :], model.mean)
            model = model._replace(mean=mean)
        return state._replace(
            **model._asdict(), fitness=fitness, violation=violation, best_x=best.x,
            best_fitness=best.fitness, best_violation=best.violation,
        )  # fmt: skip

    def ranked(self, state: CmaState) -> Ranked:
        """See `Optimizer.ranked`; the best so far, then the last samples."""
        last = ranked_of(individuals(state.space, state.x), state.fitness, state.violation)
        return behind(state.best(), last)

    def _seat(self, state: CmaState, came: Ranked, ranks: Tensor | None) -> CmaState:
        # the mean goes to a newcomer better than all so far
        table = state.space.table(came.x.device, came.x.dtype)
        share = (came.x - table.low) / width_of(table)
        here = Ranked(state.x, state.fitness, state.violation)
        new = seated(here, came._replace(x=share), ranks)
        arrived = ranked_of(came.x, torch.where(new.enters, new.fitness, -torch.inf), new.violation)
        best = best_of(arrived, state.best())
        wins = (best.fitness != state.best_fitness) | (best.violation != state.best_violation)
        goal = (best.x[..., 0, :] - table.low) / width_of(table)
        return state._replace(
            x=state.x.scatter(-2, new.ranks.unsqueeze(-1).expand_as(new.x), new.x),
            fitness=state.fitness.scatter(-1, new.ranks, new.fitness),
            violation=state.violation.scatter(-1, new.ranks, new.violation),
            mean=torch.where(wins, goal, state.mean),
            best_x=best.x,
            best_fitness=best.fitness,
            best_violation=best.violation,
        )

    def _samples(self, space: SearchSpace, clock: Clock, model: Model) -> Tensor:
        """Samples of the next generation, `(*batch, pop, genes)`."""
        n, d = self.size(space), space.n_genes
        batch = model.mean.shape[:-1]
        table = space.table(model.mean.device, model.mean.dtype)
        draws = self._draws(clock, batch, model.mean)
        steps = sample(model, draws.normal(n, d))
        scale = (model.sigma.unsqueeze(-1) * stretch(model, table, n)).unsqueeze(-2)
        x = model.mean.unsqueeze(-2) + scale * steps
        return x if space.is_real else with_choices(x, model, table, draws)


def default_size(n_genes: int) -> int:
    """4 + 3 ln(genes) samples, even (Hansen 2016)."""
    return 2 * math.ceil((4 + int(3 * math.log(n_genes))) / 2)
