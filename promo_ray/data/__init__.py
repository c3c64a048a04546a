"""Reading, checking, cleaning and simulating shop data: canonical tables, adapters, virtual blocks."""
