"""`promo-ray islands`: how a search by islands went, as lines and as charts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from promo_ray.errors import PromoRayError
from promo_ray.telemetry import json_line

_PAGE = """<!doctype html><meta charset="utf-8"><title>Islands</title>
<body style="font-family: system-ui, sans-serif; max-width: 60rem; margin: 2rem auto">
<h1>Islands</h1>{charts}</body>
"""


def islands_command(
    uri: Annotated[str, typer.Argument(help="Directory or URI of the checkpoint.")],
    out: Annotated[str | None, typer.Option(help="HTML file for the charts.")] = None,
) -> None:
    """Show convergence and lineage of a run from its checkpoint, finished or not."""
    # not on top: `promo-ray --help` should not wait for the plotting library
    from promo_ray.evaluation.report_charts import fragments
    from promo_ray.evaluation.report_islands import ancestry, convergence, lineage
    from promo_ray.execution import read_record

    try:
        record = read_record(uri)
    except PromoRayError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(error.exit_code) from error
    migrations = record.migrations.to_pylist()
    last = {int(row["island"]): row for row in record.history}
    for island, row in sorted(last.items()):
        taken = sum(m["n_taken"] for m in migrations if m["island"] == island)
        sys.stdout.write(
            f"island {island + 1:<4} rounds {row['round']:<7g} evals {row['n_evals']:<10g} "
            f"best {row['best'] + 0.0:<12.6g} {_broken(row)}mean {row['mean'] + 0.0:<12.6g} "
            f"diversity {row['diversity']:<9.3g} migrants taken {taken}\n"
        )
    stays = ancestry(record.history, migrations)
    path = " > ".join(f"{stay.island + 1} (round {stay.start})" for stay in stays)
    sys.stdout.write(f"line of the best: {path or 'no island has finished a round'}\n")
    if out is not None:
        found = [convergence(record.history), lineage(record.history, migrations)]
        drawings = [drawing for drawing in found if drawing is not None]
        parts = [
            f"<p>{drawing.alt}</p>{html}"
            for drawing, html in zip(drawings, fragments(drawings), strict=True)
        ]
        try:
            Path(out).write_text(_PAGE.format(charts="".join(parts)), encoding="utf-8")
        except OSError as error:
            sys.stderr.write(f"error: output must be writable; {out}: {error.strerror}\n")
            raise typer.Exit(2) from error
    best = min(last.values(), key=lambda r: (r.get("violation", 0.0), -r["best"]), default=None)
    facts = {
        "job": "islands",
        "artifact": out,
        "rounds": list(record.rounds),
        "best": None if best is None else float(best["best"]) + 0.0,
        "violation": None if best is None else float(best.get("violation", 0.0)),
    }
    sys.stdout.write(json_line({**facts, "migrations": len(migrations)}) + "\n")


def _broken(row: Mapping[str, float]) -> str:
    """How far the best of an island breaks rules; empty if it keeps them."""
    violation = row.get("violation", 0.0)
    return f"violation {violation:<10.3g} " if violation else ""
