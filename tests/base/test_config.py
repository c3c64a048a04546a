from pathlib import Path

import pytest

from promo_ray.config import config_class, load, parse, resolve
from promo_ray.errors import ConfigError


@config_class
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ()


@config_class
class Outer:
    n_users: int = 10
    inner: Inner = Inner()
    maybe: Inner | None = None


def test_yaml_and_overrides_make_a_typed_config(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("n_users: 3\ninner: {rate: 0.25}\n")
    config = load(Outer, file, ["inner.names=[a, b]", "maybe.rate=1"])
    assert config == Outer(
        n_users=3, inner=Inner(rate=0.25, names=("a", "b")), maybe=Inner(rate=1.0)
    )
    assert resolve(config)["inner"] == {"rate": 0.25, "names": ["a", "b"]}
    assert parse(Outer, resolve(config)) == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_user": 3}, ["n_user", "known", "n_users"]),
        ({"inner": {"rat": 1}}, ["inner.rat", "known", "rate"]),
        ({"maybe": {"rat": 1}}, ["maybe.rat", "rate"]),
        ({"n_users": "many"}, ["n_users", "integer", "many"]),
        ({"inner": {"rate": float("nan")}}, ["inner.rate", "finite"]),
    ],
)
def test_faults_name_the_key_and_what_was_got(settings: dict, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Outer, settings)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("override", ["novalue", "=3", "n_users.x=3"])
def test_broken_overrides_are_refused(override: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("n_users: 3\n")
    with pytest.raises(ConfigError):
        load(Outer, file, [override])


def test_missing_broken_and_wrong_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    for name in ("none.yaml", "list.yaml", "broken.yaml"):
        with pytest.raises(ConfigError, match=name):
            load(Outer, tmp_path / name)
