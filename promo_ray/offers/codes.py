"""Unique codes: a keyed permutation of a counter, written in letters that cannot be confused.

Codes are unique by construction: no list of issued ones is needed to make more. Workers that make
disjoint ranges of the counter make disjoint codes. Whoever holds the key can tell from a code
alone whether it was issued.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from promo_ray.errors import DataError
from promo_ray.offers.fields import Between, Name, SomeMoney, validate

# digits and capitals without 0 O, 1 I L, U (like V) and Z (like 2); the check needs their number
# to be a prime
ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXY"
_BASE = len(ALPHABET)
_VALUE = {letter: i for i, letter in enumerate(ALPHABET)}
_ROUNDS = 10
MAX_GUESS = 1e-6  # largest chance that a random code is an issued one


@dataclass(frozen=True, kw_only=True)
class CodePool:
    """Codes 0 to `count - 1` of an offer.

    Attributes:
        key: secret; who holds it can make and check codes.
        count: codes that may be issued in all.
        length: letters of a code, without prefix, with the check letter; 4 to 16.
        prefix: text before the code; not part of the check, but of what makes the code: pools of
            one key with two prefixes share no codes.
    """

    key: Name
    count: SomeMoney
    length: Annotated[int, Between((4, 16))] = 12
    prefix: str = ""

    def __post_init__(self) -> None:
        validate(self, "codes")
        if self.guess_rate > MAX_GUESS:
            raise DataError(
                f"chance that a random code is valid must be at most {MAX_GUESS:g}; "
                f"{self.count} codes of {self.length} letters give {self.guess_rate:.2g}: "
                f"use longer codes",
                where="codes.length",
            )

    @property
    def guess_rate(self) -> float:
        """Issued codes as a share of all texts with a right check letter, which is no secret."""
        return self.count / float(self._n_texts)

    @cached_property
    def _plain_prefix(self) -> str:
        """Prefix in the form that codes are compared in."""
        return self.prefix.lstrip().upper()

    @cached_property
    def _n_texts(self) -> int:
        return int(_BASE ** (self.length - 1))

    @cached_property
    def _half_bits(self) -> int:
        return -(-(self._n_texts - 1).bit_length() // 2)

    @cached_property
    def _round_keys(self) -> tuple[bytes, ...]:
        key = hashlib.blake2b(self.key.encode(), digest_size=32, person=b"promo_ray codes").digest()
        prefix = self._plain_prefix.encode()  # so that pools of one key share no codes
        return tuple(
            hashlib.blake2b(bytes([i, self.length]) + prefix, digest_size=32, key=key).digest()
            for i in range(_ROUNDS)
        )

    def _mix(self, value: int, key: bytes) -> int:
        digest = hashlib.blake2b(value.to_bytes(8, "little"), digest_size=8, key=key).digest()
        return int.from_bytes(digest, "little") & ((1 << self._half_bits) - 1)

    def _shuffle(self, value: int, backwards: bool = False) -> int:
        """Balanced Feistel network; values outside the texts walk on until they are inside.

        Source: Black and Rogaway 2002, ciphers with arbitrary finite domains (cycle walking).
        """
        bits = self._half_bits
        mask = (1 << bits) - 1
        while True:
            left, right = value >> bits, value & mask
            if backwards:
                for key in reversed(self._round_keys):
                    left, right = right ^ self._mix(left, key), left
            else:
                for key in self._round_keys:
                    left, right = right, left ^ self._mix(right, key)
            value = left << bits | right
            if value < self._n_texts:
                return value

    def code(self, number: int) -> str:
        """Code of a number in `[0, count)`.

        Raises:
            DataError: the number is outside.
        """
        if not 0 <= number < self.count:
            raise DataError(f"must be in [0, {self.count}); got {number}", where="codes.number")
        value = self._shuffle(number)
        letters = []
        for _ in range(self.length - 1):
            value, letter = divmod(value, _BASE)
            letters.append(letter)
        letters.append(_check_of(letters))
        return self.prefix + "".join(ALPHABET[letter] for letter in letters)

    def codes(self, start: int, stop: int) -> Iterator[str]:
        """Codes of a range of numbers."""
        return (self.code(number) for number in range(start, stop))

    def part(self, worker: int, n_workers: int) -> range:
        """Numbers of one worker; those of all workers are disjoint and together all numbers.

        Raises:
            DataError: no such worker.
        """
        if not 0 <= worker < n_workers:
            raise DataError(f"must be in [0, {n_workers}); got {worker}", where="codes.worker")
        return range(self.count * worker // n_workers, self.count * (worker + 1) // n_workers)

    def number(self, code: str) -> int | None:
        """Number of an issued code; None if the text is none. Case and blanks do not count.

        Raises:
            DataError: no text.
        """
        if not isinstance(code, str):
            raise DataError(f"must be a text; got {code!r}", where="codes.code")
        text, prefix = code.strip().upper(), self._plain_prefix
        if not text.startswith(prefix):
            return None
        letters = [_VALUE.get(letter, -1) for letter in text[len(prefix) :]]
        if len(letters) != self.length or -1 in letters or _check_of(letters[:-1]) != letters[-1]:
            return None
        value = 0
        for letter in reversed(letters[:-1]):
            value = value * _BASE + letter
        number = self._shuffle(value, backwards=True)
        return number if number < self.count else None


def _check_of(letters: list[int]) -> int:
    """Letter that makes `sum((i + 2) * letter_i) - check` zero modulo 29.

    The weights 2, 3, ... and the 28 (= -1) of the check are different and not 0 modulo the prime,
    so that one wrong letter, or any two letters swapped, changes the sum.
    """
    return sum((i + 2) * letter for i, letter in enumerate(letters)) % _BASE
