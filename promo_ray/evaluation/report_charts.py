"""Charts of the report as self-contained HTML fragments, each with its meaning in one sentence.

The first fragment of a page carries the plotting library, the others use it. Colors stand on
light and dark paper alike; the page sets the color of text to that of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import plotly.graph_objects as go
import plotly.io as pio

from promo_ray.evaluation.report_words import Unit, number, percent

ACCENT, MUTED, GRID = "#3f83c8", "#8d939c", "rgba(128,128,128,0.22)"
PALETTE = ("#3f83c8", "#d98324", "#2a9d74", "#9b6fc4", "#c8553d", "#b09a2e", "#5aa9c7", "#8d939c")
_CONFIG = {"displayModeBar": False, "responsive": True, "scrollZoom": False}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


class Drawing(NamedTuple):
    """A figure and its meaning in one sentence, for those who do not see it."""

    figure: go.Figure
    alt: str


def fragments(drawings: Sequence[Drawing]) -> list[str]:
    """HTML of each figure; ids are numbers, so that equal content gives equal bytes."""
    return [
        pio.to_html(
            drawing.figure,
            config=_CONFIG,
            include_plotlyjs=i == 0,
            full_html=False,
            div_id=f"chart-{i + 1}",
            default_width="100%",
        )
        for i, drawing in enumerate(drawings)
    ]


def styled(figure: go.Figure, *, height: int = 320, x: str = "", y: str = "") -> go.Figure:
    """The figure in the style of the report."""
    axis = {"gridcolor": GRID, "zerolinecolor": MUTED, "fixedrange": True, "automargin": True}
    has_legend = sum(bool(t.name) and t.showlegend is not False for t in figure.data) > 1
    figure.update_layout(
        template="none",
        height=height,
        dragmode=False,
        margin={"l": 10, "r": 16, "t": 34 if has_legend else 12, "b": 56},
        showlegend=has_legend,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": _FONT, "size": 13, "color": "#7a8088"},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        hoverlabel={"font": {"family": _FONT}},
        xaxis={**axis, "title": {"text": x, "font": {"size": 13}, "standoff": 10}},
        yaxis={**axis, "title": {"text": y, "font": {"size": 13}, "standoff": 10}},
        colorway=PALETTE,
    )
    return figure


def text_of(value: Any) -> str:
    """Text that plotly shows as it is: it would read tags otherwise."""
    return escape(str(value), quote=False)


class Dot(NamedTuple):
    """A gain per user; `low` and `high` are None for exact values."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    is_own: bool = False


def dots_and_whiskers(
    dots: Sequence[Dot], unit: Unit, *, what: str = "gain against no offers"
) -> Drawing:
    """A gain per label, first on top; exact values as diamonds."""
    figure = go.Figure()
    for dot in reversed(dots):
        value = dot.value * unit.scale
        color = ACCENT if dot.is_own else MUTED
        whisker = None
        if dot.low is not None and dot.high is not None:
            whisker = {
                "type": "data",
                "symmetric": False,
                "thickness": 2.5,
                "width": 7,
                "array": [dot.high * unit.scale - value],
                "arrayminus": [value - dot.low * unit.scale],
            }
        label = text_of(dot.label)
        figure.add_trace(
            go.Scatter(
                x=[value],
                y=[f"<b>{label}</b>" if dot.is_own else label],
                error_x=whisker,
                mode="markers",
                marker={
                    "color": color,
                    "size": 13 if dot.is_own else 10,
                    "symbol": "circle" if whisker else "diamond",
                },
                hovertemplate=f"{label}: %{{x:,.4g}} {text_of(unit.axis)}<extra></extra>",
                showlegend=False,
            )
        )
    styled(figure, height=90 + 46 * len(dots), x=f"{what}, {unit.axis}")
    figure.update_xaxes(zeroline=True, zerolinewidth=2, rangemode="tozero")
    words = "; ".join(f"{dot.label} {unit.one_user(dot.value)}" for dot in dots)
    return Drawing(figure, f"{what.capitalize()} {unit.per}: {words}.")


def bars(labels: Sequence[str], values: Sequence[float], *, x: str, alt: str) -> Drawing:
    """Horizontal bars, first on top."""
    figure = go.Figure(
        go.Bar(
            x=list(values)[::-1],
            y=[text_of(label) for label in labels][::-1],
            orientation="h",
            marker={"color": ACCENT},
            hovertemplate="%{y}: %{x:,.4g}<extra></extra>",
        )
    )
    return Drawing(styled(figure, height=80 + 34 * len(labels), x=x), alt)


def stacked_shares(rows: Mapping[str, Sequence[float]], series: Sequence[str]) -> Drawing:
    """Share of each series within each row, rows first on top; series 0 (no offer) in gray."""
    figure = go.Figure()
    for j, name in enumerate(series):
        shares = [100 * float(v[j]) / max(1.0, float(sum(v))) for v in rows.values()]
        color = MUTED if j == 0 else PALETTE[(j - 1) % len(PALETTE)]
        figure.add_trace(
            go.Bar(
                x=shares[::-1],
                y=[text_of(r) for r in rows][::-1],
                name=text_of(name),
                orientation="h",
                marker={"color": color},
                hovertemplate=f"%{{y}}: %{{x:.0f}} % {text_of(name)}<extra></extra>",
            )
        )
    styled(figure, height=130 + 34 * len(rows) + 16 * len(series), x="% of the segment's users")
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_xaxes(range=[0, 100])
    none = [float(v[0]) / max(1.0, float(sum(v))) for v in rows.values()]
    parts = [f"{percent(1 - share)} of {row}" for row, share in zip(rows, none, strict=True)]
    return Drawing(figure, f"Share of users who get an offer: {', '.join(parts)}.")


def rfm_heat_map(counts: Sequence[Sequence[Any]], k: int) -> Drawing:
    """Users by recency and frequency quintile; cells of fewer than `k` users are left blank."""
    cells = [[number(c) or 0.0 for c in row] for row in counts]
    shown = [[c if c >= k else None for c in row] for row in cells]
    names = ["1 lowest", "2", "3", "4", "5 highest"]
    figure = go.Figure(
        go.Heatmap(
            z=shown,
            x=names,
            y=["1 longest ago", "2", "3", "4", "5 latest"],
            texttemplate="%{z:,.0f}",
            colorscale=[[0, "rgba(63,131,200,0.10)"], [1, "rgba(63,131,200,0.95)"]],
            showscale=False,
            xgap=3,
            ygap=3,
            hovertemplate="recency %{y}, frequency %{x}: %{z:,.0f} users<extra></extra>",
        )
    )
    styled(figure, height=340, x="how often they buy (fifths)", y="how lately (fifths)")
    figure.update_xaxes(showgrid=False, type="category")
    figure.update_yaxes(showgrid=False, type="category")
    best = cells[-1][-1]
    text = "Users by how lately (rows) and how often (columns) they bought, in fifths. "
    return Drawing(figure, text + (f"{best:,.0f} are best in both." if best >= k else ""))


def lines(
    rows: Sequence[Mapping[str, Any]], *, x: str, y: str, alt: str, scale: float = 1.0
) -> Drawing | None:
    """One line per series with its band where `low` and `high` are known; y times `scale`."""
    series = _series(rows)
    figure = go.Figure()
    for j, (name, points) in enumerate(series.items()):
        color = PALETTE[j % len(PALETTE)]
        xs = [float(p["x"]) for p in points]
        ends = [(number(p.get("low")), number(p.get("high"))) for p in points]
        band = [(low, high) for low, high in ends if low is not None and high is not None]
        if len(series) <= 2 and len(band) == len(points):
            ring = [h * scale for _, h in band] + [low * scale for low, _ in band][::-1]
            figure.add_trace(
                go.Scatter(
                    x=xs + xs[::-1],
                    y=ring,
                    fill="toself",
                    fillcolor=color,
                    opacity=0.16,
                    line={"width": 0},
                    hoverinfo="skip",
                    showlegend=False,
                )
            )
        ys = [float(p["y"]) * scale for p in points]
        line = {"color": color, "width": 2.5}
        figure.add_trace(go.Scatter(x=xs, y=ys, name=text_of(name), mode="lines", line=line))
    styled(figure, x=x, y=y, height=360)
    every = {float(p["x"]) for points in series.values() for p in points}
    if len(every) <= 10 and all(v.is_integer() for v in every):
        figure.update_xaxes(tickvals=sorted(every))  # no ticks between rounds
    return Drawing(figure, alt) if series else None


def calibration(rows: Sequence[Mapping[str, Any]], unit: Unit, alt: str) -> Drawing | None:
    """Predicted against observed gain with whiskers, and the line where both agree."""
    series = _series(rows)
    if not series:
        return None
    figure = go.Figure()
    every = [float(p[k]) * unit.scale for points in series.values() for p in points for k in "xy"]
    ends = [min(every), max(every)]
    dash = {"color": MUTED, "dash": "dash", "width": 1.5}
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", line=dash, name="exactly right"))
    for j, (name, points) in enumerate(series.items()):
        ys = [float(p["y"]) * unit.scale for p in points]
        low, high = ([_end(p, k) * unit.scale for p in points] for k in ("low", "high"))
        figure.add_trace(
            go.Scatter(
                x=[float(p["x"]) * unit.scale for p in points],
                y=ys,
                name=text_of(name),
                mode="markers",
                marker={"color": PALETTE[j % len(PALETTE)], "size": 9},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "thickness": 1.5,
                    "width": 4,
                    "array": [h - y for h, y in zip(high, ys, strict=True)],
                    "arrayminus": [y - a for a, y in zip(low, ys, strict=True)],
                },
            )
        )
    axis = unit.axis
    return Drawing(styled(figure, x=f"predicted, {axis}", y=f"observed, {axis}", height=380), alt)


def _series(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if number(row.get("x")) is not None and number(row.get("y")) is not None:
            found.setdefault(str(row.get("series") or ""), []).append(row)
    return found


def _end(point: Mapping[str, Any], name: str) -> float:
    """An end of an interval; the point itself if it has none."""
    known = number(point.get(name))
    return float(point["y"]) if known is None else known
