"""Which offer to which user within exact budgets, by prices, with a certified bound."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promo_ray.allocation.online import choose
    from promo_ray.allocation.problem import AllocationProblem, Block
    from promo_ray.allocation.result import (
        Allocation,
        BlockDecision,
        ResidentAllocation,
        choose_block,
    )
    from promo_ray.allocation.solver import solve, solve_resident

__all__ = [
    "Allocation",
    "AllocationProblem",
    "Block",
    "BlockDecision",
    "ResidentAllocation",
    "choose",
    "choose_block",
    "solve",
    "solve_resident",
]

_HOME = {"choose": "online", "AllocationProblem": "problem", "Block": "problem"}
_HOME |= {"solve": "solver", "solve_resident": "solver"}


def __getattr__(name: str) -> Any:
    """Load a name on first use: `choose` serves without the solver and SciPy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME.get(name, 'result')}"), name)
