"""Differential evolution with self-adapting weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from promo_ray.errors import ConfigError
from promo_ray.optimizers import native
from promo_ray.optimizers.draws import below_of, unit_of
from promo_ray.optimizers.population import Clock, PopulationMethod, worst_of
from promo_ray.optimizers.ranking import Ranked, ranked_of, seated, take
from promo_ray.optimizers.space import SearchSpace
from promo_ray.registry import register

STRATEGIES = ("rand1", "best1", "current_to_pbest1")


class DifferentialState(NamedTuple):
    """Population and the trials asked for, all latent points.

    Attributes:
        space, clock: see `population.Optimizer`.
        x, trial: `(*batch, pop, genes)`.
        fitness, violation: `(*batch, pop)` of `x`.
        weight, rate: `(*batch, pop)` of the members of `x`.
        trial_weight, trial_rate: `(*batch, pop)` of the trials.
        epsilon: `(*batch,)` violation that counted as none at first.
    """

    space: SearchSpace
    clock: Clock
    x: Tensor
    trial: Tensor
    fitness: Tensor
    violation: Tensor
    weight: Tensor
    rate: Tensor
    trial_weight: Tensor
    trial_rate: Tensor
    epsilon: Tensor


@register("de")
@dataclass(frozen=True, kw_only=True)
class DifferentialEvolution(PopulationMethod[DifferentialState]):
    """Differential evolution; whole numbers are rounded when evaluated, not in the population.

    Source: Storn and Price 1997 (rand/1/bin, best/1/bin); Zhang and Sanderson 2009
    (current-to-pbest, bounds: half way back); Brest et al. 2006 (jDE: every individual carries its
    weight and rate, which are drawn anew at times and survive with it).

    Attributes:
        strategy: `rand1` (robust), `best1` (greedy) or `current_to_pbest1` (in between).
        weight: first weight of differences, in (0, 2].
        crossover_rate: first share of genes taken from the mutant.
        adapt_rate: share of individuals that try another weight or rate per generation; 0 = keep.
        p_best: share of the population that leads in `current_to_pbest1`.
    """

    method: ClassVar[str] = "de"
    state_class: ClassVar[type[DifferentialState]] = DifferentialState

    strategy: str = "rand1"
    weight: float = 0.5
    crossover_rate: float = 0.9
    adapt_rate: float = 0.1
    p_best: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in STRATEGIES:
            raise ConfigError(
                f"strategy must be one of {', '.join(STRATEGIES)}; got {self.strategy!r}"
            )
        if not 0 < self.weight <= 2:
            raise ConfigError(f"weight must be in (0, 2]; got {self.weight}")
        for name in ("crossover_rate", "adapt_rate", "p_best"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0, 1]; got {getattr(self, name)}")

    def _first(
        self, space: SearchSpace, clock: Clock, x: Tensor, is_given: bool
    ) -> DifferentialState:
        worst = worst_of(x)
        weight = torch.full_like(worst, self.weight)
        rate = torch.full_like(worst, self.crossover_rate)
        epsilon = x.new_zeros(x.shape[:-2])
        return DifferentialState(
            space, clock, x, x, -worst, worst, weight, rate, weight, rate, epsilon
        )

    def ask(self, state: DifferentialState) -> tuple[DifferentialState, Tensor]:
        """See `Optimizer.ask`; the first individuals asked for are the first population."""
        if state.clock.generation > 0:
            state = self._varied(state)
        x = state.trial if state.space.is_plain else state.space.snap(state.trial)
        return state._replace(clock=state.clock._replace(is_asked=True)), x

    def tell(
        self, state: DifferentialState, fitness: Tensor, violation: Tensor | None = None
    ) -> DifferentialState:
        """See `Optimizer.tell`."""
        is_first = state.clock.generation == 0
        state, fitness, violation = self._told(state, fitness, violation, state.trial)
        if is_first:
            return state._replace(fitness=fitness, violation=violation)
        wins = self._replaces(state, (fitness, violation), (state.fitness, state.violation))
        return state._replace(
            x=native.chosen_rows(wins, state.trial, state.x),
            fitness=torch.where(wins, fitness, state.fitness),
            violation=torch.where(wins, violation, state.violation),
            weight=torch.where(wins, state.trial_weight, state.weight),
            rate=torch.where(wins, state.trial_rate, state.rate),
        )

    def ranked(self, state: DifferentialState) -> Ranked:
        """See `Optimizer.ranked`."""
        found = ranked_of(state.x, state.fitness, state.violation)
        return found if state.space.is_plain else found._replace(x=state.space.snap(found.x))

    def _seat(
        self, state: DifferentialState, came: Ranked, ranks: Tensor | None
    ) -> DifferentialState:
        new = seated(Ranked(state.x, state.fitness, state.violation), came, ranks)
        return state._replace(
            x=state.x.scatter(-2, new.ranks.unsqueeze(-1).expand_as(new.x), new.x),
            fitness=state.fitness.scatter(-1, new.ranks, new.fitness),
            violation=state.violation.scatter(-1, new.ranks, new.violation),
        )

    def _leads(self, state: DifferentialState, picks: Tensor | None) -> Tensor:
        """Row that leads each individual, `(*batch, pop)` int64."""
        shape = state.fitness.shape
        if self.strategy == "rand1":
            return torch.zeros(shape, dtype=torch.int64, device=state.x.device)
        order = self._order(state, state.fitness, state.violation)
        if picks is None:
            return order[..., :1].expand(shape).contiguous()
        return order.gather(-1, picks)

    def _varied(self, state: DifferentialState) -> DifferentialState:
        """Trials of the next generation."""
        n, d = state.x.shape[-2:]
        draws = self._draws(state.clock, state.x.shape[:-2], state.x)
        table = state.space.table(state.x.device, state.x.dtype)
        kind = STRATEGIES.index(self.strategy)
        n_best = max(2, round(self.p_best * n))
        leads = self._leads(state, draws.below(n_best, n) if kind == 2 else None)
        if native.serves(state.x):
            start, bounds = draws.skip(n * (8 + d)), (table.low, table.high)
            scales = state.weight, state.rate
            trial, weight, rate = native.trial(
                state.x, leads, scales, draws.key, start, bounds, kind, self.adapt_rate
            )
            return state._replace(trial=trial, trial_weight=weight, trial_rate=rate)
        words = draws.words(n, 8)
        u = unit_of(words, state.x.dtype)
        change = self.adapt_rate
        weight = torch.where(u[..., 4] < change, 0.1 + 0.9 * u[..., 5], state.weight)
        rate = torch.where(u[..., 6] < change, u[..., 7], state.rate)
        first, second, third = (take(state.x, rows) for rows in _partners(words))
        lead = take(state.x, leads)
        if kind == 0:
            base, step = first, second - third
        elif kind == 1:
            base, step = lead, first - second
        else:
            base, step = state.x, (first - second) + (lead - state.x)
        moved = base + step * weight.unsqueeze(-1)
        moved = torch.where(moved < table.low, (table.low + state.x) * 0.5, moved)
        moved = torch.where(moved > table.high, (table.high + state.x) * 0.5, moved)
        forced = below_of(words[..., 3:4], d) == torch.arange(d, device=state.x.device)
        takes = (draws.unit(n, d) < rate.unsqueeze(-1)) | forced
        trial = torch.where(takes, moved, state.x)
        return state._replace(trial=trial, trial_weight=weight, trial_rate=rate)


def _partners(words: Tensor) -> list[Tensor]:
    """Three rows for each row, all different, `(*batch, pop)` int64 each.

    Row i + a, i + b, i + c modulo pop, with a, b, c drawn from ever fewer left over.
    """
    n = words.shape[-2]
    a = 1 + below_of(words[..., 0], n - 1)
    b = 1 + below_of(words[..., 1], n - 2)
    c = 1 + below_of(words[..., 2], n - 3)
    b = b + (b >= a)
    c = c + (c >= torch.minimum(a, b))
    c = c + (c >= torch.maximum(a, b))
    place = torch.arange(n, device=words.device)
    return [(place + offset) % n for offset in (a, b, c)]
