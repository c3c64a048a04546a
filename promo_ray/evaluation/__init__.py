"""What a policy earned: estimators with intervals, curves, checks, the report."""
