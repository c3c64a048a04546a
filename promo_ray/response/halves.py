"""Half-sampling: standard errors from fits on halves of the users (Politis and Romano 1994)."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from promo_ray.errors import ConfigError
from promo_ray.seeding import keys_of, uniforms

Floats = NDArray[np.float64]


def half_of(user: NDArray[np.int64], seed: int, name: str) -> NDArray[np.bool_]:
    """`(n,)` bool: rows of the half of the users that the stream `name` draws.

    Args:
        user: `(n,)` int64 user of each row.
        seed: seed of the draw.
        name: stream, one per half.
    """
    keys = keys_of(str(u) for u in range(int(user.max()) + 1))
    return np.asarray(uniforms(seed, name, keys)[user, 0] < 0.5)


def half_width(value: Floats, of_halves: Iterable[Floats], level: float) -> Floats:
    """Half-width of a t interval, in the shape of `value`.

    Args:
        value: what the fit on all users says.
        of_halves: the same from each half; the center is known, so k halves give k degrees of
            freedom.
        level: coverage, in (0, 1).

    Raises:
        ConfigError: a level outside (0, 1).
    """
    if not (isinstance(level, Real) and 0 < level < 1):
        raise ConfigError(f"level must lie in (0, 1); got {level!r}")
    square, n = np.zeros_like(value), 0
    for own in of_halves:
        square += (own - value) ** 2
        n += 1
    return np.asarray(float(student_t.ppf(0.5 + level / 2, n)) * np.sqrt(square / n))
