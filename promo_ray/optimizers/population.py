"""What every population method shares: its protocol, clock and ranking rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from promo_ray.errors import ConfigError, DataError
from promo_ray.optimizers.draws import Draws, keys
from promo_ray.optimizers.ranking import Ranked, best_first, is_better
from promo_ray.optimizers.space import SearchSpace, pick_device

S = TypeVar("S")
_INF = float("inf")


class Clock(NamedTuple):
    """Where a state stands.

    Attributes:
        seed: seed of the run.
        islands: number of each island of the flattened batch; with seed and generation it names
            the random numbers of the island.
        generation: generations told.
        is_asked: individuals were asked for and not yet told.
        is_constrained: a violation was told.
    """

    seed: int
    islands: tuple[int, ...]
    generation: int = 0
    is_asked: bool = False
    is_constrained: bool = False


class Optimizer(Protocol[S]):
    """A population method: a frozen dataclass of pure functions over a NamedTuple.

    A state is `(space, clock, tensors...)`; every tensor has the leading dimensions `batch`:
    independent populations on the same space.
    """

    method: ClassVar[str]
    state_class: ClassVar[type[Any]]

    def size(self, space: SearchSpace) -> int:
        """Individuals that one population asks for per generation."""
        ...

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
    ) -> S:
        """First state, with the leading dimensions `batch`.

        `island` is the number of the first island of the flattened batch, or the number of each;
        `x0` `(n, genes)` are the first individuals of each population.
        """
        ...

    def ask(self, state: S) -> tuple[S, Tensor]:
        """State and the `(*batch, size, genes)` individuals to evaluate."""
        ...

    def tell(self, state: S, fitness: Tensor, violation: Tensor | None = None) -> S:
        """State after the individuals asked for were evaluated, both `(*batch, size)`."""
        ...

    def ranked(self, state: S) -> Ranked:
        """Individuals that the state remembers, best first; row 0 is the best ever told."""
        ...

    def replace_worst(
        self,
        state: S,
        x: Tensor,
        fitness: Tensor,
        violation: Tensor | None = None,
        *,
        ranks: Tensor | None = None,
    ) -> S:
        """State with newcomers `(*batch, n, genes)` in place of others, its worst by default.

        Newcomers of fitness -inf stay out, which makes holes possible in a batch; only a better
        one takes row 0. They are fewer than `ranked` has, and feasible if `violation` is None;
        `ranks` `(*batch, n)` int64 are the different rows of `ranked` that they take.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PopulationMethod(Generic[S]):
    """Hyperparameters and steps that all methods share.

    Attributes:
        pop_size: individuals of one population, >= 4.
        epsilon_generations: violations up to epsilon count as none for so many generations,
            while epsilon shrinks from that of the best fifth of the first population to 0
            (Takahama and Sakai 2006); 0 = feasibility rules from the start (Deb 2000).
    """

    method: ClassVar[str] = ""
    state_class: ClassVar[type[Any]]

    pop_size: int = 100
    epsilon_generations: int = 30

    def __post_init__(self) -> None:
        # 0 where it is the default: the method chooses by the space
        if self.pop_size < 4 and not self.pop_size == 0 == type(self).pop_size:
            raise ConfigError(f"pop_size must be >= 4; got {self.pop_size}")
        if self.epsilon_generations < 0:
            raise ConfigError(f"epsilon_generations must be >= 0; got {self.epsilon_generations}")

    def size(self, space: SearchSpace) -> int:
        """See `Optimizer.size`."""
        return self.pop_size

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
    ) -> S:
        """See `Optimizer.init`."""
        clock = begin(seed, batch, island)
        space.table(pick_device(device), dtype)  # refuses other dtypes
        like = torch.empty(0, dtype=dtype, device=pick_device(device))
        shape = (*batch, self.size(space), space.n_genes)
        x = first_population(self.method, clock, space, shape, like, x0)
        return self._first(space, clock, x, x0 is not None)

    def replace_worst(
        self,
        state: S,
        x: Tensor,
        fitness: Tensor,
        violation: Tensor | None = None,
        *,
        ranks: Tensor | None = None,
    ) -> S:
        """See `Optimizer.replace_worst`."""
        violation = torch.zeros_like(fitness) if violation is None else violation
        return self._seat(state, Ranked(x, fitness, violation), ranks)

    def _first(self, space: SearchSpace, clock: Clock, x: Tensor, is_given: bool) -> S:
        """First state of latent points `(*batch, size, genes)`; `is_given`: x0 is among them."""
        raise NotImplementedError

    def _seat(self, state: S, came: Ranked, ranks: Tensor | None) -> S:
        """State with newcomers in its rows."""
        raise NotImplementedError

    def _draws(self, clock: Clock, batch: tuple[int, ...], like: Tensor) -> Draws:
        """Random numbers of the present generation."""
        return Draws(keys(clock.seed, self.method, clock.islands, clock.generation), batch, like)

    def _told(
        self, state: Any, fitness: Tensor, violation: Tensor | None, like: Tensor
    ) -> tuple[Any, Tensor, Tensor]:
        """State of the next generation, fitness and violation in its dtype; not finite = worst.

        Raises:
            ConfigError: nothing was asked.
            DataError: another shape than that of the individuals asked for.
        """
        clock: Clock = state.clock
        if not clock.is_asked:
            raise ConfigError("tell must follow ask; nothing was asked of this state")
        fitness, judged = _judged(fitness, violation, like)
        if violation is None and not clock.is_constrained:
            clock = clock._replace(generation=clock.generation + 1, is_asked=False)
            return state._replace(clock=clock), fitness, judged
        epsilon = state.epsilon if clock.is_constrained else self._first_epsilon(judged)
        clock = Clock(clock.seed, clock.islands, clock.generation + 1, False, True)
        return state._replace(clock=clock, epsilon=epsilon), fitness, judged

    def _first_epsilon(self, violation: Tensor) -> Tensor:
        nth = max(1, violation.shape[-1] // 5)
        epsilon = violation.kthvalue(nth, dim=-1).values
        return torch.where(torch.isfinite(epsilon), epsilon, 0.0)

    def _relaxed(self, state: Any, violation: Tensor) -> Tensor:
        """Violation beyond the epsilon of the present generation."""
        share = 1 - state.clock.generation / (self.epsilon_generations + 1)
        if share <= 0 or not state.clock.is_constrained:
            return violation
        return torch.clamp(violation - state.epsilon.unsqueeze(-1) * share**3, min=0)

    def _order(self, state: Any, fitness: Tensor, violation: Tensor) -> Tensor:
        """Rows best first by the relaxed rule, the exactly best one in front all the same."""
        if not state.clock.is_constrained:
            return torch.sort(fitness, dim=-1, descending=True, stable=True).indices
        order = best_first(fitness, self._relaxed(state, violation))
        is_other = order != best_first(fitness, violation)[..., :1]
        front = is_other.to(torch.int8).sort(dim=-1, stable=True).indices
        return order.gather(-1, front)

    def _replaces(
        self, state: Any, new: tuple[Tensor, Tensor], old: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Whether (fitness, violation) takes the place of another by the relaxed rule.

        The exactly best old one gives way to an exactly better one alone.
        """
        if not state.clock.is_constrained:
            return new[0] > old[0]
        relaxed = [(values[0], self._relaxed(state, values[1])) for values in (new, old)]
        wins = is_better(relaxed[0], relaxed[1])
        place = torch.arange(wins.shape[-1], device=wins.device)
        is_best = place == best_first(*old)[..., :1]
        return torch.where(is_best, is_better(new, old), wins)


def begin(seed: int, batch: tuple[int, ...], island: int | Sequence[int]) -> Clock:
    """First clock; `island` as for `Optimizer.init`."""
    n = math.prod(batch)
    islands = tuple(range(island, island + n)) if isinstance(island, int) else tuple(island)
    if len(islands) != n or n == 0:
        raise ConfigError(f"island must name {n} islands, at least 1; got {len(islands)}")
    if not 0 <= int(seed) < 1 << 63:
        raise ConfigError(f"seed must be in [0, 2**63); got {seed}")
    return Clock(int(seed), islands)


def first_population(
    name: str,
    clock: Clock,
    space: SearchSpace,
    shape: tuple[int, ...],
    like: Tensor,
    x0: ArrayLike | None = None,
) -> Tensor:
    """Uniform latent points of `shape` `(*batch, pop, genes)`, the first ones those of `x0`."""
    table = space.table(like.device, like.dtype)
    draws = Draws(keys(clock.seed, f"{name} init", clock.islands, 0), shape[:-2], like)
    u = draws.uniform(*shape[-2:])
    x = torch.clamp(table.low + u * (table.high - table.low), table.low, table.high)
    if x0 is None:
        return x
    points = space.points(x0)
    if len(points) > shape[-2]:
        raise ConfigError(f"x0 must have at most {shape[-2]} rows; got {len(points)}")
    start = torch.tensor(points, dtype=x.dtype, device=x.device)
    start = torch.clamp(start, table.lower, table.upper).expand(*shape[:-2], *points.shape)
    return torch.cat([start, x[..., len(points) :, :]], dim=-2)


def worst_of(x: Tensor) -> Tensor:
    """Violation of individuals `(*batch, n, genes)` not yet evaluated: +inf, `(*batch, n)`."""
    return torch.full(x.shape[:-1], _INF, dtype=x.dtype, device=x.device)


def _judged(fitness: Tensor, violation: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Fitness and violation in the dtype of `like` `(*batch, size, genes)`; not finite = worst."""
    want = like.shape[:-1]
    for name, values in (("fitness", fitness), ("violation", violation)):
        if values is not None and values.shape != want:
            raise DataError(f"must have shape {tuple(want)}; got {tuple(values.shape)}", where=name)
    fitness = fitness.detach().to(like.device)
    fitness = torch.nan_to_num(fitness, nan=-_INF, posinf=-_INF, neginf=-_INF)
    if fitness.dtype != like.dtype:
        most = torch.finfo(like.dtype).max
        within = fitness.clamp(-most, most).to(like.dtype)
        fitness = torch.where(fitness == -_INF, -_INF, within)
    if violation is None:
        return fitness, torch.zeros_like(fitness)
    violation = violation.detach().to(device=like.device, dtype=like.dtype)
    violation = torch.nan_to_num(violation, nan=_INF, posinf=_INF, neginf=_INF).clamp(min=0)
    # whoever could not be evaluated is worse than whoever breaks a rule
    return fitness, torch.where(fitness == -_INF, _INF, violation)
