"""A node that dies takes its islands' states with it; the run ends as if it had not."""

import threading

import pytest
import ray
import test_islands
from ray.cluster_utils import Cluster
from test_islands import INTERVAL, Slow, same, search

from promo_ray.distributed import RayExecutor

_FAST_DEATH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


@pytest.mark.cluster
def test_a_lost_node_costs_its_intervals_and_nothing_else() -> None:
    ray.cloudpickle.register_pickle_by_value(test_islands)  # nodes do not know this folder
    node = {"object_store_memory": 80 * 2**20}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": _FAST_DEATH, **node}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        victim = cluster.add_node(num_cpus=1, **node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        with RayExecutor(2, num_cpus_per_worker=1) as executor:
            search(Slow(), 1, executor=executor)  # one actor on each node
            killer = threading.Timer(1.0, lambda: cluster.remove_node(victim, allow_graceful=False))
            killer.start()
            result = search(Slow(None, 0.01), 40, executor=executor)
            killer.join()
        assert result.n_evals == 160 * INTERVAL
        assert same(result, search(Slow(), 40))
    finally:
        ray.shutdown()
        cluster.shutdown()
