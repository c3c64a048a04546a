"""Exact money: int minor units, half-up rounding, spreading a sum over units to the cent."""

from __future__ import annotations

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


def spread(total: int, prices: Sequence[int], quantities: Sequence[int]) -> list[tuple[int, int]]:
    """Spread a sum over units in proportion to their price, by largest remainder.

    Source: Hamilton's method of apportionment. A unit never gets more than its price.

    Args:
        total: minor units, 0 <= total <= sum of price * quantity.
        prices: price of one unit of each run of equal units, minor units >= 0.
        quantities: units in each run.

    Returns:
        For each run `(share, n_more)`: every unit gets `share`, and `n_more` of its units one
        cent more. Remainders that tie go to the earlier run.
    """
    whole = sum(p * q for p, q in zip(prices, quantities, strict=True))
    if whole == 0:
        return [(0, 0)] * len(prices)
    shares = [divmod(total * p, whole) for p in prices]
    left = total - sum(s * q for (s, _), q in zip(shares, quantities, strict=True))
    more = [0] * len(prices)
    for i in sorted(range(len(prices)), key=lambda i: -shares[i][1]):
        more[i] = min(left, quantities[i])
        left -= more[i]
    return [(s, m) for (s, _), m in zip(shares, more, strict=True)]
