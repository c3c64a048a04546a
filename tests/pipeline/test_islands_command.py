from pathlib import Path

import numpy as np
import orjson
from typer.testing import CliRunner

from promo_ray.cli.main import app
from promo_ray.optimizers import SearchSpace, optimize_islands
from promo_ray.testing.optimizer import sphere


def test_a_run_is_shown_from_its_checkpoint(tmp_path: Path) -> None:
    space, uri = SearchSpace.box([-1.0] * 3, [1.0] * 3), str(tmp_path / "run")
    islands = ("ga", "pso", "ga", "pso")
    result = optimize_islands(sphere, space, islands, 8_000, checkpoint_uri=uri)
    page = tmp_path / "islands.html"
    before = sorted((tmp_path / "run").iterdir())
    done = CliRunner().invoke(app, ["islands", uri, "--out", str(page)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[:4] for line in lines[:4]] == [
        ["island", str(i), "rounds", "2"] for i in range(1, 5)
    ]
    assert lines[4].startswith("line of the best: ")
    facts = orjson.loads(lines[-1])
    np.testing.assert_allclose(facts["best"], result.best_fitness)
    assert facts["migrations"] == result.migrations.num_rows == 4
    assert page.read_text().count("plotly-graph-div") >= 2
    assert sorted((tmp_path / "run").iterdir()) == before


def test_a_place_without_a_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["islands", str(tmp_path / "none")])
    assert done.exit_code == 2
    assert "there must be a checkpoint of islands at" in done.output
    assert not (tmp_path / "none").exists()
