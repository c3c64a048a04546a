"""Search of offer menus: genome, fitness by inner allocation, held-out judgement.

A menu is a small set of offers from a grid of candidates. Its fitness is what the best allocation
of its offers to a sample of users earns under the budget; the winner is judged on other users.
"""

from promo_ray.design.fitness import MenuFitness, MenuScores
from promo_ray.design.genome import MenuSpace
from promo_ray.design.grid import OfferGrid, offer_grid
from promo_ray.design.judge import Gain, Judgement, Sample, judge_menu
from promo_ray.design.knapsack import MenuAllocation, allocate_menu
from promo_ray.design.menu import MenuResult, design_menu

__all__ = [
    "Gain",
    "Judgement",
    "MenuAllocation",
    "MenuFitness",
    "MenuResult",
    "MenuScores",
    "MenuSpace",
    "OfferGrid",
    "Sample",
    "allocate_menu",
    "design_menu",
    "judge_menu",
    "offer_grid",
]
