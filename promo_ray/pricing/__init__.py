"""Own-price elasticities with partial pooling and list prices within guardrails."""
