"""What to show: popularity by window and item neighbours from co-purchases."""
