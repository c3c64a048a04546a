"""How outcomes and costs respond to offers: uplift learners and the response surface."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promo_ray.response.blocks import TrialBlock, fit_over_blocks
    from promo_ray.response.response_models import response_scores
    from promo_ray.response.surface import ResponseSurface
    from promo_ray.response.surface_ensemble import SurfaceEnsemble
    from promo_ray.response.surface_torch import TorchSurface
    from promo_ray.response.uplift_model import UpliftModel

__all__ = [
    "ResponseSurface",
    "SurfaceEnsemble",
    "TorchSurface",
    "TrialBlock",
    "UpliftModel",
    "fit_over_blocks",
    "response_scores",
]

_HOMES = {
    "ResponseSurface": "surface",
    "SurfaceEnsemble": "surface_ensemble",
    "TorchSurface": "surface_torch",
    "TrialBlock": "blocks",
    "UpliftModel": "uplift_model",
    "fit_over_blocks": "blocks",
    "response_scores": "response_models",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
