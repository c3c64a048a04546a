"""Every error that promo_ray raises on purpose, with the fields that name the fault.

Each text says what must hold, what was got and where. Errors keep their fields across pickling,
so that an error raised in a worker arrives in the driver as itself.
"""

from __future__ import annotations

from typing import Any


class PromoRayError(Exception):
    """Base of all errors of promo_ray; `exit_code` is what a job ends with."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild without calling the constructor, whose arguments may not be `args`."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    cls: type[PromoRayError], args: tuple[Any, ...], fields: dict[str, Any]
) -> PromoRayError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class ConfigError(PromoRayError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2


class DataError(PromoRayError, ValueError):
    """Input data break a rule; `where` names the file, column, row or argument."""

    exit_code = 2

    def __init__(self, message: str, *, where: str = "") -> None:
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)


class ArtifactError(PromoRayError):
    """An artefact is missing, damaged, of another kind or too new."""

    exit_code = 2


class OutputError(PromoRayError, OSError):
    """The place for results cannot be written."""

    exit_code = 2


class InfeasibleError(PromoRayError):
    """No answer can meet the named rows together.

    Attributes:
        rows: names of the rows that exclude each other.
        max_floor_scale: largest factor on all floors that would fit, in [0, 1).
    """

    exit_code = 3

    def __init__(self, rows: tuple[str, ...], max_floor_scale: float) -> None:
        self.rows = rows
        self.max_floor_scale = max_floor_scale
        super().__init__(
            f"rows {', '.join(rows)} must be met together and cannot; "
            f"floors scaled by {max_floor_scale:.4g} would fit"
        )


class NoOfferAllowedError(PromoRayError):
    """Rules of a menu leave no offer of the grid."""

    exit_code = 3


class LedgerError(PromoRayError):
    """The decision ledger refuses a change that would break an invariant."""


class StopRequestedError(PromoRayError):
    """A progress sink asked to stop; what was committed so far stays."""

    exit_code = 1


class ConvergenceWarning(UserWarning):
    """An iterative method stopped at its limit before its tolerance."""
