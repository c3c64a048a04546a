"""Mechanic `message`: a contact that changes no price."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from promo_ray.offers.mechanics.base import Mechanic
from promo_ray.registry import register


@register("message")
@dataclass(frozen=True, kw_only=True)
class Message(Mechanic):
    """A reminder, a catalog, a letter: it may move people, it takes nothing off."""

    method = "message"
    layers = ("item",)
    terms_name = "message"

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
