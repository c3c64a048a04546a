"""Offers in the JSON of shop platforms and back, one file per platform, found by the registry.

Whatever of an offer a platform cannot say is listed as a loss, never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

from promo_ray.errors import ConfigError
from promo_ray.offers.export.base import Exported, Imported, Loss, Source, Target
from promo_ray.offers.offer import Offer
from promo_ray.registry import methods

FAMILY = "offers.export"

__all__ = ["Exported", "Imported", "Loss", "export_offer", "import_offer"]


@overload
def export_offer(offer: Offer, target: str) -> Exported: ...


@overload
def export_offer(offer: Sequence[Offer], target: str) -> tuple[Exported, ...]: ...


def export_offer(offer: Offer | Sequence[Offer], target: str) -> Exported | tuple[Exported, ...]:
    """An offer in the JSON of a platform, with all that gets lost on the way.

    Products, categories, segments and the like are written as the offer names them, so it must
    name them as the platform does.

    Args:
        offer: any offer, or several, each of which is exported on its own.
        target: name of the platform: `commercetools`, `magento`, `medusa`, `saleor`, `shopify`,
            `vendure` or `voucherify`.

    Raises:
        ConfigError: unknown platform.
    """
    platform: Target = _platform(target, Target)
    if isinstance(offer, Offer):
        return platform.export(offer)
    return tuple(platform.export(one) for one in offer)


def import_offer(payload: Mapping[str, Any], source: str) -> Imported:
    """The offer that the JSON of a platform describes, with all of it that no offer can say.

    Args:
        payload: JSON object as `export_offer` gives it for the platform.
        source: name of the platform: `commercetools` or `medusa`.

    Raises:
        ConfigError: unknown platform, or one that can be written only.
        DataError: no offer can be made of the payload; names the field.
    """
    imported: Imported = _platform(source, Source).read(payload)
    return imported


def _platform(name: str, kind: type) -> Any:
    known = {n: cls for n, cls in methods(FAMILY).items() if issubclass(cls, kind)}
    if name not in known:
        raise ConfigError(f"platform must be one of {', '.join(known)}; got {name!r}")
    return known[name]()
