"""Particle swarm with constriction, global or ring neighborhood."""

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


class SwarmState(NamedTuple):
    """Particles and the best each has seen.

    Attributes:
        clock: `(4,)` int64, see `population.new_clock`.
        lower, upper: `(genes,)` bounds.
        x, velocity: `(*batch, pop, genes)`.
        best_x: `(*batch, pop, genes)`.
        best_fitness, best_violation: `(*batch, pop)`.
    """

    clock: Tensor
    lower: Tensor
    upper: Tensor
    x: Tensor
    velocity: Tensor
    best_x: Tensor
    best_fitness: Tensor
    best_violation: Tensor


@register("pso")
@dataclass(frozen=True, kw_only=True)
class ParticleSwarm:
    """Particle swarm.

    Source: Clerc and Kennedy 2002 (constriction 0.7298 with 2.05 + 2.05); a gene that would
    leave the box stops at the bound and turns back at half its speed (Clerc, SPSO 2011).

    Attributes:
        pop_size: particles, >= 4.
        neighborhood: `global` (fast) or `ring` (two neighbors, keeps diversity).
        inertia: share of velocity kept.
        cognitive: pull of a particle's own best.
        social: pull of its neighborhood's best.
    """

    method: ClassVar[str] = "pso"
    state_class: ClassVar[type[SwarmState]] = SwarmState

    pop_size: int = 100
    neighborhood: str = "global"
    inertia: float = 0.7298
    cognitive: float = 1.49618
    social: float = 1.49618

    def __post_init__(self) -> None:
        if self.pop_size < 4:
            raise ConfigError(f"pop_size must be >= 4; got {self.pop_size}")
        if self.neighborhood not in ("global", "ring"):
            raise ConfigError(f"neighborhood must be global or ring; got {self.neighborhood!r}")
        if not 0 <= self.inertia < 1:
            raise ConfigError(f"inertia must be in [0, 1); got {self.inertia}")
        if self.cognitive < 0 or self.social < 0:
            raise ConfigError(
                f"cognitive and social must be >= 0; got {self.cognitive}, {self.social}"
            )

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
    ) -> SwarmState:
        """See `Optimizer.init`."""
        clock = new_clock(seed, island)
        lower, upper = space.bounds(pick_device(device), dtype)
        start = None if x0 is None else space.points(x0)
        shape = (*batch, self.pop_size, space.n_genes)
        x = first_population(self.method, clock, lower, upper, shape, start)
        # towards another uniform point, half the way (SPSO 2007)
        target = first_population(f"{self.method} velocity", clock, lower, upper, shape, None)
        worst = torch.full(shape[:-1], torch.inf, dtype=dtype, device=x.device)
        return SwarmState(clock, lower, upper, x, (target - x) * 0.5, x, -worst, worst)

    def ask(self, state: SwarmState) -> tuple[SwarmState, Tensor]:
        """See `Optimizer.ask`; the first individuals asked for are the first population."""
        if generation_of(state.clock) == 0:
            return state._replace(clock=asked(state.clock)), state.x
        shape = state.x.shape
        own, others = uniforms(self.method, state.clock, (shape[-2:], shape[-2:]), state.x)
        velocity = (
            self.inertia * state.velocity
            + self.cognitive * own * (state.best_x - state.x)
            + self.social * others * (self._leaders(state) - state.x)
        )
        moved = state.x + velocity
        x = torch.clamp(moved, state.lower, state.upper)
        velocity = velocity * (1.5 * (x == moved).to(x.dtype) - 0.5)
        return state._replace(clock=asked(state.clock), x=x, velocity=velocity), x

    def tell(
        self, state: SwarmState, fitness: Tensor, violation: Tensor | None = None
    ) -> SwarmState:
        """See `Optimizer.tell`."""
        fitness, violation = judged(fitness, violation, state.x.shape[:-1], state.x)
        better = (violation < state.best_violation) | (
            (violation == state.best_violation) & (fitness > state.best_fitness)
        )
        return state._replace(
            clock=told(state.clock),
            # lerp by 0 or 1 is exact, and much faster than where
            best_x=torch.lerp(state.best_x, state.x, better.to(state.x.dtype).unsqueeze(-1)),
            best_fitness=torch.where(better, fitness, state.best_fitness),
            best_violation=torch.where(better, violation, state.best_violation),
        )

    def ranked(self, state: SwarmState) -> Ranked:
        """See `Optimizer.ranked`."""
        order = best_first(state.best_fitness, state.best_violation)
        return Ranked(
            take(state.best_x, order),
            state.best_fitness.gather(-1, order),
            state.best_violation.gather(-1, order),
        )

    def replace_worst(self, state: SwarmState, x: Tensor, fitness: Tensor) -> SwarmState:
        """See `Optimizer.replace_worst`; newcomers start at rest."""
        n = x.shape[-2]
        order = best_first(state.best_fitness, state.best_violation)
        worst = order[..., state.x.shape[-2] - n :]
        rows = worst.unsqueeze(-1).expand_as(x)
        return state._replace(
            x=state.x.scatter(-2, rows, x),
            velocity=state.velocity.scatter(-2, rows, torch.zeros_like(x)),
            best_x=state.best_x.scatter(-2, rows, x),
            best_fitness=state.best_fitness.scatter(-1, worst, fitness),
            best_violation=state.best_violation.scatter(-1, worst, torch.zeros_like(fitness)),
        )

    def _leaders(self, state: SwarmState) -> Tensor:
        """Best known genes in each particle's neighborhood, broadcastable to `x`."""
        order = best_first(state.best_fitness, state.best_violation)
        if self.neighborhood == "global":
            return take(state.best_x, order[..., :1])
        numbers = torch.arange(order.shape[-1], device=order.device).expand_as(order)
        rank = torch.empty_like(order).scatter_(-1, order, numbers)
        nearby = torch.stack([rank.roll(1, -1), rank, rank.roll(-1, -1)])
        return take(state.best_x, order.gather(-1, nearby.amin(0)))
