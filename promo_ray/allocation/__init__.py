"""Which offer to which user within exact budgets, by prices, with a certified bound."""
