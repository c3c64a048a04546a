"""Exact money: int minor units, half-up rounding, spreading a sum over units to the cent."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from promo_ray.errors import DataError

# ISO 4217 minor digits that are not 2
_ZERO_DIGITS = frozenset("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split())
_THREE_DIGITS = frozenset("BHD IQD JOD KWD LYD OMR TND".split())

MAX_MONEY = 10**15  # minor units; sums of many carts stay far inside int64
FULL_BP = 10_000  # basis points in 100 %


def minor_digits(currency: str) -> int:
    """Decimal digits of the minor unit of an ISO 4217 currency.

    Raises:
        DataError: the code is not three capital letters.
    """
    if len(currency) != 3 or not currency.isascii() or not currency.isupper():
        raise DataError(
            f"currency must be an ISO code of three capitals; got {currency!r}", where="currency"
        )
    return 0 if currency in _ZERO_DIGITS else 3 if currency in _THREE_DIGITS else 2


def half_up(numerator: int, denominator: int) -> int:
    """Quotient of integers >= 0 rounded half up."""
    return (2 * numerator + denominator) // (2 * denominator)


def scaled(value: float, digits: int, where: str) -> int:
    """`value * 10**digits` rounded half up on its shortest decimal form (1.005 is 1.005).

    Raises:
        DataError: the value is not a finite number >= 0, or too large.
    """
    exact = Decimal(str(value))
    if not exact.is_finite() or exact < 0 or exact > MAX_MONEY:
        raise DataError(f"must be a finite number >= 0; got {value!r}", where=where)
    return int(exact.scaleb(digits).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def unscaled(value: int, digits: int) -> float:
    """`value / 10**digits` as the nearest float."""
    return float(Decimal(value).scaleb(-digits))


def text_of(amount: int, currency: str) -> str:
    """Money in plain words, for example `12.50 USD`."""
    digits = minor_digits(currency)
    if digits == 0:
        return f"{amount} {currency}"
    whole, part = divmod(amount, 10**digits)
    return f"{whole}.{part:0{digits}d} {currency}"


def check_int(value: object, low: int, high: int, where: str) -> None:
    """Refuse what is not an int in `[low, high]`.

    Raises:
        DataError: names `where`.
    """
    if type(value) is not int or not low <= value <= high:
        raise DataError(f"must be an integer in [{low}, {high}]; got {value!r}", where=where)


def allocate(
    off: Sequence[int], den: int, quantities: Sequence[int], limit: int | None
) -> tuple[int, list[tuple[int, int]]]:
    """Whole minor units off each unit, by largest remainder (Hamilton's method).

    The sum is rounded once, so that what is left to pay is rounded half up. No unit gets more
    than its exact share rounded up.

    Args:
        off: exact share of one unit of each run of equal units, times `den`; >= 0.
        den: denominator, >= 1.
        quantities: units in each run.
        limit: largest sum; shares above it are scaled down. None = none.

    Returns:
        The sum, and for each run `(share, n_more)`: every unit gets `share`, and the first
        `n_more` of them one more. Remainders that tie go to the earlier run.
    """
    exact = sum(map(operator.mul, off, quantities))
    total = (2 * exact + den - 1) // (2 * den)
    if limit is not None and total > limit:
        off, den, total = [limit * o for o in off], exact, limit
    shares, rests = zip(*[divmod(o, den) for o in off], strict=True)
    left = total - sum(map(operator.mul, shares, quantities))
    more = [0] * len(off)
    if left:
        for i in sorted(range(len(off)), key=rests.__getitem__, reverse=True):
            more[i] = min(left, quantities[i])
            left -= more[i]
            if not left:
                break
    return total, list(zip(shares, more, strict=True))
