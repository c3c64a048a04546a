"""What every population method shares: its protocol, clock, ranking, random numbers, arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from promo_ray.errors import ConfigError, DataError
from promo_ray.optimizers.space import SearchSpace
from promo_ray.seeding import derive

S = TypeVar("S")


class Ranked(NamedTuple):
    """Individuals best first.

    Attributes:
        x: `(*batch, pop, genes)` genes.
        fitness: `(*batch, pop)`; -inf = not evaluated or worst.
        violation: `(*batch, pop)` >= 0; 0 = feasible.
    """

    x: Tensor
    fitness: Tensor
    violation: Tensor


class Optimizer(Protocol[S]):
    """A population method: a frozen dataclass of pure functions over a NamedTuple of tensors.

    All tensors of a state but `clock` have the leading dimensions `batch`: independent
    populations, where number k of the batch is island `island + k` and draws its own numbers.
    """

    method: ClassVar[str]
    state_class: ClassVar[type[Any]]

    @property
    def pop_size(self) -> int:
        """Individuals in one population."""
        ...

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
    ) -> S:
        """First state; the first individuals of each population are the rows of `x0`."""
        ...

    def ask(self, state: S) -> tuple[S, Tensor]:
        """State and the `(*batch, pop, genes)` individuals to evaluate."""
        ...

    def tell(self, state: S, fitness: Tensor, violation: Tensor | None = None) -> S:
        """State after the individuals asked for were evaluated, both `(*batch, pop)`."""
        ...

    def ranked(self, state: S) -> Ranked:
        """Best individuals that the state remembers, best first; row 0 never gets worse."""
        ...

    def replace_worst(self, state: S, x: Tensor, fitness: Tensor) -> S:
        """State with feasible individuals `(*batch, n, genes)` in place of its worst."""
        ...


def new_clock(seed: int, island: int) -> Tensor:
    """`(4,)` int64 on the CPU: seed, first island, generation, 1 if asked and not yet told."""
    return torch.tensor([seed, island, 0, 0], dtype=torch.int64)


def asked(clock: Tensor) -> Tensor:
    """Clock after an ask."""
    return torch.cat([clock[:3], torch.ones(1, dtype=torch.int64)])


def told(clock: Tensor) -> Tensor:
    """Clock after a tell: the next generation.

    Raises:
        ConfigError: nothing was asked.
    """
    if int(clock[3]) != 1:
        raise ConfigError("tell must follow ask; nothing was asked of this state")
    step = torch.tensor([0, 0, 1, -1], dtype=torch.int64)
    return clock + step


def generation_of(clock: Tensor) -> int:
    """Generations told."""
    return int(clock[2])


def uniforms(
    name: str, clock: Tensor, shapes: Sequence[tuple[int, ...]], like: Tensor
) -> list[Tensor]:
    """Uniform numbers of one generation: island k of the batch depends on its number alone.

    Args:
        name: name of the method.
        clock: see `new_clock`.
        shapes: shapes of the arrays of one population.
        like: `(*batch, pop, genes)` gives batch, device and dtype.

    Returns:
        One `(*batch, *shape)` tensor in [0, 1) per shape.
    """
    batch = like.shape[:-2]
    sizes = [math.prod(shape) for shape in shapes]
    seed, first, generation = (int(v) for v in clock[:3])
    rows = []
    for island in range(first, first + math.prod(batch)):
        high = derive(seed, name, island, generation, "high")
        low = derive(seed, name, island, generation, "low")
        generator = torch.Generator(device=like.device)
        generator.manual_seed((high << 31) | low)
        rows.append(
            torch.rand(sum(sizes), generator=generator, device=like.device, dtype=like.dtype)
        )
    parts = torch.split(torch.stack(rows), sizes, dim=-1)
    return [part.reshape(*batch, *shape) for part, shape in zip(parts, shapes, strict=True)]


def first_population(
    name: str,
    clock: Tensor,
    lower: Tensor,
    upper: Tensor,
    shape: tuple[int, ...],
    x0: NDArray[np.float64] | None,
) -> Tensor:
    """Uniform individuals in the box, the first of each population replaced by `x0`."""
    like = lower.expand(*shape)
    (u,) = uniforms(f"{name} init", clock, [shape[-2:]], like)
    x = torch.clamp(lower + u * (upper - lower), lower, upper)
    if x0 is None:
        return x
    if len(x0) > shape[-2]:
        raise ConfigError(f"x0 must have at most pop_size = {shape[-2]} rows; got {len(x0)}")
    start = torch.as_tensor(x0.copy(), dtype=x.dtype, device=x.device)
    start = torch.clamp(start, lower, upper).expand(*shape[:-2], *x0.shape)
    return torch.cat([start, x[..., len(x0) :, :]], dim=-2)


def judged(
    fitness: Tensor, violation: Tensor | None, want: torch.Size, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Fitness and violation in the dtype of the state; not finite = worst.

    Raises:
        DataError: another shape than the individuals asked for.
    """
    for name, values in (("fitness", fitness), ("violation", violation)):
        if values is not None and values.shape != want:
            raise DataError(f"must have shape {tuple(want)}; got {tuple(values.shape)}", where=name)
    fitness = fitness.to(device=like.device, dtype=like.dtype)
    fitness = torch.where(torch.isfinite(fitness), fitness, -torch.inf)
    if violation is None:
        return fitness, torch.zeros_like(fitness)
    violation = violation.to(device=like.device, dtype=like.dtype)
    violation = torch.where(torch.isfinite(violation), violation.clamp(min=0), torch.inf)
    return fitness, violation


def best_first(fitness: Tensor, violation: Tensor) -> Tensor:
    """`(*batch, n)` int64 order: feasible first, then less violation, then more fitness.

    Source: Deb 2000, feasibility rules. Ties keep their order.
    """
    order = torch.sort(fitness, dim=-1, descending=True, stable=True).indices
    by_violation = torch.sort(violation.gather(-1, order), dim=-1, stable=True).indices
    return order.gather(-1, by_violation)


def take(rows: Tensor, order: Tensor) -> Tensor:
    """Individuals `(*batch, n, genes)` in the order `(*batch, k)`."""
    return rows.gather(-2, order.unsqueeze(-1).expand(*order.shape, rows.shape[-1]))


def to_arrays(state: Any) -> dict[str, NDArray[Any]]:
    """State as named NumPy arrays on the CPU, for files and other processes."""
    return {name: getattr(state, name).cpu().numpy() for name in state._fields}


def from_arrays(kind: type[S], arrays: Mapping[str, NDArray[Any]], device: torch.device) -> S:
    """State of a NamedTuple class from its arrays; they are copied."""
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    moved = {name: t if name == "clock" else t.to(device) for name, t in tensors.items()}
    return kind(**moved)
