"""One `run(config, context)` per stage and `campaign.run`; composes methods, computes nothing."""

# in the order of the line; `campaign.STAGES` has their functions
STAGE_NAMES = (
    "ingest",
    "profile",
    "response",
    "price",
    "design",
    "plans",
    "allocate",
    "recommend",
    "evaluate",
    "bundle",
)
