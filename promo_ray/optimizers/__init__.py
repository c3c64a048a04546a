"""Batched population optimizers as pure init / ask / tell, and islands of them."""
