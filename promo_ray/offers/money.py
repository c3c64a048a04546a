"""Exact money: int minor units, half-up rounding, spreading a sum over units to the cent."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from promo_ray.errors import DataError

# ISO 4217 minor digits that are not 2
_DIGITS = {
    code: digits
    for digits, codes in (
        (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
        (3, "BHD IQD JOD KWD LYD OMR TND"),
        (4, "CLF UYW"),
    )
    for code in codes.split()
}

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
    return _DIGITS.get(currency, 2)


def scaled(value: float, digits: int, where: str) -> int:
    """`value * 10**digits` rounded half up on its shortest decimal form (1.005 is 1.005).

    Raises:
        DataError: the value is not a finite number >= 0, or too large.
    """
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        exact = Decimal("nan")
    if not exact.is_finite() or exact < 0:
        raise DataError(f"must be a finite number >= 0; got {value!r}", where=where)
    if exact.scaleb(digits) > MAX_MONEY:
        most = unscaled(MAX_MONEY, digits)
        raise DataError(f"must be at most {most:g}; got {value!r}", where=where)
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
