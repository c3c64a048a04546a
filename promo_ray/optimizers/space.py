"""What is searched: genes of four kinds in a box, how they are coded, and how they are repaired.

An individual is a row of numbers, one per real, integer or choice gene and `size` per subset.
Choice genes hold the number of a value, subset genes the rising numbers of its items. Methods
that move through real space do so in the *latent* box, where every whole number has a cell of
width 1; `snap` brings latent points to individuals.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from promo_ray.errors import ConfigError, DataError
from promo_ray.optimizers.genes import (
    Choice,
    Gene,
    Integer,
    Real,
    Subset,
    bounds_of,
    n_numbers,
    numbers_of,
    require_interval,
)

Repair = Callable[[Tensor], Tensor]


class Table(NamedTuple):
    """A space as tensors, one entry per number of an individual.

    Attributes:
        lower, upper: `(genes,)` bounds of individuals.
        low, high: `(genes,)` bounds of latent points.
        is_whole: `(genes,)` bool, whole numbers.
        is_unordered: `(genes,)` bool, numbers of choices and items: no arithmetic means anything.
        slot: `(genes,)` int64, genes that slot-wise crossover inherits together.
    """

    lower: Tensor
    upper: Tensor
    low: Tensor
    high: Tensor
    is_whole: Tensor
    is_unordered: Tensor
    slot: Tensor


@dataclass(frozen=True)
class SearchSpace:
    """Genes to search; `SearchSpace.box` makes one of real genes.

    Attributes:
        genes: what an individual consists of, at least one.
        slot_size: this many genes at a time make a slot; None = every gene is one.
        repair: pure function of individuals `(*batch, pop, genes)` that mends what breaks a rule,
            run after every variation; what it returns is brought into the bounds again.
            Importable if the space travels to other processes.
        lower, upper: bounds of the numbers of an individual.
        is_real: every gene is a real number.
        subsets: first place, size and pool of each subset.
    """

    genes: tuple[Gene, ...]
    slot_size: int | None = None
    repair: Repair | None = None
    lower: tuple[float, ...] = field(init=False, repr=False, compare=False)
    upper: tuple[float, ...] = field(init=False, repr=False, compare=False)
    is_real: bool = field(init=False, repr=False, compare=False)
    subsets: tuple[tuple[int, int, int], ...] = field(init=False, repr=False, compare=False)
    _tables: dict[tuple[torch.device, torch.dtype], Table] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        genes = tuple(self.genes)
        if not genes:
            raise ConfigError("a space needs at least 1 gene; got none")
        for i, gene in enumerate(genes):
            if not isinstance(gene, Gene):
                raise ConfigError(f"gene {i} must be Real, Integer, Choice or Subset; got {gene!r}")
        if self.slot_size is not None and self.slot_size < 1:
            raise ConfigError(f"slot_size must be >= 1; got {self.slot_size}")
        bounds = [b for gene in genes for b in bounds_of(gene)]
        object.__setattr__(self, "genes", genes)
        object.__setattr__(self, "lower", tuple(low for low, _ in bounds))
        object.__setattr__(self, "upper", tuple(high for _, high in bounds))
        object.__setattr__(self, "is_real", all(isinstance(g, Real) for g in genes))
        starts = np.cumsum([0, *(n_numbers(g) for g in genes)]).tolist()
        subsets = [
            (at, g.size, len(g.items))
            for at, g in zip(starts, genes, strict=False)
            if isinstance(g, Subset)
        ]
        object.__setattr__(self, "subsets", tuple(subsets))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": {}}

    @classmethod
    def box(
        cls,
        lower: Iterable[float],
        upper: Iterable[float],
        *,
        slot_size: int | None = None,
        repair: Repair | None = None,
    ) -> SearchSpace:
        """Box of real genes.

        Args:
            lower: `(genes,)` lower bounds.
            upper: `(genes,)` upper bounds, >= lower.
            slot_size: see the class.
            repair: see the class.

        Raises:
            ConfigError: no gene, unequal lengths, a bound not finite, or lower > upper.
        """
        try:
            lower, upper = [float(v) for v in lower], [float(v) for v in upper]
        except (TypeError, ValueError):
            raise ConfigError(f"bounds must be numbers; got {lower!r} and {upper!r}") from None
        if len(lower) != len(upper):
            raise ConfigError(f"lower and upper must be as many; got {len(lower)} and {len(upper)}")
        for i, (low, high) in enumerate(zip(lower, upper, strict=True)):
            require_interval(low, high, str(i))
        pairs = zip(lower, upper, strict=True)
        return cls(tuple(Real(a, b) for a, b in pairs), slot_size, repair)

    @property
    def n_genes(self) -> int:
        """Numbers in an individual."""
        return len(self.lower)

    @property
    def is_plain(self) -> bool:
        """A box of real genes without repair: any point of the box is an individual."""
        return self.repair is None and self.is_real

    def key(self) -> str:
        """Text that tells this space from others; the repair counts by its name."""
        name = getattr(self.repair, "__qualname__", type(self.repair).__qualname__)
        genes = [[type(g).__name__, *(repr(v) for v in vars(g).values())] for g in self.genes]
        return json.dumps([genes, self.slot_size, name if self.repair else None])

    def table(self, device: torch.device, dtype: torch.dtype) -> Table:
        """The space as tensors; bounds are rounded into the box where `dtype` cannot hold them.

        A gene of one value gets the nearest number of `dtype`; see `exact`.

        Raises:
            ConfigError: another dtype, or one that has no number within the bounds of a gene.
        """
        if dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"dtype must be float32 or float64; got {dtype}")
        found = self._tables.get((device, dtype))
        if found is None:
            found = self._make_table(device, dtype)
            self._tables[device, dtype] = found
        return found

    def bounds(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Bounds of individuals as `(genes,)` tensors; see `table`."""
        table = self.table(device, dtype)
        return table.lower, table.upper

    def snap(self, x: Tensor) -> Tensor:
        """Individuals of latent points: `(..., pop, genes)`, bounds exact, repaired.

        Individuals stay as they are, if the repair leaves repaired ones alone.
        """
        x = self._inside(x)
        if self.repair is None:
            return x
        mended = self.repair(x)
        if mended.shape != x.shape or bool(torch.isnan(mended).any()):
            shapes = f"{tuple(x.shape)}; got {tuple(mended.shape)}"
            raise DataError(f"must give numbers of shape {shapes}, or NaN", where="repair")
        return self._inside(mended)

    def exact(self, x: Tensor) -> NDArray[np.float64]:
        """Individual `(genes,)` in float64; a gene of one value has it, whatever the dtype of x."""
        numbers: NDArray[np.float64] = np.clip(x.double().cpu().numpy(), self.lower, self.upper)
        return numbers

    def decode(self, x: ArrayLike | Tensor) -> tuple[Any, ...]:
        """Values of one individual `(genes,)`, one per gene: float, int, value, tuple of items."""
        numbers = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64)
        if numbers.shape != (self.n_genes,):
            raise ConfigError(f"x must have shape ({self.n_genes},); got {numbers.shape}")
        values: list[Any] = []
        at = 0
        for gene in self.genes:
            if isinstance(gene, Real):
                values.append(float(numbers[at]))
            elif isinstance(gene, Integer):
                values.append(round(numbers[at]))
            elif isinstance(gene, Choice):
                values.append(gene.values[round(numbers[at])])
            else:
                own = numbers[at : at + gene.size]
                values.append(tuple(gene.items[round(v)] for v in sorted(own.tolist())))
            at += n_numbers(gene)
        return tuple(values)

    def encode(self, values: Sequence[Any]) -> NDArray[np.float64]:
        """The individual `(genes,)` of values, one per gene; `decode` gives them back.

        Raises:
            ConfigError: too few or many values, or one that its gene cannot take.
        """
        if len(values) != len(self.genes):
            raise ConfigError(f"need {len(self.genes)} values; got {len(values)}")
        numbers: list[float] = []
        for i, (gene, value) in enumerate(zip(self.genes, values, strict=True)):
            numbers += numbers_of(gene, value, i)
        point: NDArray[np.float64] = self.points([numbers])[0]
        return point

    def points(self, x: ArrayLike) -> NDArray[np.float64]:
        """Given individuals as `(n, genes)`.

        Raises:
            ConfigError: wrong number of genes, or one outside the bounds.
        """
        points = np.atleast_2d(np.asarray(x, dtype=np.float64))
        if points.ndim != 2 or points.shape[1] != self.n_genes:
            raise ConfigError(f"x0 must be (n, {self.n_genes}); got {points.shape}")
        inside = (points >= self.lower) & (points <= self.upper)
        if not inside.all():
            raise ConfigError(f"x0 must lie in the box; row {int(np.argmin(inside.all(1)))} is out")
        return points

    def _inside(self, x: Tensor) -> Tensor:
        table = self.table(x.device, x.dtype)
        if not self.is_real:
            # half up, so that every whole number has a cell of the same width
            x = torch.where(table.is_whole, torch.floor(x + 0.5), x)
        x = torch.clamp(x, table.lower, table.upper)
        for at, size, n_items in self.subsets:
            own = _distinct(x[..., at : at + size], n_items)
            x = torch.cat([x[..., :at], own, x[..., at + size :]], dim=-1)
        return x

    def _make_table(self, device: torch.device, dtype: torch.dtype) -> Table:
        kind = np.float32 if dtype == torch.float32 else np.float64
        exact_low, exact_high = np.array(self.lower), np.array(self.upper)
        lower: NDArray[Any] = exact_low.astype(kind)
        upper: NDArray[Any] = exact_high.astype(kind)
        lower = np.where(lower < exact_low, np.nextafter(lower, kind(np.inf)), lower)
        upper = np.where(upper > exact_high, np.nextafter(upper, kind(-np.inf)), upper)
        is_fixed = exact_low == exact_high
        lower = np.where(is_fixed, exact_low.astype(kind), lower)
        upper = np.where(is_fixed, lower, upper)
        if (lower > upper).any():
            at = int(np.argmax(lower > upper))
            span = f"[{exact_low[at]}, {exact_high[at]}]"
            raise ConfigError(f"{dtype} has no number in {span} of number {at}; take float64")
        sizes = [n_numbers(g) for g in self.genes]
        is_whole = np.repeat([not isinstance(g, Real) for g in self.genes], sizes)
        is_unordered = np.repeat([isinstance(g, Choice | Subset) for g in self.genes], sizes)
        slot = np.repeat(np.arange(len(sizes)) // (self.slot_size or 1), sizes)
        half = np.where(is_whole, kind(0.5), kind(0))
        columns = (lower, upper, lower - half, upper + half, is_whole, is_unordered, slot)
        return Table(*(torch.from_numpy(np.ascontiguousarray(c)).to(device) for c in columns))


def _distinct(x: Tensor, n_items: int) -> Tensor:
    """Rising different item numbers nearest above `(..., size)` whole numbers in [0, n_items)."""
    size = x.shape[-1]
    place = torch.arange(size, dtype=x.dtype, device=x.device)
    # y_i = max(y_i, y_(i-1) + 1) is a running maximum of y_i - i; the cap leaves room above
    rising = torch.cummax(x.sort(dim=-1).values - place, dim=-1).values
    return torch.clamp(rising, max=float(n_items - size)) + place


def pick_device(device: str | torch.device) -> torch.device:
    """Device of a name; `auto` is the GPU if there is one.

    Raises:
        ConfigError: no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device must be cpu, cuda or auto; got {device!r}: {reason}") from error
