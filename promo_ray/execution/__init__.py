"""How sharded work runs: map, iterate and island loops over any executor."""

from promo_ray.execution.cells import Cells, Done, Keeper
from promo_ray.execution.executor import Executor, Resident, SerialExecutor
from promo_ray.execution.islands import IslandRun, read_record, run_islands
from promo_ray.execution.iterate import IterationResult, ShardedMethod, iterate

__all__ = [
    "Cells",
    "Done",
    "Executor",
    "IslandRun",
    "IterationResult",
    "Keeper",
    "Resident",
    "SerialExecutor",
    "ShardedMethod",
    "iterate",
    "read_record",
    "run_islands",
]
