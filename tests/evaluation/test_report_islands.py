from typing import Any

from promo_ray.evaluation.report_charts import fragments
from promo_ray.evaluation.report_islands import Stay, ancestry, convergence, lineage


def row(at_round: int, island: int, best: float) -> dict[str, Any]:
    return {"round": at_round, "island": island, "best": best, "violation": 0.0}


def came(at_round: int, island: int, source: int, source_round: int, **more: Any) -> dict[str, Any]:
    place = {"round": at_round, "island": island, "source": source, "source_round": source_round}
    return {**place, "fitness": 1.0, "is_takeover": True, **more}


HISTORY = [row(r, i, r + i / 10) for r in range(1, 6) for i in range(3)]
# island 2 (the best) was taken over by 0 at round 3, which had been by 1 at round 1
MIGRATIONS = [
    came(1, 0, 1, 1),
    came(2, 1, 2, 2),
    came(3, 2, 0, 3),
    came(4, 2, 1, 4, is_takeover=False),
]


def test_the_line_of_the_best_goes_back_from_takeover_to_takeover() -> None:
    assert ancestry(HISTORY, MIGRATIONS) == [Stay(1, 0, 1), Stay(0, 1, 3), Stay(2, 3, 5)]
    assert ancestry(HISTORY, []) == [Stay(2, 0, 5)]
    assert ancestry([], []) == []


def test_a_feasible_best_comes_before_a_better_one_that_breaks_a_rule() -> None:
    history = [*HISTORY[:-1], {**HISTORY[-1], "violation": 1.0}]
    assert ancestry(history, [])[-1].island == 1


def test_charts_say_what_they_show() -> None:
    drawing = lineage(HISTORY, MIGRATIONS)
    assert drawing is not None
    assert drawing.alt == (
        "3 migrants took an island over. The best came by island 2 to island 1 to island 3."
    )
    assert list(drawing.figure.data[1].y) == [2, 2, 1, 1, 3, 3]
    curves = convergence(HISTORY)
    assert curves is not None
    assert [t.name for t in curves.figure.data] == ["island 1", "island 2", "island 3"]
    assert len(fragments([curves, drawing])) == 2
    assert convergence([row(1, 0, -float("inf"))]) is None
    assert lineage([], []) is None
