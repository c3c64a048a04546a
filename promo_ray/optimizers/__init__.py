"""Batched population optimizers as pure init / ask / tell, and islands of them.

Larger fitness is better; NaN and infinite fitness count as worst. Random numbers are keyed by
(seed, island, generation), so a run can stop anywhere and go on with the same bits.
"""

from promo_ray.optimizers.annealing import SimulatedAnnealing
from promo_ray.optimizers.archipelago import IslandsResult, PopulationIslands, optimize_islands
from promo_ray.optimizers.cma import CmaEs
from promo_ray.optimizers.differential import DifferentialEvolution
from promo_ray.optimizers.genes import Choice, Integer, Real, Subset
from promo_ray.optimizers.genetic import GeneticAlgorithm
from promo_ray.optimizers.memetic import Memetic
from promo_ray.optimizers.population import Optimizer
from promo_ray.optimizers.ranking import Ranked
from promo_ray.optimizers.search import SearchResult, optimize
from promo_ray.optimizers.space import SearchSpace
from promo_ray.optimizers.states import from_arrays, from_bytes, split, stack, to_arrays, to_bytes
from promo_ray.optimizers.swarm import ParticleSwarm

__all__ = [
    "Choice",
    "CmaEs",
    "DifferentialEvolution",
    "GeneticAlgorithm",
    "Integer",
    "IslandsResult",
    "Memetic",
    "Optimizer",
    "ParticleSwarm",
    "PopulationIslands",
    "Ranked",
    "Real",
    "SearchResult",
    "SearchSpace",
    "SimulatedAnnealing",
    "Subset",
    "from_arrays",
    "from_bytes",
    "optimize",
    "optimize_islands",
    "split",
    "stack",
    "to_arrays",
    "to_bytes",
]
