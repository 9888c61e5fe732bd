"""Runs whose every text would break a page, or run a script, if it were taken for markup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mdmkit.evaluation.analysis_files import Analysis
from mdmkit.evaluation.driver import Result
from mdmkit.files import write_json
from mdmkit.values import HeatMap, Line, Measurement, Picture

from ..comparison.synthetic import curve, make_tokenizer, write_run

SCRIPT = "</script><script>window.pwned = 1</script>"
IMAGE = "<img src=x onerror=window.pwned=2>"
COMMENT = '<!--<script>"\u2028\u2029]]>&amp;${window.pwned=3}`'
LINK = '<a href="javascript:window.pwned=4"><b>%{x}</b></a>'
BAD = SCRIPT + IMAGE + COMMENT + LINK
LENGTH = 12


def write_hostile(folder: Path) -> list[Path]:
    """Two comparable runs with everything that a report shows."""
    make_tokenizer(folder)
    runs = []
    for seed in (1, 2):
        lines = [
            {"step": step, "tokens": step * 64, "seconds": step * 0.5,
             "val/nelbo_per_token": curve(step) + 0.01 * seed, "val/nelbo_per_token_stderr": 0.02,
             "train/loss": curve(step), f"train/{IMAGE}": 1.0 + step,
             "train/tokens_per_second": 900.0 + step}
            for step in range(0, 601, 50)
        ]  # fmt: skip
        use = "uniform" if seed == 1 else "bell"
        run = write_run(folder / "runs", f"run{seed}", tokenizer=folder, lines=lines,
                        overrides=[f"time_sampler.use={use}"])  # fmt: skip
        _rename(run, f"{seed}{BAD}")
        (run / "recipe.toml").write_text(f'name = "{BAD}"\n')
        write_json(run / "bench.json", {"utilisation": {"model": 0.25}, "notes": [BAD],
                                        "memory": [{"peak": 5_000_000}]})  # fmt: skip
        checkpoint = run / "checkpoints" / "step-00000600"
        checkpoint.mkdir(parents=True)
        write_json(checkpoint / "manifest.json", {"step": 600, "environment": {"device": BAD},
                                                  "files": {BAD: {"sha256": BAD}}})  # fmt: skip
        _write_results(run, seed)
        _write_samples(run)
        runs.append(run)
    return runs


def _rename(run: Path, name: str) -> None:
    recipe = json.loads((run / "resolved.json").read_text())
    recipe["run"]["name"] = name
    write_json(run / "resolved.json", recipe)


def _write_results(run: Path, seed: int) -> None:
    number = {BAD: Measurement(value=1.5, stderr=0.1, unit=BAD)}
    result = Result(label="test", measurements=number, provenance={"split": BAD, "seed": 0})
    folder = run / "eval"
    folder.mkdir()
    write_json(folder / "test.json", result.to_json())
    sets = {IMAGE: {**result.to_json(), "settings_sha256": "a", "data_sha256": "b"}}
    settings = {"seed": 0, "ema": True, "checkpoint": 600, "dtype": "fp32", "sampler": {},
                "batch_size": None}  # fmt: skip
    write_json(folder / "suite.json", {
        "kind": "mdmkit suite", "format": 1, "suite": {"name": BAD}, "run": {},
        "settings": settings, "sets": sets, "missing": {"absent": BAD},
    })  # fmt: skip
    known = Line(name=f"known {BAD}", x=(1.0, 2.0), y=(5.0, 5.0), known=True)
    steps = {}
    for step in (300, 600):
        own = Line(name=f"own {BAD}", x=(1.0, 2.0), y=(3.0 + seed, step / 100), stderr=(0.1, 0.2))
        lines = Picture(title=BAD, x_label=BAD, y_label=BAD, lines=(own, known), note=BAD)
        heat = HeatMap(title=BAD, x_label=BAD, y_label=BAD, value_label=BAD, columns=(BAD, "2"),
                       rows=(BAD, "b"), values=((1.0, None), (2.0, 3.0)))  # fmt: skip
        steps[step] = Result(label="locality", measurements=number, provenance={"seed": 0},
                             pictures={"curve": lines, "pairs": heat})  # fmt: skip
    analysis = Analysis(label="locality", steps=steps, over_training={"levels": lines})
    (run / "analysis").mkdir()
    write_json(run / "analysis" / "locality.json", analysis.to_json())


def _write_samples(run: Path) -> None:
    """One token a state; the first is masked once more on the way."""
    pieces = [BAD, " word", "\n"] * (LENGTH // 3)
    states = [[[place, piece]] for place, piece in enumerate(pieces)]
    states[1].append([0, None])
    states[2].append([0, BAD])
    sample = {"text": "".join(pieces), "length": LENGTH, "states": states,
              "network_evaluations": list(range(1, LENGTH + 1))}  # fmt: skip
    (run / "samples").mkdir()
    write_json(run / "samples" / "step-00000600.json", {
        "step": 600, "ema": True, "seed": 3, "vocab_size": 258,
        "sampler": {"use": BAD}, "samples": [sample],
    })  # fmt: skip


def texts(value: object) -> Iterator[str]:
    """Every text in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from texts(entry)
