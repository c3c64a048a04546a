"""promo_ray: learn, design, price, allocate, prove and serve promotions, on one laptop or on Ray.

Importing the package loads nothing heavy; import the stage that you need, for example
`from promo_ray.allocation import solve`.
"""

__version__ = "0.1.0"
