"""Batched population optimizers as pure init / ask / tell, and islands of them.

Larger fitness is better; NaN and infinite fitness count as worst. Random numbers are keyed by
(seed, island, generation), so a run can stop anywhere and go on with the same bits.
"""

from promo_ray.optimizers.archipelago import PopulationIsland, optimize_islands
from promo_ray.optimizers.genetic import GeneticAlgorithm
from promo_ray.optimizers.population import Optimizer, Ranked, from_arrays, to_arrays
from promo_ray.optimizers.search import SearchResult, optimize
from promo_ray.optimizers.space import SearchSpace
from promo_ray.optimizers.swarm import ParticleSwarm

__all__ = [
    "GeneticAlgorithm",
    "Optimizer",
    "ParticleSwarm",
    "PopulationIsland",
    "Ranked",
    "SearchResult",
    "SearchSpace",
    "from_arrays",
    "optimize",
    "optimize_islands",
    "to_arrays",
]
