import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from promo_ray.artifacts import ArtifactStore, Kind, TableSpec
from promo_ray.artifacts.columns import required
from promo_ray.artifacts.kind import Migration
from promo_ray.errors import ArtifactError, DataError, OutputError

SCHEMA = pa.schema([required("id", pa.string()), pa.field("value", pa.float64())])
TOY = Kind(
    name="toy",
    tables={
        "rows": TableSpec(schema=SCHEMA, prefixes=("x_",), is_sharded=True),
        "one": TableSpec(schema=SCHEMA),
    },
    documents=("note",),
)
TABLE = pa.table({"id": ["a", "b"], "value": [1.0, None]})


def _write(store: ArtifactStore, seed: int = 0, kind: Kind = TOY) -> None:
    with store.write(kind, config={"a": 1}, seed=seed, inputs={"events": "12"}) as writer:
        writer.part("rows", 0, TABLE.append_column("x_1", [[3.0, 4.0]]))
        writer.part("rows", 1, TABLE.append_column("x_1", [[1.0, 2.0]]))
        writer.table("one", TABLE)
        writer.json("note", {"b": 1, "a": [1.5]})
        writer.tensors("arrays", {"w": np.arange(6.0).reshape(2, 3)})
        writer.metrics["n_rows"] = 4


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    _write(store)
    artifact = store.read(TOY)
    assert artifact.table("one").equals(TABLE.cast(SCHEMA))
    assert [p().num_rows for p in artifact.parts("rows")] == [2, 2]
    assert artifact.json("note") == {"b": 1, "a": [1.5]}
    assert np.array_equal(artifact.tensors("arrays")["w"], np.arange(6.0).reshape(2, 3))
    assert artifact.manifest.metrics == {"n_rows": 4}
    assert store.is_current(TOY, {"a": 1}, 0, {"events": "12"})
    assert not store.is_current(TOY, {"a": 1}, 1, {"events": "12"})


def test_the_same_content_has_the_same_digest_wherever_it_lies(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        store = ArtifactStore(str(tmp_path / name))
        _write(store, seed=len(digests))
        digests.add(store.read(TOY).digest)
    assert len(digests) == 1


def test_a_failed_write_leaves_the_former_artifact_and_no_rest(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    _write(store)
    before = store.read(TOY).digest
    with pytest.raises(RuntimeError), store.write(TOY, config={}, seed=1, inputs={}) as writer:
        writer.part("rows", 0, TABLE)
        raise RuntimeError
    assert store.read(TOY).digest == before
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_incomplete_artifacts_are_not_committed(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    with (
        pytest.raises(DataError, match="note"),
        store.write(TOY, config={}, seed=0, inputs={}) as writer,
    ):
        writer.part("rows", 0, TABLE)
        writer.table("one", TABLE)
    assert store.find(TOY) is None


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table({"id": ["a"]}), "column 'value' must be present"),
        (pa.table({"id": ["a"], "value": ["x"]}), "column 'value' must be double"),
        (pa.table({"id": [None, "a"], "value": [1.0, 2.0]}), "'id' must have no null; got 1"),
        (pa.table({"id": ["a"], "value": [1.0], "extra": [1]}), "'extra' is not part"),
    ],
)
def test_tables_that_break_the_schema_are_refused(
    tmp_path: Path, table: pa.Table, words: str
) -> None:
    store = ArtifactStore(str(tmp_path))
    with (
        pytest.raises(DataError, match=words),
        store.write(TOY, config={}, seed=0, inputs={}) as writer,
    ):
        writer.table("one", table)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_found(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    _write(store)
    part = tmp_path / "toy" / "rows" / "part-0001.parquet"
    part.write_bytes(part.read_bytes()[:-7])
    with pytest.raises(ArtifactError, match=r"part-0001.parquet must match its manifest"):
        store.read(TOY).table("rows")
    manifest = tmp_path / "toy" / "manifest.json"
    values = json.loads(manifest.read_text())
    values["files"][0]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match="digest"):
        store.read(TOY)
    manifest.write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        store.read(TOY)


def test_a_missing_artifact_names_kind_and_store(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="'toy' must be in"):
        ArtifactStore(str(tmp_path)).read(TOY)


def test_newer_versions_are_refused_and_older_ones_lifted(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    _write(store)
    lift = Migration(
        document=lambda name, value: value | {"lifted": name},
        table=lambda name, table: table.rename_columns(["key", *table.column_names[1:]]),
    )
    newer = Kind(
        name="toy", schema_version=2, tables=TOY.tables, documents=("note",), migrations={1: lift}
    )
    artifact = store.read(newer)
    assert artifact.json("note")["lifted"] == "note"
    assert artifact.table("one").column_names == ["key", "value"]
    assert artifact.parts("rows")[0]().column_names == ["key", "value", "x_1"]
    _write(store, kind=newer)
    with pytest.raises(ArtifactError, match="schema version <= 1; got 2"):
        store.read(TOY)


def test_an_unwritable_place_gives_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="must be writable"):
        _write(ArtifactStore(str(tmp_path / "file" / "run")))


def test_object_stores_work_through_their_uri(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/run")
    _write(store)
    assert store.read(TOY).table("rows").num_rows == 4
