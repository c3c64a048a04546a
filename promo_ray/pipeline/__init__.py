"""One `run(config, context)` per stage and `campaign.run`; composes methods, computes nothing."""
