"""Charts of an island run: how each island converged, and where the best came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from promo_ray.evaluation.report_charts import ACCENT, MUTED, PALETTE, Drawing, lines, styled
from promo_ray.evaluation.report_words import number

Row = Mapping[str, Any]


class Stay(NamedTuple):
    """A stretch of the line of the best: on `island` from round `start` to round `end`."""

    island: int
    start: int
    end: int


def ancestry(history: Sequence[Row], migrations: Sequence[Row]) -> list[Stay]:
    """Where the best of the run came from, takeover by takeover, first stay first.

    A takeover is a migrant that was better than all on the island it came to. Between two of them
    the best of an island is its own work, whatever other migrants added.

    Args:
        history: rows with `round`, `island`, `best` and perhaps `violation`.
        migrations: rows of the migration log, see `execution.islands_log.MIGRATIONS`.
    """
    last = {int(row["island"]): row for row in sorted(history, key=lambda r: r["round"])}
    if not last:
        return []
    best = min(last.values(), key=lambda r: (r.get("violation") or 0, -_best(r), r["island"]))
    island, at_round = int(best["island"]), int(best["round"])
    came: dict[int, list[Row]] = {}
    for row in sorted(migrations, key=lambda r: (r["round"], r["fitness"])):
        if row["is_takeover"]:
            came.setdefault(row["island"], []).append(row)
    stays: list[Stay] = []
    while True:
        earlier = [row for row in came.get(island, []) if row["round"] < at_round]
        if not earlier:
            return [Stay(island, 0, at_round), *stays]
        row = earlier[-1]
        stays.insert(0, Stay(island, row["round"], at_round))
        island, at_round = row["source"], row["source_round"]


def _best(row: Row) -> float:
    known = number(row["best"])
    return -float("inf") if known is None else known


def convergence(history: Sequence[Row], *, y: str = "best fitness so far") -> Drawing | None:
    """Best of each island over rounds; None if there is nothing finite to draw."""
    rows = [
        {"series": f"island {int(r['island']) + 1}", "x": r["round"], "y": r["best"]}
        for r in history
    ]
    alt = "Best fitness of each island; flat lines at the end mean that it settled."
    drawing = lines(rows, x="round", y=y, alt=alt)
    if drawing is not None and len(drawing.figure.data) > len(PALETTE):
        drawing.figure.update_layout(showlegend=False)  # colors repeat: names would mislead
    return drawing


def lineage(history: Sequence[Row], migrations: Sequence[Row]) -> Drawing | None:
    """Takeovers between islands in gray, and in color the line of the best of the run."""
    stays = ancestry(history, migrations)
    if not stays:
        return None
    figure = go.Figure()
    takeovers = [row for row in migrations if row["is_takeover"]]
    xs: list[float | None] = []
    ys: list[float | None] = []
    for row in takeovers:
        xs += [row["source_round"], row["round"] + 0.5, None]
        ys += [row["source"] + 1, row["island"] + 1, None]
    gray = {"color": MUTED, "width": 1}
    figure.add_trace(
        go.Scatter(x=xs, y=ys, mode="lines", line=gray, opacity=0.5, name="takeovers",
                   hoverinfo="skip")
    )  # fmt: skip
    path_x = [float(v) for stay in stays for v in (stay.start, stay.end)]
    path_y = [float(stay.island + 1) for stay in stays for _ in range(2)]
    figure.add_trace(
        go.Scatter(
            x=path_x,
            y=path_y,
            mode="lines+markers",
            line={"color": ACCENT, "width": 3},
            marker={"size": 6},
            name="line of the best",
            hovertemplate="round %{x:.0f}, island %{y:.0f}<extra></extra>",
        )
    )
    n_islands = len({row["island"] for row in history})
    styled(figure, height=160 + 30 * min(n_islands, 16), x="round", y="island")
    figure.update_yaxes(
        dtick=1 if n_islands <= 16 else None, range=[n_islands + 0.5, 0.5], zeroline=False
    )
    path = " to ".join(f"island {stay.island + 1}" for stay in stays[-8:])
    more = "" if len(stays) <= 8 else "… to "
    return Drawing(
        figure, f"{len(takeovers)} migrants took an island over. The best came by {more}{path}."
    )
