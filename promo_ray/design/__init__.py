"""Search of offer menus: genome, fitness by inner allocation, held-out judgement.

A menu is a small set of offers from a grid of candidates, each for a segment, in a window, by a
channel. Its fitness is what the best allocation of its offers to a sample of users earns under
the budget; finalists race on other users, and the winner is judged on yet others.
"""

from promo_ray.design import native
from promo_ray.design.binding import Binding
from promo_ray.design.budgets import Budget, BudgetRows
from promo_ray.design.bundles import Bundle, propose_bundles
from promo_ray.design.columns import Channel, Columns, Predicted, Sample, Variants, Window
from promo_ray.design.constraints import Constraints
from promo_ray.design.executable import DesignedOffer, OfferSet
from promo_ray.design.fitness import MenuFitness, MenuScores
from promo_ray.design.genome import MenuSpace
from promo_ray.design.grid import OfferGrid, offer_grid
from promo_ray.design.judge import BudgetUse, Finalist, Gain, Judgement, judge_menu, race
from promo_ray.design.knapsack import MenuAllocation, allocate_menu
from promo_ray.design.menu import MenuResult, Samples, design_menu, search_menu
from promo_ray.design.users import MenuUsers
from promo_ray.design.wide_grid import GridSteps, wide_grid

__all__ = [
    "Binding",
    "Budget",
    "BudgetRows",
    "BudgetUse",
    "Bundle",
    "Channel",
    "Columns",
    "Constraints",
    "DesignedOffer",
    "Finalist",
    "Gain",
    "GridSteps",
    "Judgement",
    "MenuAllocation",
    "MenuFitness",
    "MenuResult",
    "MenuScores",
    "MenuSpace",
    "MenuUsers",
    "OfferGrid",
    "OfferSet",
    "Predicted",
    "Sample",
    "Samples",
    "Variants",
    "Window",
    "allocate_menu",
    "design_menu",
    "judge_menu",
    "native",
    "offer_grid",
    "propose_bundles",
    "race",
    "search_menu",
    "wide_grid",
]
