"""How sharded work runs: map, iterate and island loops over any executor."""

from promo_ray.execution.executor import Executor, Resident, SerialExecutor
from promo_ray.execution.islands import IslandRun, run_islands
from promo_ray.execution.iterate import IterationResult, ShardedMethod, iterate

__all__ = [
    "Executor",
    "IslandRun",
    "IterationResult",
    "Resident",
    "SerialExecutor",
    "ShardedMethod",
    "iterate",
    "run_islands",
]
