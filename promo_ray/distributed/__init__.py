"""The same loops on Ray: session, executor on actors, tuning. The only package that imports ray.

Ray reads `RAY_AUTH_MODE` and its token at the first import of ray: set them before importing this
package. Later changes are ignored.
"""

from promo_ray.distributed.executor import RayExecutor, RayResident
from promo_ray.distributed.session import Session, session

__all__ = ["RayExecutor", "RayResident", "Session", "session"]
