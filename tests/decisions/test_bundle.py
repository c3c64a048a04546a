import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from shop_bundle import make_content, make_policy, open_bundle, user_ids, write

from promo_ray.artifacts import ArtifactStore, FileEntry
from promo_ray.artifacts.decision_bundle import DECISION_BUNDLE
from promo_ray.config import parse, resolve
from promo_ray.decisions import DecisionBundle, Policy, write_bundle
from promo_ray.errors import ArtifactError, ConfigError, DataError
from promo_ray.seeding import keys_of


def test_every_user_finds_the_row_that_was_written(tmp_path: Path) -> None:
    content = make_content(200)
    bundle = open_bundle(tmp_path, content)
    rows = bundle.rows_of(keys_of(content.user_ids))
    np.testing.assert_array_equal(bundle.value[rows], content.value)
    np.testing.assert_array_equal(bundle.cost[rows], content.cost.transpose(1, 0, 2))
    np.testing.assert_array_equal(bundle.choice[rows], content.choice)
    np.testing.assert_array_equal(bundle.top_items[rows], content.top_items)
    assert (bundle.rows_of(keys_of(["u", "nobody", ""])) == -1).all()
    assert bundle.policy == content.policy


def test_arrays_are_read_only_maps_and_ids_are_not_stored(tmp_path: Path) -> None:
    content = make_content()
    directory = Path(write(tmp_path, content))
    bundle = DecisionBundle.open(directory)
    with pytest.raises(ValueError, match="read-only"):
        bundle.value[0, 0] = 1
    base = bundle.value
    while getattr(base, "base", None) is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    raw = b"".join(f.read_bytes() for f in directory.iterdir())
    assert not any(user_id.encode() in raw for user_id in content.user_ids)


def test_the_same_content_gives_the_same_digest_in_any_order_of_users(tmp_path: Path) -> None:
    content = make_content()
    order = np.random.default_rng(0).permutation(len(content.user_ids))
    shuffled = replace(
        content,
        user_ids=[content.user_ids[i] for i in order],
        value=content.value[order],
        cost=content.cost[:, order],
        choice=content.choice[order],
        segment_idx=content.segment_idx[order],
        top_items=content.top_items[order],
    )
    first = open_bundle(tmp_path / "a", content)
    assert open_bundle(tmp_path / "b", shuffled).digest == first.digest


def test_a_bundle_opens_from_its_directory_its_store_or_its_artefact(tmp_path: Path) -> None:
    directory = Path(write(tmp_path, make_content()))
    artifact = ArtifactStore(str(directory.parent)).read(DECISION_BUNDLE)
    digests = {DecisionBundle.open(s).digest for s in (directory, directory.parent, artifact)}
    assert digests == {artifact.digest}


def test_a_bundle_without_users_answers_for_nobody(tmp_path: Path) -> None:
    bundle = open_bundle(tmp_path, make_content(0))
    profiles = bundle.profiles(bundle.rows_of(keys_of(["a", "b"])))
    assert np.isneginf(profiles.value).all()
    assert (profiles.choice == -1).all()


def test_items_of_a_user_are_filled_up_with_popular_ones(tmp_path: Path) -> None:
    bundle = open_bundle(tmp_path)
    row = int(bundle.rows_of(keys_of(user_ids(2)))[1])
    assert bundle.items_of(row, 5) == ["milk", "tea", "rice"]
    assert bundle.items_of(-1, 1) == ["tea"]


def _bad_contents() -> list[tuple[str, dict[str, object]]]:
    content = make_content(6)
    nan = content.value.copy()
    nan[2, 1] = np.nan
    cost = content.cost.copy()
    cost[0, 3, 0] = -1
    choice = content.choice.copy()
    choice[0] = 3
    return [
        ("unique", {"user_ids": ["a", "a", "b", "c", "d", "e"]}),
        ("value must be finite", {"value": nan}),
        ("cost must lie", {"cost": cost}),
        ("choice must lie", {"choice": choice}),
        ("must have 6 rows", {"segment_idx": np.zeros(5, dtype=np.int32)}),
        ("top_items must lie", {"top_items": np.full((6, 1), 4, dtype=np.int32)}),
        ("popular items", {"popular_items": (9,)}),
        ("unique texts", {"offers": [{"id": "a"}, {"id": "a"}, {"id": "b"}]}),
        ("value must be", {"offers": [{"id": "a"}]}),
        ("cost must be", {"cost": content.cost[0]}),
        ("fallback_slot", {"policy": make_policy(fallback_slot=3, fallback_cost=(1.0,))}),
    ]


@pytest.mark.parametrize(("text", "change"), _bad_contents(), ids=lambda v: str(v)[:24])
def test_bad_content_is_refused_with_its_reason_and_leaves_nothing(
    tmp_path: Path, text: str, change: dict[str, object]
) -> None:
    with pytest.raises(DataError, match=text):
        write(tmp_path, replace(make_content(6), **change))
    assert not [f for f in tmp_path.rglob("*") if f.is_file()]


@pytest.mark.parametrize(
    "fields",
    [
        {"campaign": "a/b"},
        {"budgets": (1.0, 2.0)},
        {"prices": (-1.0,)},
        {"epsilon": 1.5},
        {"starts_at": "2026-01-01T00:00:00"},
        {"ends_at": "soon"},
        {"fallback_slot": 0},
        {"reservation_ttl_s": 0.0},
        {"budgets": (1e15,)},
    ],
)
def test_policies_out_of_range_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        parse(Policy, resolve(make_policy()) | fields)


def test_amounts_are_rounded_up_but_not_by_the_error_of_float32() -> None:
    policy = make_policy()
    costs = np.array([0.1, 0.3, 0.101, 0.0, 29.99, 1e-9], dtype=np.float32)
    assert policy.to_minor(costs).tolist() == [10, 30, 11, 0, 2999, 0]
    assert policy.budgets_minor == {"main": 100_000}


def test_damage_anywhere_in_the_file_is_refused(tmp_path: Path) -> None:
    directory = Path(write(tmp_path, make_content(20)))
    file = directory / "users.safetensors"
    raw = file.read_bytes()
    damaged = [raw[:-1], b"", raw + b"\0"]
    damaged += [raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :] for i in range(0, len(raw), 64)]
    for bad in damaged:
        file.write_bytes(bad)
        with pytest.raises(ArtifactError):
            DecisionBundle.open(directory)


def _header(values: object) -> bytes:
    text = orjson.dumps(values)
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 7,
        (2**63).to_bytes(8, "little") + b"{}",
        pickle.dumps({"key": [1, 2]}),
        b"PK\x03\x04" + b"\0" * 64,
        _header([]),
        _header({"key": {"dtype": "U64", "shape": [2**40], "data_offsets": [0, 2**43]}}),
        _header({"key": {"dtype": "U64", "shape": [-1], "data_offsets": [0, 0]}}),
        _header({"key": {"dtype": "F64", "shape": [0], "data_offsets": [0, 0]}}),
        _header({"key": {"dtype": "U64", "shape": [0], "data_offsets": [0]}}),
        _header({"key": {"dtype": "U64", "shape": ["a"], "data_offsets": [0, 0]}}),
        _header({"key": {"dtype": "U64", "shape": [0], "data_offsets": [0, 0]}}),
        _header({"key": 1}),
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_a_users_file_that_lies_is_refused_though_its_digest_matches(
    tmp_path: Path, raw: bytes
) -> None:
    content = make_content(4)
    store = ArtifactStore(str(tmp_path / "v1"))
    with store.write(DECISION_BUNDLE, config={}, seed=0, inputs={}) as writer:
        write_bundle(writer, content)
        Path(writer.uri, "users.safetensors").write_bytes(raw)
        sha256 = hashlib.sha256(raw).hexdigest()
        name = "users.safetensors"
        writer.add([FileEntry(name=name, sha256=sha256, n_bytes=len(raw))])
    with pytest.raises(ArtifactError):
        DecisionBundle.open(tmp_path / "v1")
