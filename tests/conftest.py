from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

# One thread: tiny tensors gain nothing from more, and busy cores make more threads much slower.
# Subprocesses inherit it; it must be set before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install a distribution with one plugin module: ``distribution(name, code)``."""

    def install(name: str, code: str, *, version: str = "1.0", entry: str = "plugin") -> Path:
        module = f"plugin_{uuid4().hex}"  # a new name, because imported modules are remembered
        root = tmp_path / module
        info = root / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (root / f"{module}.py").write_text(textwrap.dedent(code))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[mdmkit]\n{entry} = {module}\n")
        monkeypatch.syspath_prepend(root)
        return root

    return install


@pytest.fixture
def triangle() -> str:
    """The code of a plugin that provides a time sampler called "triangle"."""
    return """
        from attrs import frozen
        from mdmkit import hookimpl, option

        @frozen(kw_only=True)
        class Triangle:
            slope: float = option(2.0, gt=0)

            def at(self, step):
                return self

            def icdf(self, u):
                return u.sqrt()

            def density(self, t):
                return 2 * t

        @hookimpl
        def mdmkit_time_samplers():
            return {"triangle": Triangle}
    """


TINY = """
[run]
name = "tiny"

[data]
length = 16

[data.corpus]
use = "text"
train = "{folder}/train.txt"
validation = "{folder}/held_out.txt"
test = "{folder}/held_out.txt"

[data.tokenizer]
use = "bpe"
vocab_size = 280

[denoiser]
use = "dit"
width = 16
depth = 2
heads = 2

[time_sampler]
use = "bell"

[loss_weighting]
use = "flat"

[train]
steps = 12
global_batch_size = 8
precision = "fp32"
log_every = 1
validate_every = 4
checkpoint_every = 4
ema_decay = 0.9

[learning_rate]
peak = 1e-3
warmup_steps = 2

[sampler]
use = "ancestral"
steps = 4

[evaluators.held_out]
use = "nelbo"
split = "test"
"""


def _counting(numbers: range) -> str:
    """Text with something to learn: numbers in words, in order."""
    ones = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    return " ".join("-".join(ones[int(digit)] for digit in str(n)) for n in numbers)


def write_tiny_recipe(folder: Path) -> Path:
    """A recipe file and its text, in a new folder."""
    folder.mkdir()
    (folder / "train.txt").write_text(_counting(range(1000)))
    (folder / "held_out.txt").write_text(_counting(range(2000, 2200)))
    path = folder / "tiny.toml"
    path.write_text(TINY.format(folder=folder))
    return path


@pytest.fixture
def tiny_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe file that trains in a second, with caches of its own."""
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MDMKIT_RUNS_DIR", str(tmp_path / "runs"))
    return write_tiny_recipe(tmp_path / "tiny")
