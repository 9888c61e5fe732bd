from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import mdmkit

PACKAGE = Path(mdmkit.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_in_docstrings_are_true(module: str):
    result = doctest.testmod(import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
