"""What is searched: a box of real genes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from promo_ray.errors import ConfigError


@dataclass(frozen=True)
class SearchSpace:
    """Box `lower <= x <= upper`; make it with `SearchSpace.box`.

    Attributes:
        lower: lower bound of each gene.
        upper: upper bound of each gene.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.lower or len(self.lower) != len(self.upper):
            raise ConfigError(
                "lower and upper must be as many, at least 1; "
                f"got {len(self.lower)}, {len(self.upper)}"
            )
        for i, (low, high) in enumerate(zip(self.lower, self.upper, strict=True)):
            if not (np.isfinite(low) and np.isfinite(high) and low <= high):
                raise ConfigError(
                    f"lower <= upper must hold and be finite; gene {i} has [{low}, {high}]"
                )

    @classmethod
    def box(cls, lower: Iterable[float], upper: Iterable[float]) -> SearchSpace:
        """Box of real genes.

        Args:
            lower: `(genes,)` lower bounds.
            upper: `(genes,)` upper bounds, >= lower.

        Raises:
            ConfigError: no gene, unequal lengths, a bound not finite, or lower > upper.
        """
        return cls(tuple(float(v) for v in lower), tuple(float(v) for v in upper))

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self.lower)

    def bounds(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Bounds as `(genes,)` tensors, rounded into the box where `dtype` cannot hold them."""
        if dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"dtype must be float32 or float64; got {dtype}")
        kind = np.float32 if dtype == torch.float32 else np.float64
        exact_low, exact_high = np.array(self.lower), np.array(self.upper)
        low, high = exact_low.astype(kind), exact_high.astype(kind)
        low = np.where(low < exact_low, np.nextafter(low, kind(np.inf)), low)
        high = np.where(high > exact_high, np.nextafter(high, kind(-np.inf)), high)
        high = np.maximum(low, high)  # a box narrower than the spacing of dtype
        return torch.from_numpy(low).to(device), torch.from_numpy(high).to(device)

    def points(self, x: ArrayLike) -> NDArray[np.float64]:
        """Given starting points as `(n, genes)`.

        Raises:
            ConfigError: wrong number of genes, or a point outside the box.
        """
        points = np.atleast_2d(np.asarray(x, dtype=np.float64))
        if points.ndim != 2 or points.shape[1] != self.n_genes:
            raise ConfigError(f"x0 must be (n, {self.n_genes}); got {points.shape}")
        inside = (points >= self.lower) & (points <= self.upper)
        if not inside.all():
            raise ConfigError(f"x0 must lie in the box; row {int(np.argmin(inside.all(1)))} is out")
        return points


def pick_device(device: str | torch.device) -> torch.device:
    """Device of a name; `auto` is the GPU if there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
