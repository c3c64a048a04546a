"""Particle swarm: inertia or constriction; global, ring or von Neumann neighborhoods."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from promo_ray.errors import ConfigError
from promo_ray.optimizers import native
from promo_ray.optimizers.population import Clock, PopulationMethod, first_population, worst_of
from promo_ray.optimizers.ranking import Ranked, ranked_of, seated, take
from promo_ray.optimizers.space import SearchSpace
from promo_ray.registry import register


class SwarmState(NamedTuple):
    """Particles and the best each has seen, all latent points.

    Attributes:
        space, clock: see `population.Optimizer`.
        x, velocity: `(*batch, pop, genes)`.
        best_x: `(*batch, pop, genes)`.
        best_fitness, best_violation: `(*batch, pop)`.
        epsilon: `(*batch,)` violation that counted as none at first.
    """

    space: SearchSpace
    clock: Clock
    x: Tensor
    velocity: Tensor
    best_x: Tensor
    best_fitness: Tensor
    best_violation: Tensor
    epsilon: Tensor


@register("pso")
@dataclass(frozen=True, kw_only=True)
class ParticleSwarm(PopulationMethod[SwarmState]):
    """Particle swarm.

    Source: Clerc and Kennedy 2002 (constriction 0.7298 with 2.05 + 2.05, as inertia and pulls);
    Shi and Eberhart 1998 (falling inertia); a gene that would leave the box stops at the bound
    and turns back at half its speed (Clerc, SPSO 2011).

    Attributes:
        neighborhood: `global` (fast), `ring` (two neighbors) or `von_neumann` (four on a torus);
            fewer neighbors keep diversity longer.
        inertia: share of velocity kept.
        final_inertia: what inertia falls to, linearly, over `inertia_generations`; None = constant.
        inertia_generations: see `final_inertia`.
        cognitive: pull of a particle's own best.
        social: pull of its neighborhood's best.
        constriction: scale velocity by the factor of Clerc and Kennedy that cognitive + social
            > 4 imply, in place of inertia.
    """

    method: ClassVar[str] = "pso"
    state_class: ClassVar[type[SwarmState]] = SwarmState

    neighborhood: str = "global"
    inertia: float = 0.7298
    final_inertia: float | None = None
    inertia_generations: int = 200
    cognitive: float = 1.49618
    social: float = 1.49618
    constriction: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighborhood not in ("global", "ring", "von_neumann"):
            raise ConfigError(
                f"neighborhood must be global, ring or von_neumann; got {self.neighborhood!r}"
            )
        for inertia in (self.inertia, self.final_inertia):
            if inertia is not None and not 0 <= inertia < 1:
                raise ConfigError(f"inertia must be in [0, 1); got {inertia}")
        if self.cognitive < 0 or self.social < 0 or self.inertia_generations < 1:
            raise ConfigError(
                "cognitive, social >= 0 and inertia_generations >= 1 must hold; "
                f"got {self.cognitive}, {self.social}, {self.inertia_generations}"
            )
        if self.constriction and self.cognitive + self.social <= 4:
            raise ConfigError(
                "constriction needs cognitive + social > 4 (2.05 each, say); "
                f"got {self.cognitive} + {self.social}"
            )

    def _first(self, space: SearchSpace, clock: Clock, x: Tensor, is_given: bool) -> SwarmState:
        # towards another uniform point, half the way (SPSO 2007)
        target = first_population(f"{self.method} velocity", clock, space, x.shape, x)
        worst, speed = worst_of(x), (target - x) * 0.5
        return SwarmState(space, clock, x, speed, x, -worst, worst, x.new_zeros(x.shape[:-2]))

    def ask(self, state: SwarmState) -> tuple[SwarmState, Tensor]:
        """See `Optimizer.ask`; the first individuals asked for are the first population."""
        if state.clock.generation > 0:
            state = self._moved(state)
        x = state.x if state.space.is_plain else state.space.snap(state.x)
        return state._replace(clock=state.clock._replace(is_asked=True)), x

    def tell(
        self, state: SwarmState, fitness: Tensor, violation: Tensor | None = None
    ) -> SwarmState:
        """See `Optimizer.tell`."""
        is_first = state.clock.generation == 0
        state, fitness, violation = self._told(state, fitness, violation, state.x)
        if is_first:
            return state._replace(best_fitness=fitness, best_violation=violation)
        old = state.best_fitness, state.best_violation
        better = self._replaces(state, (fitness, violation), old)
        return state._replace(
            best_x=native.chosen_rows(better, state.x, state.best_x),
            best_fitness=torch.where(better, fitness, old[0]),
            best_violation=torch.where(better, violation, old[1]),
        )

    def ranked(self, state: SwarmState) -> Ranked:
        """See `Optimizer.ranked`."""
        found = ranked_of(state.best_x, state.best_fitness, state.best_violation)
        return found if state.space.is_plain else found._replace(x=state.space.snap(found.x))

    def _seat(self, state: SwarmState, came: Ranked, ranks: Tensor | None) -> SwarmState:
        # newcomers start at rest
        here = Ranked(state.best_x, state.best_fitness, state.best_violation)
        new = seated(here, came, ranks)
        at, enters = new.ranks, new.enters.unsqueeze(-1)
        rows = at.unsqueeze(-1).expand_as(new.x)
        speed = torch.where(enters, 0.0, state.velocity.gather(-2, rows))
        return state._replace(
            x=state.x.scatter(-2, rows, torch.where(enters, came.x, state.x.gather(-2, rows))),
            velocity=state.velocity.scatter(-2, rows, speed),
            best_x=state.best_x.scatter(-2, rows, new.x),
            best_fitness=state.best_fitness.scatter(-1, at, new.fitness),
            best_violation=state.best_violation.scatter(-1, at, new.violation),
        )

    def _pulls(self, generation: int) -> tuple[float, float, float]:
        """Inertia, cognitive and social pull of a generation."""
        if self.constriction:
            phi = self.cognitive + self.social
            chi = 2 / abs(2 - phi - math.sqrt(phi * phi - 4 * phi))
            return chi, chi * self.cognitive, chi * self.social
        inertia = self.inertia
        if self.final_inertia is not None:
            share = min(1.0, generation / self.inertia_generations)
            inertia += share * (self.final_inertia - self.inertia)
        return inertia, self.cognitive, self.social

    def _moved(self, state: SwarmState) -> SwarmState:
        """One step of all particles.

        One word per gene gives both random factors, 16 bits each.
        """
        n, d = state.x.shape[-2:]
        draws = self._draws(state.clock, state.x.shape[:-2], state.x)
        table = state.space.table(state.x.device, state.x.dtype)
        pulls = self._pulls(state.clock.generation)
        leaders = self._leaders(state)
        if native.serves(state.x):
            key, start, bounds = draws.key, draws.skip(n * d), (table.low, table.high)
            x, velocity = native.move(
                state.x, state.velocity, state.best_x, leaders, key, start, bounds, pulls
            )
            return state._replace(x=x, velocity=velocity)
        words = draws.words(n, d)
        own = (words & 0xFFFF).to(state.x.dtype) * (pulls[1] * 2.0**-16)
        social = ((words >> 16) & 0xFFFF).to(state.x.dtype) * (pulls[2] * 2.0**-16)
        best = take(state.best_x, leaders)
        velocity = state.velocity * pulls[0] + own * (state.best_x - state.x)
        velocity = velocity + social * (best - state.x)
        moved = state.x + velocity
        x = torch.clamp(moved, table.low, table.high)
        return state._replace(x=x, velocity=torch.where(x == moved, velocity, velocity * -0.5))

    def _leaders(self, state: SwarmState) -> Tensor:
        """Row of the best particle in each particle's neighborhood, `(*batch, pop or 1)` int64."""
        fitness, n = state.best_fitness, self.pop_size
        if self.neighborhood == "global" and not state.clock.is_constrained:
            return fitness.argmax(dim=-1, keepdim=True)
        order = self._order(state, fitness, state.best_violation)
        if self.neighborhood == "global":
            return order[..., :1]
        numbers = torch.arange(n, device=order.device).expand_as(order)
        rank = torch.empty_like(order).scatter_(-1, order, numbers)
        if self.neighborhood == "ring":
            nearby = [rank.roll(1, -1), rank, rank.roll(-1, -1)]
        else:
            width = _torus_width(n)
            grid = rank.reshape(*rank.shape[:-1], n // width, width)
            moves = [(0, -1), (1, -1), (-1, -1), (1, -2), (-1, -2)]
            nearby = [grid.roll(by, axis).flatten(-2) for by, axis in moves]
        return order.gather(-1, torch.stack(nearby).amin(0))


def _torus_width(n: int) -> int:
    """Largest divisor of n that is at most its root: the narrow side of the torus."""
    return next(w for w in range(math.isqrt(n), 0, -1) if n % w == 0)
