from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.errors import DataError
from promo_ray.offers.codes import ALPHABET, MAX_GUESS, CodePool

POOL = CodePool(key="spring 2026", count=50_000, length=9, prefix="SPRING-")
TINY = CodePool(key="k", count=1, length=6)


def test_all_codes_differ_and_lead_back_to_their_number() -> None:
    codes = list(POOL.codes(0, 2_000))
    assert len(set(codes)) == 2_000
    assert [POOL.number(code) for code in codes] == list(range(2_000))


def test_the_shuffle_is_a_permutation_of_all_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promo_ray.offers.codes.MAX_GUESS", 1.0)
    pool = CodePool(key="k", count=1, length=4)
    n = len(ALPHABET) ** 3
    shuffled = [pool._shuffle(i) for i in range(n)]
    assert sorted(shuffled) == list(range(n))
    assert [pool._shuffle(i, backwards=True) for i in shuffled[:1000]] == list(range(1000))


def test_neighbors_look_unlike_and_the_key_matters() -> None:
    alike = sum(a == b for a, b in zip(POOL.code(7)[7:], POOL.code(8)[7:], strict=True))
    assert alike <= 4
    other = CodePool(key="autumn", count=50_000, length=9, prefix="SPRING-")
    assert other.code(7) != POOL.code(7)
    assert sum(other.number(code) is not None for code in POOL.codes(0, 2_000)) == 0


def test_pools_of_one_key_share_no_codes() -> None:
    spring, summer = (CodePool(key="k", count=100, prefix=p) for p in ("SPRING-", "SUMMER-"))
    assert not {c[7:] for c in spring.codes(0, 100)} & {c[7:] for c in summer.codes(0, 100)}
    moved = "SUMMER-" + spring.code(3)[7:]
    assert summer.number(moved) is None


@pytest.mark.parametrize("prefix", ["", " X", "X ", "ß", "spring-", "  "])
def test_codes_of_any_prefix_are_known_again(prefix: str) -> None:
    pool = CodePool(key="k", count=100, prefix=prefix)
    assert [pool.number(code) for code in pool.codes(0, 5)] == list(range(5))


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(DataError, match=r"codes\.code: must be a text; got None"):
        POOL.number(None)  # type: ignore[arg-type]


def test_no_letter_looks_like_another() -> None:
    assert not set(ALPHABET) & set("0O1ILU")
    assert len(set(ALPHABET)) == len(ALPHABET) == 29


@settings(max_examples=10, deadline=None)
@given(st.integers(0, POOL.count - 1))
def test_every_wrong_letter_and_every_swap_of_neighbors_is_caught(number: int) -> None:
    prefix, code = POOL.prefix, POOL.code(number)[len(POOL.prefix) :]
    for i, right in enumerate(code):
        for letter in ALPHABET:
            if letter != right:
                assert POOL.number(prefix + code[:i] + letter + code[i + 1 :]) is None
    for i in range(len(code) - 1):
        if code[i] != code[i + 1]:
            swapped = code[:i] + code[i + 1] + code[i] + code[i + 2 :]
            assert POOL.number(prefix + swapped) is None


@pytest.mark.parametrize("text", ["", "SPRING-", "XX", "SPRING-00000000O", "AUTUMN-222222222"])
def test_other_texts_are_no_codes(text: str) -> None:
    assert POOL.number(text) is None


def test_case_and_blanks_do_not_count() -> None:
    assert POOL.number(f"  {POOL.code(3).lower()} ") == 3


@pytest.mark.parametrize("n_workers", [1, 3, 7])
def test_workers_share_out_the_numbers(n_workers: int) -> None:
    parts = [POOL.part(worker, n_workers) for worker in range(n_workers)]
    assert [i for part in parts for i in part] == list(range(POOL.count))


def test_codes_that_can_be_guessed_are_refused() -> None:
    assert POOL.guess_rate == POOL.count / 29 ** (POOL.length - 1) <= MAX_GUESS  # check letter
    with pytest.raises(DataError, match=r"codes\.length: chance .* use longer codes"):
        CodePool(key="k", count=10_000_000, length=6)


def test_guesses_hit_as_rarely_as_promised() -> None:
    # one of 29^5 texts with a right check letter is issued
    hits = sum(
        TINY.number(a + b + c + d + e + f) is not None
        for a in ALPHABET[:5]
        for b in ALPHABET
        for c in ALPHABET[:5]
        for d in ALPHABET[:3]
        for e in ALPHABET[:3]
        for f in ALPHABET[:3]
    )
    assert hits <= 1


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"count": 0}, r"codes\.count"),
        ({"key": ""}, r"codes\.key"),
        ({"length": 3}, r"codes\.length"),
    ],
)
def test_bad_pools_name_the_field(fields: dict[str, object], match: str) -> None:
    with pytest.raises(DataError, match=match):
        CodePool(**{"key": "k", "count": 10, **fields})  # type: ignore[arg-type]


def test_numbers_outside_the_pool_are_refused() -> None:
    with pytest.raises(DataError, match=r"codes\.number"):
        POOL.code(POOL.count)
