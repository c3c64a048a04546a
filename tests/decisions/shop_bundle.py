"""A small decision bundle for tests, made from keyed random numbers."""

from pathlib import Path
from typing import Any

import numpy as np

from promo_ray.artifacts import ArtifactStore
from promo_ray.artifacts.decision_bundle import DECISION_BUNDLE
from promo_ray.decisions import BundleContent, DecisionBundle, Policy, write_bundle
from promo_ray.seeding import stream

OFFERS = [
    {"id": "ten_off", "currency": "USD", "mechanic": {"type": "percent_off", "depth_bp": 1000}},
    {"id": "two_off", "currency": "USD", "mechanic": {"type": "amount_off", "amount": 200}},
    {"id": "hello", "currency": "USD", "mechanic": {"type": "message"}},
]


def user_ids(n: int) -> list[str]:
    return [f"u{i:07d}" for i in range(n)]


def make_policy(**fields: Any) -> Policy:
    defaults: dict[str, Any] = {
        "campaign": "spring",
        "policy_version": "p1",
        "model_version": "m1",
        "budget_names": ("main",),
        "budgets": (1000.0,),
        "prices": (0.5,),
        "seed": 7,
    }
    return Policy(**(defaults | fields))


def make_content(n: int = 60, **policy: Any) -> BundleContent:
    """n users and 3 offers; two of three users have a planned offer, which is user i's i % 3."""
    rng = stream(3, "bundle")
    m = len(OFFERS)
    users = np.arange(n)
    return BundleContent(
        user_ids=user_ids(n),
        value=rng.uniform(1.0, 3.0, (n, m)).astype(np.float32),
        cost=rng.uniform(0.1, 1.5, (1, n, m)).astype(np.float32),
        choice=np.where(users % 3 == 2, -1, users % 3).astype(np.int32),
        segment_idx=np.zeros(n, dtype=np.int32),
        top_items=np.stack([users % 4, np.full(n, -1)], axis=1).astype(np.int32),
        items=("bread", "milk", "rice", "tea"),
        popular_items=(3, 2),
        offers=OFFERS,
        policy=make_policy(**policy),
    )


def write(root: Path, content: BundleContent, version: str = "v1") -> str:
    """Commit the bundle as `root/version/decision_bundle`; returns its directory."""
    store = ArtifactStore(str(root / version))
    with store.write(DECISION_BUNDLE, config={}, seed=0, inputs={}) as writer:
        write_bundle(writer, content)
    return str(root / version / DECISION_BUNDLE.name)


def open_bundle(root: Path, content: BundleContent | None = None, **policy: Any) -> DecisionBundle:
    return DecisionBundle.open(write(root, content or make_content(**policy)))


class Clock:
    """Seconds since 1970 that a test moves."""

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s
