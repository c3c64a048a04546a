"""Genetic algorithm with selectable operators; typed ones where genes are mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from promo_ray.errors import ConfigError
from promo_ray.optimizers import native
from promo_ray.optimizers.draws import Draws
from promo_ray.optimizers.population import Clock, PopulationMethod, worst_of
from promo_ray.optimizers.ranking import Ranked, newcomers, ranked_of, take
from promo_ray.optimizers.space import SearchSpace
from promo_ray.optimizers.variation import (
    CROSSOVERS,
    ORDER_MUTATIONS,
    POINT_MUTATIONS,
    SELECTIONS,
    crossed,
    grid_step,
    linear_rank,
    polynomial_step,
    reordered,
    reset,
    roulette,
    sbx,
    tournament,
)
from promo_ray.registry import register


class GeneticState(NamedTuple):
    """Population best first, and the individuals asked for.

    Attributes:
        space, clock: see `population.Optimizer`.
        x: `(*batch, pop, genes)`.
        fitness, violation: `(*batch, pop)`.
        children: `(*batch, pop, genes)` asked for last.
        epsilon: `(*batch,)` violation that counted as none at first.
    """

    space: SearchSpace
    clock: Clock
    x: Tensor
    fitness: Tensor
    violation: Tensor
    children: Tensor
    epsilon: Tensor


@register("ga")
@dataclass(frozen=True, kw_only=True)
class GeneticAlgorithm(PopulationMethod[GeneticState]):
    """Genetic algorithm with elitism; one generation is O(pop * genes).

    Real genes are crossed and mutated by the operators named; in mixed spaces whole numbers
    mutate by grid steps or, under `polynomial`, half of the time as far as real ones do; choices
    are exchanged and drawn anew, subsets draw from the union of both parents.

    Attributes:
        pop_size: individuals, even, >= 4.
        n_elites: best parents that compete with the children for survival, 1 to pop_size;
            None = all (the best half of parents and children survives).
        selection: `tournament`, `roulette` or `rank`.
        tournament_size: individuals drawn per parent.
        rank_pressure: how much likelier than the mean the best is, in [1, 2].
        crossover: `sbx`, `single_point`, `multi_point`, `uniform` or `slot` (genes of a slot of
            the space are inherited together).
        crossover_rate: share of pairs that exchange genes.
        crossover_eta: spread of children about parents; 1, 3, 7, 15, ...: larger is closer.
        n_points: cuts of `multi_point`.
        mutation: `polynomial`, `grid_step`, or for sequences `swap`, `insert`, `inversion`.
        mutation_eta: as crossover_eta, for `polynomial`.
        mutation_rate: share of genes that mutate, of individuals for sequences; None = 1 / genes
            or 1 / 2.
        grid_steps: steps that make up the range of a real gene for `grid_step`.
    """

    method: ClassVar[str] = "ga"
    state_class: ClassVar[type[GeneticState]] = GeneticState

    n_elites: int | None = None
    selection: str = "tournament"
    tournament_size: int = 3
    rank_pressure: float = 1.8
    crossover: str = "sbx"
    crossover_rate: float = 0.9
    crossover_eta: int = 15
    n_points: int = 2
    mutation: str = "polynomial"
    mutation_eta: int = 15
    mutation_rate: float | None = None
    grid_steps: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pop_size % 2:
            raise ConfigError(f"pop_size must be even and >= 4; got {self.pop_size}")
        if self.n_elites is not None and not 1 <= self.n_elites <= self.pop_size:
            raise ConfigError(f"n_elites must be in [1, pop_size]; got {self.n_elites}")
        for name in ("tournament_size", "n_points", "grid_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1; got {getattr(self, name)}")
        if not 1 <= self.rank_pressure <= 2:
            raise ConfigError(f"rank_pressure must be in [1, 2]; got {self.rank_pressure}")
        for name in ("crossover_eta", "mutation_eta"):
            eta = getattr(self, name)
            if eta < 1 or (eta + 1) & eta:
                raise ConfigError(f"{name} + 1 must be a power of two >= 2; got {name} = {eta}")
        for name in ("crossover_rate", "mutation_rate"):
            rate = getattr(self, name)
            if rate is not None and not 0 <= rate <= 1:
                raise ConfigError(f"{name} must be in [0, 1]; got {rate}")
        known = {
            "selection": SELECTIONS,
            "crossover": CROSSOVERS,
            "mutation": POINT_MUTATIONS + ORDER_MUTATIONS,
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ConfigError(
                    f"{name} must be one of {', '.join(values)}; got {getattr(self, name)!r}"
                )

    def _first(self, space: SearchSpace, clock: Clock, x: Tensor, is_given: bool) -> GeneticState:
        x, worst = space.snap(x), worst_of(x)
        return GeneticState(space, clock, x, -worst, worst, x, x.new_zeros(x.shape[:-2]))

    def ask(self, state: GeneticState) -> tuple[GeneticState, Tensor]:
        """See `Optimizer.ask`; the first individuals asked for are the first population."""
        children = state.x if state.clock.generation == 0 else self._breed(state)
        clock = state.clock._replace(is_asked=True)
        return state._replace(clock=clock, children=children), children

    def tell(
        self, state: GeneticState, fitness: Tensor, violation: Tensor | None = None
    ) -> GeneticState:
        """See `Optimizer.tell`."""
        is_first = state.clock.generation == 0
        state, fitness, violation = self._told(state, fitness, violation, state.children)
        n = self.pop_size if self.n_elites is None else self.n_elites
        old = state.x[..., : 0 if is_first else n, :]
        if not is_first:
            fitness = torch.cat([state.fitness[..., :n], fitness], dim=-1)
            violation = torch.cat([state.violation[..., :n], violation], dim=-1)
        return self._survive(state, (old, state.children), fitness, violation)

    def ranked(self, state: GeneticState) -> Ranked:
        """See `Optimizer.ranked`."""
        if state.clock.is_constrained:
            return ranked_of(state.x, state.fitness, state.violation)
        return Ranked(state.x, state.fitness, state.violation)

    def _seat(self, state: GeneticState, came: Ranked, ranks: Tensor | None) -> GeneticState:
        here = self.ranked(state)
        new = newcomers(here, came, ranks)
        rows = new.ranks.unsqueeze(-1).expand_as(new.x)
        return self._survive(
            state,
            (here.x[..., :0, :], here.x.scatter(-2, rows, new.x)),
            here.fitness.scatter(-1, new.ranks, new.fitness),
            here.violation.scatter(-1, new.ranks, new.violation),
        )

    def _survive(
        self,
        state: GeneticState,
        x: tuple[Tensor, Tensor],
        fitness: Tensor,
        violation: Tensor,
    ) -> GeneticState:
        """The best of old and new rows; fitness and violation of both, the old first."""
        order = self._order(state, fitness, violation)[..., : self.pop_size]
        return state._replace(
            x=native.survivors(*x, order),
            fitness=fitness.gather(-1, order),
            violation=violation.gather(-1, order),
        )

    def _parents(self, state: GeneticState, draws: Draws) -> Tensor:
        n = self.pop_size
        if self.selection == "tournament":
            return tournament(draws, n, n, self.tournament_size)
        if self.selection == "rank":
            return linear_rank(draws, n, n, self.rank_pressure)
        return roulette(draws, state.fitness, state.violation, n)

    def _breed(self, state: GeneticState) -> Tensor:
        """Children of the present population, `(*batch, pop, genes)`."""
        space, n, d = state.space, self.pop_size, state.x.shape[-1]
        draws = self._draws(state.clock, state.x.shape[:-2], state.x)
        parents = self._parents(state, draws)
        rate = 1 / d if self.mutation_rate is None else self.mutation_rate
        if space.is_plain and self.crossover == "sbx" and self.mutation == "polynomial":
            return self._breed_plain(state, draws, parents, rate)
        both = take(state.x, parents)
        children = crossed(
            draws,
            space,
            both[..., : n // 2, :],
            both[..., n // 2 :, :],
            kind=self.crossover,
            rate=self.crossover_rate,
            eta=self.crossover_eta,
            n_points=self.n_points,
        )
        return space.snap(self._mutated(draws, space, children, rate))

    def _breed_plain(
        self, state: GeneticState, draws: Draws, parents: Tensor, rate: float
    ) -> Tensor:
        """The same for real genes without repair, in one pass where there is a kernel."""
        n, d = state.x.shape[-2:]
        table = state.space.table(state.x.device, state.x.dtype)
        etas = self.crossover_eta, self.mutation_eta
        if native.serves(state.x):
            start = draws.skip(n // 2 + n // 2 * d + n * d)
            rates = self.crossover_rate, rate
            bounds = table.lower, table.upper
            return native.breed(state.x, parents, draws.key, start, bounds, rates, etas)
        both = take(state.x, parents)
        crosses = draws.unit(n // 2, 1) < self.crossover_rate
        a, b = both[..., : n // 2, :], both[..., n // 2 :, :]
        children = torch.cat(sbx(a, b, draws.words(n // 2, d), crosses, etas[0]), dim=-2)
        step = polynomial_step(draws.words(n, d), rate, etas[1], children.dtype)
        children = children + step * (table.upper - table.lower)
        return torch.clamp(children, table.lower, table.upper)

    def _mutated(self, draws: Draws, space: SearchSpace, x: Tensor, rate: float) -> Tensor:
        n, d = x.shape[-2:]
        table = space.table(x.device, x.dtype)
        if self.mutation in ORDER_MUTATIONS:
            share = 0.5 if self.mutation_rate is None else self.mutation_rate
            return reordered(draws, self.mutation, x, share)
        words = draws.words(n, d)
        stepped = grid_step(x, words, rate, table, self.grid_steps)
        if self.mutation == "polynomial":
            step = polynomial_step(words, rate, self.mutation_eta, x.dtype)
            step = step * (table.upper - table.lower)
            far = torch.where(table.is_whole, step.sign() * step.abs().clamp(min=1), step)
            # whole numbers go near or far, as the lowest bit says, which no other draw reads
            is_near = table.is_whole & ((words & 1) == 1)
            stepped = torch.where(is_near, stepped, x + far)
        if space.is_real:
            return stepped
        stepped = torch.where(table.is_unordered, x, stepped)
        return reset(stepped, words, draws.words(n, d), rate, table)
