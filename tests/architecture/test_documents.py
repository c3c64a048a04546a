"""Code in the README and in docstrings runs."""

import doctest
import importlib
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(code, id=f"{page.name}-{i}")
    for page in PAGES
    if page.exists()
    for i, code in enumerate(PYTHON.findall(page.read_text()))
]


@pytest.mark.parametrize("code", BLOCKS)
def test_python_blocks_of_the_pages_run(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "page", "exec"), {"__name__": "page"})


def test_examples_in_docstrings_hold() -> None:
    tried = 0
    for file in sorted((ROOT / "promo_ray").rglob("*.py")):
        if ">>> " not in file.read_text():
            continue
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        result = doctest.testmod(importlib.import_module(name))
        assert result.failed == 0, name
        tried += result.attempted
    assert tried > 0


def test_the_pages_speak_of_files_that_exist() -> None:
    link = re.compile(r"\]\((?!https?://|#)([^)#]+)")
    for page in PAGES:
        for target in link.findall(page.read_text()) if page.exists() else []:
            assert os.path.exists(page.parent / target), f"{page.name}: {target}"
