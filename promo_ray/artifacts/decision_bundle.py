"""Kind `decision_bundle`: all that serving needs, memory-mapped."""

from __future__ import annotations

from promo_ray.artifacts.kind import Kind

# documents: `policy` (prices, budgets, guardrails, fallback, versions), `offers` (executable
# offers in menu order), `items` (item ids that recommendations index); tensors `users`
DECISION_BUNDLE = Kind(name="decision_bundle", documents=("policy", "offers", "items"))
