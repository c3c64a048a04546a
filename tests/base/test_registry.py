import pytest

from promo_ray.errors import ConfigError
from promo_ray.registry import build, methods, register


def test_scanning_finds_methods_and_build_sets_their_fields() -> None:
    assert {"kmeans", "pca"} <= set(methods("profiles"))
    assert build("profiles", {"method": "kmeans", "n_clusters": 4}).n_clusters == 4


@pytest.mark.parametrize("spec", [{}, {"method": "magic"}, {"method": "kmeans", "n_cluster": 3}])
def test_unknown_methods_and_settings_are_refused(spec: dict) -> None:
    with pytest.raises(ConfigError):
        build("profiles", spec)


def test_a_name_is_taken_once() -> None:
    known = methods("profiles")["kmeans"]
    other = type("Other", (), {"__module__": known.__module__})
    with pytest.raises(ConfigError, match="unique"):
        register("kmeans")(other)
