"""For whom, when and by what channel an offer of the menu may be: settings of stage design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
from pydantic import BeforeValidator, Field

from promo_ray.config import config_class, parse
from promo_ray.design.audience import Rule
from promo_ray.design.columns import Channel, Window
from promo_ray.design.constraints import Constraints
from promo_ray.design.genome import EVERYONE, MenuSpace
from promo_ray.design.grid import OfferGrid
from promo_ray.errors import ConfigError, DataError
from promo_ray.offers import Window as OfferWindow

_MOST_LEVELS = 32  # values of a column that are segments; more would be an id

Text = Annotated[str, Field(min_length=1)]


@config_class
class MenuWindow:
    """When an offer may hold.

    Attributes:
        name: a few plain words.
        share: part of the effect of the whole outcome window that falls into it, in (0, 1].
        start_at, end_at: first instant, and the first after; ISO 8601 with offset, None = open.
        weekdays: of mon, tue, wed, thu, fri, sat, sun; none = all.
        from_hour, to_hour: local hours, 0 to 23 and 1 to 24.
        timezone: IANA name of the zone of weekdays and hours.
    """

    name: Text
    share: Annotated[float, Field(gt=0, le=1)]
    start_at: datetime | None = None
    end_at: datetime | None = None
    weekdays: tuple[str, ...] = ()
    from_hour: int = 0
    to_hour: int = 24
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        try:
            self.window()
        except DataError as error:
            raise ConfigError(str(error)) from error

    def window(self) -> Window:
        """The window as the search knows it."""
        holds = OfferWindow(
            start_at=self.start_at, end_at=self.end_at, weekdays=self.weekdays,
            from_hour=self.from_hour, to_hour=self.to_hour, timezone=self.timezone,
        )  # fmt: skip
        return Window(self.name, self.share, holds)


@config_class
class MenuChannel:
    """How an offer may be sent.

    Attributes:
        name: a few plain words.
        contact_cost: currency units per user, beside the offer's own.
        reach: rules on profile columns whom it reaches; none = everyone.
    """

    name: Text
    contact_cost: Annotated[float, Field(ge=0)] = 0.0
    reach: tuple[Rule, ...] = ()


@config_class
class _Audience:
    rules: tuple[Rule, ...]


def named_segments(settings: Any) -> str | dict[str, tuple[Rule, ...]]:
    """A column of profiles, or the rules of each segment by name.

    Raises:
        ConfigError: neither, or a fault in a rule; segment and key are named.
    """
    if isinstance(settings, str) and settings:
        return settings
    if not isinstance(settings, Mapping) or not all(isinstance(s, str) and s for s in settings):
        raise ConfigError(f"must be a column of profiles, or rules by name; got {settings!r}")
    return {
        name: parse(_Audience, {"rules": rules}, where=f"segment {name!r}").rules
        for name, rules in settings.items()
    }


Segments = Annotated[str | Mapping[str, tuple[Rule, ...]], BeforeValidator(named_segments)]


class Axes(NamedTuple):
    """Segments, windows and channels of a space of menus; one of each where none are set.

    Attributes:
        segments: rules by name.
        windows: windows.
        channels: channels.
        reach: rules whom a channel reaches, in the order of the channels.
    """

    segments: Mapping[str, tuple[Rule, ...]]
    windows: tuple[Window, ...]
    channels: tuple[Channel, ...]
    reach: tuple[tuple[Rule, ...], ...]

    @property
    def is_plain(self) -> bool:
        """Offers are for everyone, at any time, by any channel."""
        return self == axes_of({}, (), ())

    def space(self, grid: OfferGrid, max_offers: int, constraints: Constraints) -> MenuSpace:
        """Menus of a grid's offers on these axes."""
        return MenuSpace(
            grid, max_offers, segments=tuple(self.segments), windows=self.windows,
            channels=self.channels, constraints=constraints,
        )  # fmt: skip


def axes_of(
    segments: Mapping[str, tuple[Rule, ...]],
    windows: Sequence[MenuWindow],
    channels: Sequence[MenuChannel],
) -> Axes:
    """Axes of settings.

    Raises:
        ConfigError: rules for a segment whose name means that there are none, or a name twice.
    """
    for field, names in (
        ("windows", [w.name for w in windows]),
        ("channels", [c.name for c in channels]),
    ):
        if len(set(names)) < len(names):
            raise ConfigError(f"design.{field} must have a name of its own each; got {names}")
    if segments.get(EVERYONE):
        raise ConfigError(f"design.segments.{EVERYONE} must have no rule; call it something else")
    return Axes(
        dict(segments) or {EVERYONE: ()},
        tuple(w.window() for w in windows) or (Window(),),
        tuple(Channel(c.name, c.contact_cost) for c in channels) or (Channel(),),
        tuple(c.reach for c in channels) or ((),),
    )


def level_rules(column: str, levels: Sequence[str]) -> dict[str, tuple[Rule, ...]]:
    """A segment per value of a column, named by it.

    Raises:
        DataError: the column has no value, or too many to be segments.
    """
    found = sorted(set(levels))
    if not 1 <= len(found) <= _MOST_LEVELS:
        raise DataError(
            f"column {column!r} must have 1 to {_MOST_LEVELS} values; got {len(found)}",
            where="design.segments",
        )
    return {level: (Rule(column=column, is_in=(level,)),) for level in found}


def levels_of(table: pa.Table, column: str) -> list[str]:
    """Values of a column of profiles as text, no more than are needed to see that they are many.

    Raises:
        DataError: there is no such column.
    """
    if column not in table.column_names or column.startswith("protected_"):
        raise DataError(f"profiles must have the column {column!r}", where="design.segments")
    values: list[str] = table[column].unique().drop_null().cast(pa.string()).to_pylist()
    return sorted(values)[: _MOST_LEVELS + 1]
