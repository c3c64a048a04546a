"""Artefacts of every released schema version stay readable."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from promo_ray.artifacts import ArtifactStore, kinds

HERE = Path(__file__).parent
CASES = [
    (version, kind)
    for version in sorted(p.name for p in HERE.glob("v*") if p.is_dir())
    for kind in kinds().values()
]
_spec = importlib.util.spec_from_file_location("make_golden", HERE / "make_golden.py")
assert _spec is not None
assert _spec.loader is not None
make_golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_golden)


@pytest.mark.parametrize(("version", "kind"), CASES, ids=lambda v: getattr(v, "name", v))
def test_released_artifacts_stay_readable(version: str, kind) -> None:
    artifact = ArtifactStore(str(HERE / version)).read(kind)
    for name, spec in kind.tables.items():
        table = artifact.table(name)
        assert spec.conform(table, name).equals(table)
        assert table.slice(0, 2).equals(make_golden.table(spec))
    for name in kind.documents:
        assert artifact.json(name) == {"name": name, "numbers": [1, 2.5]}
    assert np.array_equal(artifact.tensors("arrays")["w"], np.arange(6.0).reshape(2, 3))


def test_every_kind_has_a_golden_directory_of_its_present_version() -> None:
    for kind in kinds().values():
        versions = [
            ArtifactStore(str(path)).read(kind).manifest.schema_version
            for path in HERE.glob("v*")
            if (path / kind.name).is_dir()
        ]
        assert kind.schema_version in versions, kind.name
