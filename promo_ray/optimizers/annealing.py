"""Simulated annealing by parallel chains: geometric, adaptive and dual-annealing schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from promo_ray.errors import ConfigError
from promo_ray.optimizers.draws import Draws
from promo_ray.optimizers.population import Clock, PopulationMethod, worst_of
from promo_ray.optimizers.ranking import Ranked, behind, best_of, ranked_of, seated, take
from promo_ray.optimizers.space import SearchSpace
from promo_ray.registry import register

SCHEDULES = ("dual_annealing", "geometric", "adaptive")

# generalized annealing (Tsallis and Stariolo 1996) with the shapes of Xiang et al. 1997
_VISIT, _ACCEPT, _T0 = 2.62, -5.0, 5230.0
_WIDTH, _SPREAD = 10.0, 50.0  # box and spread of fitness that these temperatures belong to
# share of moves of one gene that its step size aims to have accepted, and its rate of change
_AIM, _GAIN = 0.2, 0.3


class AnnealingState(NamedTuple):
    """Chains, what they try, and the best so far.

    Attributes:
        space, clock: see `population.Optimizer`.
        x, trial: `(*batch, pop, genes)` individuals.
        fitness, violation: `(*batch, pop)` of `x`.
        scale: `(*batch, pop, genes)` size of steps as a share of a gene's range.
        temperature: `(*batch,)` in units of fitness.
        spread: `(*batch,)` standard deviation of the first fitnesses.
        best_x: `(*batch, 1, genes)`.
        best_fitness, best_violation: `(*batch, 1)`.
        epsilon: `(*batch,)` violation that counted as none at first.
    """

    space: SearchSpace
    clock: Clock
    x: Tensor
    trial: Tensor
    fitness: Tensor
    violation: Tensor
    scale: Tensor
    temperature: Tensor
    spread: Tensor
    best_x: Tensor
    best_fitness: Tensor
    best_violation: Tensor
    epsilon: Tensor

    def best(self) -> Ranked:
        """Best so far."""
        return Ranked(self.best_x, self.best_fitness, self.best_violation)


@register("sa")
@dataclass(frozen=True, kw_only=True)
class SimulatedAnnealing(PopulationMethod[AnnealingState]):
    """Simulated annealing; a move changes one gene, at times all.

    Source: Kirkpatrick et al. 1983 (geometric); Huang et al. 1986 (adaptive: cool by the spread
    of the chains' fitness); Xiang et al. 1997 (dual annealing: heavy-tailed visits and generalized
    acceptance, here without local search). Geometric and adaptive steps are Cauchy's (Szu and
    Hartley 1987), so that cold chains still leave their peaks; their sizes follow the moves
    accepted, gene by gene (Corana et al. 1987). Temperatures scale with the spread of the first
    fitnesses and steps with the box.

    Attributes:
        pop_size: chains; few long ones find more than many short ones.
        schedule: `dual_annealing`, `geometric` or `adaptive`.
        speed: how many times faster `dual_annealing` cools than its authors, who made 2 * genes
            moves per temperature.
        cooling: factor of the temperature per one move of every gene for `geometric`; for
            `adaptive`, 1 - cooling is the share of its standard deviation by which mean fitness
            may change meanwhile.
        full_rate: share of moves that change all genes.
        exchange_every: generations between replacements of the worst chain by the best; 0 = never.
    """

    method: ClassVar[str] = "sa"
    state_class: ClassVar[type[AnnealingState]] = AnnealingState

    pop_size: int = 8
    schedule: str = "dual_annealing"
    speed: float = 3.0
    cooling: float = 0.985
    full_rate: float = 0.05
    exchange_every: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule not in SCHEDULES:
            raise ConfigError(
                f"schedule must be one of {', '.join(SCHEDULES)}; got {self.schedule!r}"
            )
        if not self.speed > 0 or self.exchange_every < 0:
            raise ConfigError(
                "speed > 0 and exchange_every >= 0 must hold; "
                f"got {self.speed}, {self.exchange_every}"
            )
        if not 0 < self.cooling < 1 or not 0 <= self.full_rate <= 1:
            raise ConfigError(
                "cooling in (0, 1) and full_rate in [0, 1] must hold; "
                f"got {self.cooling}, {self.full_rate}"
            )

    def _first(self, space: SearchSpace, clock: Clock, x: Tensor, is_given: bool) -> AnnealingState:
        x, worst, one = space.snap(x), worst_of(x), x.new_ones(x.shape[:-2])
        return AnnealingState(
            space, clock, x, x, -worst, worst, torch.full_like(x, 0.1), one, one,
            x[..., :1, :], -worst[..., :1], worst[..., :1], torch.zeros_like(one),
        )  # fmt: skip

    def ask(self, state: AnnealingState) -> tuple[AnnealingState, Tensor]:
        """See `Optimizer.ask`; the first individuals asked for are the first chains."""
        trial = state.x
        if state.clock.generation > 0:
            trial = self._moved(state)
        clock = state.clock._replace(is_asked=True)
        return state._replace(clock=clock, trial=trial), trial

    def tell(
        self, state: AnnealingState, fitness: Tensor, violation: Tensor | None = None
    ) -> AnnealingState:
        """See `Optimizer.tell`."""
        generation = state.clock.generation
        draws = self._draws(state.clock, state.x.shape[:-2], state.x)
        state, fitness, violation = self._told(state, fitness, violation, state.trial)
        best = best_of(ranked_of(state.trial, fitness, violation), state.best())
        kept = {f"best_{name}": value for name, value in best._asdict().items()}
        if generation == 0:
            spread = _spread(fitness)
            return state._replace(
                x=state.trial, fitness=fitness, violation=violation, spread=spread,
                temperature=spread, **kept,
            )  # fmt: skip
        n, d = state.x.shape[-2:]
        draws.skip(4 * (n * (2 * d + 3) + 8))  # what the move took, and room
        accepted = self._accepts(state, draws.uniform(n), fitness, violation, generation)
        state = state._replace(
            x=torch.where(accepted.unsqueeze(-1), state.trial, state.x),
            fitness=torch.where(accepted, fitness, state.fitness),
            violation=torch.where(accepted, violation, state.violation),
            scale=_rescaled(state, accepted),
            temperature=self._cooled(state),
            **kept,
        )
        if self.exchange_every and generation % self.exchange_every == 0:
            state = self._exchanged(state)
        return state

    def ranked(self, state: AnnealingState) -> Ranked:
        """See `Optimizer.ranked`; the best so far, then where the chains are."""
        return behind(state.best(), ranked_of(state.x, state.fitness, state.violation))

    def _seat(self, state: AnnealingState, came: Ranked, ranks: Tensor | None) -> AnnealingState:
        # chains go on from the newcomers
        new = seated(Ranked(state.x, state.fitness, state.violation), came, ranks)
        best = best_of(ranked_of(new.x, new.fitness, new.violation), state.best())
        return state._replace(
            x=state.x.scatter(-2, new.ranks.unsqueeze(-1).expand_as(new.x), new.x),
            fitness=state.fitness.scatter(-1, new.ranks, new.fitness),
            violation=state.violation.scatter(-1, new.ranks, new.violation),
            best_x=best.x,
            best_fitness=best.fitness,
            best_violation=best.violation,
        )

    def _iteration(self, state: AnnealingState, generation: int) -> float:
        """Temperatures gone through by the dual-annealing schedule."""
        return generation * self.pop_size * self.speed / (2 * state.x.shape[-1])

    def _moved(self, state: AnnealingState) -> Tensor:
        """Neighbors of the chains, `(*batch, pop, genes)`."""
        n, d = state.x.shape[-2:]
        draws = self._draws(state.clock, state.x.shape[:-2], state.x)
        table = state.space.table(state.x.device, state.x.dtype)
        width = table.high - table.low
        if self.schedule == "dual_annealing":
            iteration = self._iteration(state, state.clock.generation)
            step = _visit(draws, _visiting_temperature(iteration), n, d) * (width / _WIDTH)
        else:
            step = _cauchy(draws, n, d) * state.scale * width
        one = draws.below(d, n, 1) == torch.arange(d, device=state.x.device)
        moves = one | (draws.unit(n, 1) < self.full_rate)
        if not state.space.is_real:
            anew = draws.unit(n, d) * width + table.low - state.x
            whole = torch.where(table.is_unordered, anew, step.sign() * step.abs().ceil())
            step = torch.where(table.is_whole, whole, step)
        offset = state.x + step - table.low
        wrapped = offset - torch.floor(offset / width) * width
        inside = torch.where(width > 0, table.low + wrapped, table.low)
        return state.space.snap(torch.where(moves, inside, state.x))

    def _accepts(
        self,
        state: AnnealingState,
        u: Tensor,
        fitness: Tensor,
        violation: Tensor,
        generation: int,
    ) -> Tensor:
        """Which moves are made, `(*batch, pop)` bool."""
        loss = state.fitness - fitness
        if self.schedule == "dual_annealing":
            iteration = self._iteration(state, generation)
            cold = _visiting_temperature(iteration) / ((iteration + 1) * _SPREAD)
            share = 1 - (1 - _ACCEPT) * loss / (cold * state.spread.unsqueeze(-1))
            chance = share.clamp(min=0).log().div(1 - _ACCEPT).exp()
        else:
            chance = torch.exp(-loss / state.temperature.unsqueeze(-1))
        makes = (fitness > state.fitness) | (torch.isfinite(fitness) & (u < chance))
        if not state.clock.is_constrained:
            return makes
        old, new = self._relaxed(state, state.violation), self._relaxed(state, violation)
        return (new < old) | ((new == old) & makes)

    def _cooled(self, state: AnnealingState) -> Tensor:
        """Temperature of the next generation."""
        per_sweep = self.pop_size / state.x.shape[-1]
        if self.schedule == "adaptive":
            share = (state.temperature / _spread(state.fitness)).clamp(0.1, 10)
            return state.temperature * torch.exp(-(1 - self.cooling) * per_sweep * share)
        return state.temperature * math.pow(self.cooling, per_sweep)

    def _exchanged(self, state: AnnealingState) -> AnnealingState:
        """The worst chain goes on from where the best one is."""
        order = self._order(state, state.fitness, state.violation)
        source = torch.cat([order[..., :-1], order[..., :1]], dim=-1)
        return state._replace(
            x=take(state.x, source),
            fitness=state.fitness.gather(-1, source),
            violation=state.violation.gather(-1, source),
            scale=take(state.scale, source),
        )


def _spread(fitness: Tensor) -> Tensor:
    """Standard deviation of the finite fitnesses, 1 where there is none: `(*batch,)`."""
    counts = torch.isfinite(fitness)
    n = counts.sum(-1, keepdim=True).clamp(min=1)
    mean = torch.where(counts, fitness, 0).sum(-1, keepdim=True) / n
    square = torch.where(counts, fitness - mean, 0).square().sum(-1) / n.squeeze(-1)
    return torch.where(square > 0, square.sqrt(), 1.0)


def _rescaled(state: AnnealingState, accepted: Tensor) -> Tensor:
    """Step sizes after the moves `accepted` `(*batch, pop)`, one gene at a time.

    Moves of all genes at once tell nothing of one. Source: Corana et al. 1987, who changed sizes
    after rounds of moves.
    """
    moved = state.trial != state.x
    is_told = moved & (moved.sum(-1, keepdim=True) == 1)
    change = torch.where(accepted, math.exp(_GAIN * (1 - _AIM)), math.exp(-_GAIN * _AIM))
    return torch.where(is_told, state.scale * change.unsqueeze(-1), state.scale).clamp(1e-7, 0.5)


def _cauchy(draws: Draws, n: int, d: int) -> Tensor:
    """Steps of Cauchy's distribution, a ratio of normals, `(*batch, n, d)`."""
    below = draws.normal(n, d).abs().clamp(min=1e-8)
    return draws.normal(n, d) / below


def _visiting_temperature(iteration: float) -> float:
    """Temperature of the visits (Tsallis and Stariolo 1996, eq. of the schedule)."""
    return float(_T0 * (2 ** (_VISIT - 1) - 1) / ((iteration + 2) ** (_VISIT - 1) - 1))


def _visit(draws: Draws, temperature: float, n: int, d: int) -> Tensor:
    """Steps of the visiting distribution, a ratio of normals, `(*batch, n, d)`.

    Source: Xiang et al. 1997, as in SciPy's `dual_annealing`.
    """
    q = _VISIT
    factor_2 = math.exp((4 - q) * math.log(q - 1))
    factor_3 = math.exp((2 - q) * math.log(2) / (q - 1))
    factor_4 = math.sqrt(math.pi) * factor_2 / (factor_3 * (3 - q)) * temperature ** (1 / (q - 1))
    a = 1 - (1 / (q - 1) - 0.5)
    factor_6 = math.pi * a / math.sin(math.pi * a) / math.gamma(1 + a)
    scale = math.exp(-(q - 1) * math.log(factor_6 / factor_4) / (3 - q))
    above = draws.normal(n, d) * scale
    below = draws.normal(n, d).abs().clamp(min=1e-30)
    return (above / torch.exp(torch.log(below) * ((q - 1) / (3 - q)))).clamp(-1e8, 1e8)
