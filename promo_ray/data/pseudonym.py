"""Keyed pseudonyms of user ids: without the key nobody can test a guess.

Keyed BLAKE2b (RFC 7693) with 16 bytes of output; the same id and key give the same pseudonym, so
tables still join. The key comes from the environment only and never stands in a config.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

import pyarrow as pa

from promo_ray.errors import ConfigError

KEY_VARIABLE = "PROMO_RAY_PSEUDONYM_KEY"
_MIN_KEY = 16
_MAX_KEY = 64  # of BLAKE2b; a longer key is hashed first, as HMAC does


def key_from_environment() -> bytes | None:
    """Key from `PROMO_RAY_PSEUDONYM_KEY` (UTF-8), or None if it is not set.

    Raises:
        ConfigError: the key has fewer than 16 bytes.
    """
    text = os.environ.get(KEY_VARIABLE)
    if text is None:
        return None
    key = text.encode()
    _check_key(key)
    return key


def pseudonymize(user_ids: Iterable[str], key: bytes) -> list[str]:
    """Pseudonym of each id: 32 hexadecimal digits.

    Args:
        user_ids: ids.
        key: secret of at least 16 bytes.

    Raises:
        ConfigError: the key is too short.
    """
    _check_key(key)
    if len(key) > _MAX_KEY:
        key = hashlib.blake2b(key).digest()
    blake = hashlib.blake2b
    return [blake(u.encode(), digest_size=16, key=key).hexdigest() for u in user_ids]


def pseudonymize_table(table: pa.Table, key: bytes, column: str = "user_id") -> pa.Table:
    """Table with the ids of `column` replaced; nulls stay null. Each id is hashed once."""
    encoded = table.column(column).combine_chunks().dictionary_encode()
    names = pa.array(pseudonymize(encoded.dictionary.to_pylist(), key), pa.string())
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(place), names.take(encoded.indices))


def _check_key(key: bytes) -> None:
    if len(key) < _MIN_KEY:
        raise ConfigError(f"{KEY_VARIABLE} must have at least {_MIN_KEY} bytes; got {len(key)}")
