"""Real-coded genetic algorithm: tournament, simulated binary crossover, polynomial mutation.

The distribution indices are one less than a power of two, so that every power is a chain of
square roots: exact in IEEE arithmetic, hence the same bits in any batch, and much faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from promo_ray.errors import ConfigError
from promo_ray.optimizers.population import (
    Ranked,
    asked,
    best_first,
    first_population,
    generation_of,
    judged,
    new_clock,
    take,
    told,
    uniforms,
)
from promo_ray.optimizers.space import SearchSpace, pick_device
from promo_ray.registry import register


class GeneticState(NamedTuple):
    """Population best first, and the individuals asked for.

    Attributes:
        clock: `(4,)` int64, see `population.new_clock`.
        lower, upper: `(genes,)` bounds.
        x: `(*batch, pop, genes)`.
        fitness, violation: `(*batch, pop)`.
        children: `(*batch, pop, genes)` asked for last.
    """

    clock: Tensor
    lower: Tensor
    upper: Tensor
    x: Tensor
    fitness: Tensor
    violation: Tensor
    children: Tensor


@register("ga")
@dataclass(frozen=True, kw_only=True)
class GeneticAlgorithm:
    """Real-coded GA with elitism.

    Source: Deb and Agrawal 1995 (crossover), Deb and Goyal 1996 (mutation). One generation is
    O(pop * genes).

    Attributes:
        pop_size: individuals, even, >= 4.
        n_elites: best parents that compete with the children for survival, 1 to pop_size;
            None = all (the best half of parents and children survives).
        tournament_size: individuals drawn per parent.
        crossover_rate: share of pairs that exchange genes.
        crossover_eta: spread of children about parents; 1, 3, 7, 15, ...: larger is closer.
        mutation_eta: the same for mutation.
        mutation_rate: share of genes that mutate; None = 1 / genes.
    """

    method: ClassVar[str] = "ga"
    state_class: ClassVar[type[GeneticState]] = GeneticState

    pop_size: int = 100
    n_elites: int | None = None
    tournament_size: int = 2
    crossover_rate: float = 0.9
    crossover_eta: int = 15
    mutation_eta: int = 15
    mutation_rate: float | None = None

    def __post_init__(self) -> None:
        if self.pop_size < 4 or self.pop_size % 2:
            raise ConfigError(f"pop_size must be even and >= 4; got {self.pop_size}")
        if self.n_elites is not None and not 1 <= self.n_elites <= self.pop_size:
            raise ConfigError(f"n_elites must be in [1, pop_size]; got {self.n_elites}")
        if self.tournament_size < 1:
            raise ConfigError(f"tournament_size must be >= 1; got {self.tournament_size}")
        for name in ("crossover_eta", "mutation_eta"):
            eta = getattr(self, name)
            if eta < 1 or (eta + 1) & eta:
                raise ConfigError(f"{name} + 1 must be a power of two >= 2; got {name} = {eta}")
        for name in ("crossover_rate", "mutation_rate"):
            rate = getattr(self, name)
            if rate is not None and not 0 <= rate <= 1:
                raise ConfigError(f"{name} must be in [0, 1]; got {rate}")

    def init(
        self,
        space: SearchSpace,
        seed: int,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        batch: tuple[int, ...] = (),
        *,
        island: int = 0,
        x0: ArrayLike | None = None,
    ) -> GeneticState:
        """See `Optimizer.init`."""
        clock = new_clock(seed, island)
        lower, upper = space.bounds(pick_device(device), dtype)
        start = None if x0 is None else space.points(x0)
        shape = (*batch, self.pop_size, space.n_genes)
        x = first_population(self.method, clock, lower, upper, shape, start)
        worst = torch.full(shape[:-1], torch.inf, dtype=dtype, device=x.device)
        return GeneticState(clock, lower, upper, x, -worst, worst, x)

    def ask(self, state: GeneticState) -> tuple[GeneticState, Tensor]:
        """See `Optimizer.ask`; the first individuals asked for are the first population."""
        children = state.x if generation_of(state.clock) == 0 else self._breed(state)
        return state._replace(clock=asked(state.clock), children=children), children

    def tell(
        self, state: GeneticState, fitness: Tensor, violation: Tensor | None = None
    ) -> GeneticState:
        """See `Optimizer.tell`."""
        fitness, violation = judged(fitness, violation, state.children.shape[:-1], state.x)
        clock = told(state.clock)
        x = state.children
        if generation_of(state.clock) > 0:
            n = self.pop_size if self.n_elites is None else self.n_elites
            x = torch.cat([state.x[..., :n, :], x], dim=-2)
            fitness = torch.cat([state.fitness[..., :n], fitness], dim=-1)
            violation = torch.cat([state.violation[..., :n], violation], dim=-1)
        return _survive(state._replace(clock=clock), x, fitness, violation, self.pop_size)

    def ranked(self, state: GeneticState) -> Ranked:
        """See `Optimizer.ranked`."""
        return Ranked(state.x, state.fitness, state.violation)

    def replace_worst(self, state: GeneticState, x: Tensor, fitness: Tensor) -> GeneticState:
        """See `Optimizer.replace_worst`."""
        keep = self.pop_size - x.shape[-2]
        new_x = torch.cat([state.x[..., :keep, :], x], dim=-2)
        new_fitness = torch.cat([state.fitness[..., :keep], fitness], dim=-1)
        violation = torch.cat([state.violation[..., :keep], torch.zeros_like(fitness)], dim=-1)
        return _survive(state, new_x, new_fitness, violation, self.pop_size)

    def _breed(self, state: GeneticState) -> Tensor:
        """Children of the present population, `(*batch, pop, genes)`."""
        x = state.x
        n, d = x.shape[-2:]
        sizes = ((n, self.tournament_size), (n // 2, 1), (n // 2, d), (n, d))
        u = uniforms(self.method, state.clock, sizes, x)
        # the population is sorted, so the winner of a tournament is the smallest row number
        rows = (u[0] * n).long().clamp_(max=n - 1)
        parents = take(x, rows.amin(-1))
        a, b = parents[..., : n // 2, :], parents[..., n // 2 :, :]
        crosses = (u[1] < self.crossover_rate).to(x.dtype)
        spread = _spread_factor(u[2], self.crossover_eta)
        spread = torch.lerp(torch.ones_like(spread), spread, crosses)
        middle, half = (a + b) * 0.5, (a - b) * 0.5 * spread
        children = torch.cat([middle + half, middle - half], dim=-2)
        rate = 1 / d if self.mutation_rate is None else self.mutation_rate
        step = _mutation_step(u[3], rate, self.mutation_eta)
        children = children + step * (state.upper - state.lower)
        return torch.clamp(children, state.lower, state.upper)


def _survive(
    state: GeneticState, x: Tensor, fitness: Tensor, violation: Tensor, n: int
) -> GeneticState:
    order = best_first(fitness, violation)[..., :n]
    return state._replace(
        x=take(x, order),
        fitness=fitness.gather(-1, order),
        violation=violation.gather(-1, order),
    )


def _root(x: Tensor, eta: int) -> Tensor:
    """`x ** (1 / (eta + 1))` for eta + 1 a power of two."""
    for _ in range(eta.bit_length()):
        x = x.sqrt()
    return x


def _spread_factor(u: Tensor, eta: int) -> Tensor:
    """Signed spread factor of simulated binary crossover, one number per gene.

    The number decides in turn: exchange this gene at all (half), swap the children (half),
    contract or expand (half), by how much.

    Args:
        u: `(*batch, pairs, genes)` uniform in [0, 1).
        eta: distribution index.
    """
    u = u * 8
    bits = u.floor()
    w = u - bits
    is_same = (bits >= 4).to(u.dtype)
    bits = bits - 4 * is_same
    swaps = (bits >= 2).to(u.dtype)
    expands = bits - 2 * swaps
    root = _root(expands + w * (1 - 2 * expands), eta).clamp(min=1e-3)
    # lerp by 0 or 1 is exact, and much faster than where
    factor = torch.lerp(root, 1 / root, expands) * (1 - 2 * swaps)
    return torch.lerp(factor, torch.ones_like(factor), is_same)


def _mutation_step(u: Tensor, rate: float, eta: int) -> Tensor:
    """Polynomial mutation as a share of each gene's range, in (-1, 1); 0 where none.

    Args:
        u: `(*batch, pop, genes)` uniform in [0, 1); below `rate` the gene mutates.
        rate: share of genes that mutate.
        eta: distribution index.
    """
    if rate == 0:
        return torch.zeros_like(u)
    w = (u / rate).clamp(max=1)
    root = _root(2 * torch.minimum(w, 1 - w), eta)
    return (1 - root) * torch.sign(w - 0.5) * (u < rate).to(u.dtype)
