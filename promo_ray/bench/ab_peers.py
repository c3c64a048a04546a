"""Published constants and statsmodels beside the A/B statistics, on the same figures."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np

from promo_ray.evaluation.ab import ab_test
from promo_ray.evaluation.multiple import adjust_p_values
from promo_ray.evaluation.power import detection_power, minimum_detectable_effect
from promo_ray.evaluation.sequential import look_boundaries
from promo_ray.seeding import stream

# five even looks, two-sided 0.05: Reboussin, DeMets, Kim and Lan 2000
_PUBLISHED = {
    "obrien_fleming": [4.8769, 3.3569, 2.6803, 2.2898, 2.0310],
    "pocock": [2.4380, 2.4268, 2.4101, 2.3966, 2.3859],
}


def peer_records(quick: bool) -> Iterator[dict[str, Any]]:
    """Largest distance to the published boundaries and to statsmodels, if that is installed."""
    for name, want in _PUBLISHED.items():
        found = look_boundaries([0.2, 0.4, 0.6, 0.8, 1.0], 0.95, name)
        gap = float(np.abs(found - np.array(want)).max())
        yield {"case": "boundaries", "spending": name, "largest_gap": gap}
    if importlib.util.find_spec("statsmodels") is None:
        yield {"case": "statsmodels", "skipped": "statsmodels is not installed"}
        return
    for case, gap in _gaps():
        yield {"case": f"statsmodels_{case}", "largest_gap": gap}


def _gaps() -> Iterator[tuple[str, float]]:
    weights = importlib.import_module("statsmodels.stats.weightstats")
    power = importlib.import_module("statsmodels.stats.power")
    share = importlib.import_module("statsmodels.stats.proportion")
    many = importlib.import_module("statsmodels.stats.multitest")
    rng = stream(0, "bench.ab.peers")
    y, arm = rng.exponential(size=4000), np.arange(4000) % 2
    both = weights.CompareMeans.from_data(y[arm == 1], y[arm == 0])
    low, high = both.tconfint_diff(usevar="unequal")
    own = ab_test(y, arm, kind="mean")[1]
    yield "welch_interval", max(abs(own.effect_low - low), abs(own.effect_high - high))
    buys = (rng.random(4000) < 0.1).astype(np.float64)
    counts = [int(buys[arm == a].sum()) for a in (1, 0)]
    peer = share.test_proportions_2indep(counts[0], 2000, counts[1], 2000, method="score")
    yield "score_p_value", abs(ab_test(buys, arm)[1].p_value - float(peer.pvalue))
    planned = power.TTestIndPower().solve_power(nobs1=500, alpha=0.05, power=0.8, ratio=2)
    yield "detectable_effect", abs(minimum_detectable_effect(500, 1000, sd=1.0) - float(planned))
    peer = share.power_proportions_2indep(0.02, 0.1, 2000)
    yield "power_of_proportions", abs(detection_power(0.02, 2000, rate=0.1) - float(peer.power))
    p = rng.random(50) ** 3
    for name, other in (("holm", "holm"), ("benjamini_hochberg", "fdr_bh")):
        gap = np.abs(adjust_p_values(p, name) - many.multipletests(p, method=other)[1]).max()
        yield name, float(gap)
