import hashlib
import logging

import pyarrow as pa
import pytest

from promo_ray.data.pseudonym import (
    KEY_VARIABLE,
    key_from_environment,
    pseudonymize,
    pseudonymize_table,
)
from promo_ray.errors import ConfigError

KEY = b"0123456789abcdef"


def test_a_pseudonym_is_keyed_blake2b_of_the_id() -> None:
    want = hashlib.blake2b("日本".encode(), digest_size=16, key=KEY).hexdigest()
    assert pseudonymize(["日本"], KEY) == [want]
    assert len(want) == 32


def test_the_same_id_has_the_same_pseudonym_only_under_the_same_key() -> None:
    a, b, again = pseudonymize(["u1", "u2", "u1"], KEY)
    assert a == again != b
    assert pseudonymize(["u1"], KEY + b"x") != [a]


def test_a_long_key_counts_in_full() -> None:
    long = b"k" * 64
    assert pseudonymize(["u"], long + b"1") != pseudonymize(["u"], long + b"2")


def test_a_table_keeps_its_rows_and_nulls_and_other_columns() -> None:
    ids = pa.chunked_array([["u1", None], ["u2", "u1"]])
    table = pa.table({"x": [1, 2, 3, 4], "user_id": ids})
    hidden = pseudonymize_table(table, KEY)
    a, b = pseudonymize(["u1", "u2"], KEY)
    assert hidden.to_pydict() == {"x": [1, 2, 3, 4], "user_id": [a, None, b, a]}
    assert hidden.schema == table.schema


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert key_from_environment() is None
    monkeypatch.setenv(KEY_VARIABLE, "0123456789abcdef")
    assert key_from_environment() == KEY


@pytest.mark.parametrize("key", ["", "short"])
def test_a_short_key_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(ConfigError, match="at least 16 bytes") as caught:
        key_from_environment()
    assert not key or key not in str(caught.value)
    with pytest.raises(ConfigError, match="at least 16 bytes"):
        pseudonymize(["u"], key.encode())


def test_ids_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        pseudonymize_table(pa.table({"user_id": ["secret-id"]}), KEY)
    assert "secret-id" not in caplog.text
