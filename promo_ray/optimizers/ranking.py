"""Rankings of individuals by the feasibility rules, and newcomers in them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from promo_ray.errors import ConfigError


class Ranked(NamedTuple):
    """Individuals best first.

    Attributes:
        x: `(*batch, n, genes)` genes.
        fitness: `(*batch, n)`; -inf = not evaluated or worst.
        violation: `(*batch, n)` >= 0; 0 = feasible.
    """

    x: Tensor
    fitness: Tensor
    violation: Tensor


def is_better(new: tuple[Tensor, Tensor], old: tuple[Tensor, Tensor]) -> Tensor:
    """Feasibility rules for (fitness, violation): less violation, then more fitness (Deb 2000)."""
    return (new[1] < old[1]) | ((new[1] == old[1]) & (new[0] > old[0]))


def best_first(fitness: Tensor, violation: Tensor) -> Tensor:
    """`(*batch, n)` int64 order by the feasibility rules, stable."""
    order = torch.sort(fitness, dim=-1, descending=True, stable=True).indices
    by_violation = torch.sort(violation.gather(-1, order), dim=-1, stable=True).indices
    return order.gather(-1, by_violation)


def ranked_of(x: Tensor, fitness: Tensor, violation: Tensor) -> Ranked:
    """Individuals in exact order."""
    return in_order(Ranked(x, fitness, violation), best_first(fitness, violation))


def in_order(rows: Ranked, order: Tensor) -> Ranked:
    """Rows in the order `(*batch, k)`."""
    x, fitness, violation = rows
    return Ranked(take(x, order), fitness.gather(-1, order), violation.gather(-1, order))


def take(rows: Tensor, order: Tensor) -> Tensor:
    """Rows `(*batch, n, genes)` in the order `(*batch, k)`."""
    n, d = rows.shape[-2:]
    if order.ndim > 1:
        offset = torch.arange(math.prod(order.shape[:-1]), device=order.device) * n
        flat = (order.reshape(-1, order.shape[-1]) + offset.unsqueeze(-1)).reshape(-1)
        return rows.reshape(-1, d).index_select(0, flat).reshape(*order.shape, d)
    return rows.index_select(0, order)


def best_of(ranked: Ranked, best: Ranked) -> Ranked:
    """The better of the first row of a ranking and the best so far, `(*batch, 1, ...)`."""
    new = ranked.fitness[..., :1], ranked.violation[..., :1]
    wins = is_better(new, (best.fitness, best.violation))
    return Ranked(
        torch.where(wins.unsqueeze(-1), ranked.x[..., :1, :], best.x),
        torch.where(wins, new[0], best.fitness),
        torch.where(wins, new[1], best.violation),
    )


def behind(best: Ranked, ranked: Ranked) -> Ranked:
    """A ranking with the best so far in front and as many rows as before."""
    is_same = (ranked.x[..., :1, :] == best.x).all(-1)
    x = torch.cat([best.x, ranked.x[..., :-1, :]], dim=-2)
    fitness = torch.cat([best.fitness, ranked.fitness[..., :-1]], dim=-1)
    violation = torch.cat([best.violation, ranked.violation[..., :-1]], dim=-1)
    return Ranked(
        torch.where(is_same.unsqueeze(-1), ranked.x, x),
        torch.where(is_same, ranked.fitness, fitness),
        torch.where(is_same, ranked.violation, violation),
    )


class Newcomers(NamedTuple):
    """What stands in some rows of a ranking after newcomers came in.

    Attributes:
        ranks: `(*batch, n)` int64 rows of the ranking.
        enters: `(*batch, n)` bool, whose row a newcomer took.
        x, fitness, violation: what the rows hold now.
    """

    ranks: Tensor
    enters: Tensor
    x: Tensor
    fitness: Tensor
    violation: Tensor


def newcomers(ranked: Ranked, came: Ranked, ranks: Tensor | None) -> Newcomers:
    """Newcomers in rows of a ranking; see `Optimizer.replace_worst`."""
    n, n_rows = came.x.shape[-2], ranked.x.shape[-2]
    if n >= n_rows:
        raise ConfigError(f"newcomers must be fewer than {n_rows}; got {n}")
    if ranks is None:
        ranks = torch.arange(n_rows - n, n_rows, device=came.x.device).expand(came.fitness.shape)
    old = ranked.fitness.gather(-1, ranks), ranked.violation.gather(-1, ranks)
    is_safe = (ranks > 0) | is_better((came.fitness, came.violation), old)
    enters = torch.isfinite(came.fitness) & is_safe
    return Newcomers(
        ranks,
        enters,
        torch.where(enters.unsqueeze(-1), came.x, take(ranked.x, ranks)),
        torch.where(enters, came.fitness, old[0]),
        torch.where(enters, came.violation, old[1]),
    )


def seated(here: Ranked, came: Ranked, ranks: Tensor | None) -> Newcomers:
    """The same for individuals `here` in any order; `ranks` of the result are rows of `here`."""
    order = best_first(here.fitness, here.violation)
    new = newcomers(in_order(here, order), came, ranks)
    return new._replace(ranks=order.gather(-1, new.ranks))
