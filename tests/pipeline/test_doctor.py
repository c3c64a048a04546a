from __future__ import annotations

import pytest
from typer.testing import CliRunner

from promo_ray.cli.main import app
from promo_ray.optimizers import native


@pytest.mark.parametrize(("kernel", "words"), [(object(), "compiled"), (None, "missing")])
def test_doctor_says_whether_the_compiled_kernels_are_there(
    kernel: object, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "kernel", kernel)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    lines = [line for line in result.output.splitlines() if line.startswith("CPU kernels")]
    assert len(lines) == 1
    assert words in lines[0]
