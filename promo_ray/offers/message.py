"""Mechanic `message`: a contact that changes no price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from promo_ray.offers.mechanic import Reward, Units
from promo_ray.registry import register


@register("message")
@dataclass(frozen=True)
class Message:
    """A reminder, a catalog, a letter: it may move people, it takes nothing off."""

    method: ClassVar[str] = "message"
    layer: ClassVar[str] = "item"

    def reward(self, units: Sequence[Units], base: str) -> Reward | str:
        """See `Mechanic.reward`."""
        return "no_price_change"

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """See `Mechanic.describe`."""
        return "a message, no price change"

    @classmethod
    def from_terms(cls, row: Mapping[str, Any], minor: Callable[[float], int]) -> Message:
        """See `Mechanic.from_terms`."""
        return cls()

    def to_terms(self, major: Callable[[int], float]) -> dict[str, Any]:
        """See `Mechanic.to_terms`."""
        return {}
