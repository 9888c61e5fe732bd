from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mdmkit
from mdmkit import load_recipe, train
from mdmkit.errors import MissingPackageError
from mdmkit.metrics_log import MetricsLog, read_metrics
from mdmkit.protocols import RunInfo
from mdmkit.testing import check_all

plugin = pytest.importorskip(
    "mdmkit_wandb", reason="not installed: pip install -e plugins/mdmkit-wandb"
)
Wandb = plugin.Wandb

needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="the package wandb is missing")

RECIPE = """
[run]
name = "tracked"

[data]
length = 16
corpus = {{ use = "text", train = "{text}", validation = "{text}", test = "{text}" }}
tokenizer = {{ use = "bpe", vocab_size = 270 }}

[denoiser]
use = "dit"
width = 16
depth = 1
heads = 2

[train]
steps = 6
global_batch_size = 4
precision = "fp32"
log_every = 1
validate_every = 3
validate_blocks = 4
checkpoint_every = 3

[learning_rate]
warmup_steps = 1

[sampler]
use = "ancestral"
steps = 2

[trackers.wandb]
use = "wandb"
mode = "offline"
project = "words"
group = "seeds"
tags = ["small", "first"]
"""


@pytest.fixture(autouse=True)
def quiet_and_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """wandb says nothing, sends nothing, and leaves no process behind."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_X_DISABLE_STATS", "true")
    yield
    real = sys.modules.get("wandb")
    if real is not None:
        real.teardown()


class Fake:
    """A package wandb that keeps what it is given, and fails where it is told to."""

    Settings = SimpleNamespace

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.fails: set[str] = set()
        self.ended = 0
        self.held: set[str] = set()

    def init(self, **options: Any) -> Fake:
        if options["id"] in self.held:
            raise ValueError(f"run ID {options['id']} is in use")  # as wandb has it
        self.held.add(options["id"])
        self.fail(f"init {options['mode']}")
        self.begun.append(options)
        return self

    def define_metric(self, *_: Any, **__: Any) -> None:
        self.fail("define_metric")

    def log(self, row: dict[str, float], *, step: int) -> None:
        self.fail("log")
        assert not self.rows or step > self.rows[-1][0]  # else wandb drops it
        self.rows.append((step, row))

    def finish(self) -> None:
        self.fail("finish")
        self.teardown()
        self.ended += 1

    def teardown(self) -> None:
        self.held.clear()

    def fail(self, where: str) -> None:
        if where in self.fails:
            raise ConnectionError(where)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    module = Fake()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(plugin, "_installed", lambda: True)
    return module


def line(step: int, **figures: float) -> dict[str, float]:
    figures = figures or {"train/loss": 1.0 / step}
    return {"step": step, "tokens": 64 * step, "seconds": 0.5 * step, **figures}


def session(run: Path, resumed: int, *lines: dict[str, float], **options: Any) -> None:
    """A part of a run: its own metrics.jsonl, and wandb."""
    info = RunInfo(directory=run, name="fake", recipe={"run": {"name": "fake"}})
    trackers = [MetricsLog(run / "metrics.jsonl"), Wandb(**options).build(info)]
    for tracker in trackers:
        tracker.resume(resumed)
    for entry in lines:
        for tracker in trackers:
            tracker.log(entry)
    for tracker in trackers:
        tracker.close()
    sys.modules["wandb"].teardown()  # the process ends


@needs_wandb
def test_everything_keeps_its_contract() -> None:
    """What ``pytest --mdmkit-contract mdmkit-wandb`` tests, for a bare ``pytest``."""
    check_all(plugin)


@needs_wandb
def test_a_killed_run_is_one_run_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For real, offline: what wandb's own program finds in its files is what the run logged."""
    from mdmkit_wandb.offline import records, rows

    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path / "cache"))
    (text := tmp_path / "text.txt").write_text(" ".join(map(str, range(2000))))
    (path := tmp_path / "recipe.toml").write_text(RECIPE.format(text=text))
    run = train(load_recipe(path), runs_dir=tmp_path / "runs").directory
    first = read_metrics(run / "metrics.jsonl")
    shutil.rmtree(run / "checkpoints" / "step-00000006")
    train(load_recipe(path), runs_dir=tmp_path / "runs")  # steps 4 to 6 again

    logged, again = rows(run), read_metrics(run / "metrics.jsonl")
    figures = {(x["step"], n): v for x in logged for n, v in x.items()}
    assert len(figures) == sum(map(len, logged)) - len(logged) + len({x["step"] for x in logged})
    for entry in first:
        for name in entry.keys() - {"tokens", "seconds"}:
            assert figures[entry["step"], name] == entry[name], (entry["step"], name)
    assert [x["step"] for x in logged] == sorted(x["step"] for x in logged)
    exact = ("train/loss", "val/nelbo_per_token")
    for entry in again:
        for name in entry.keys() & set(exact):
            assert figures[entry["step"], name] == entry[name]

    begun = [r["run"] for r in records(run) if r["type"] == "run" and "project" in r["run"]]
    assert len(begun) == 2
    assert begun[0]["run_id"] == begun[1]["run_id"]
    assert begun[0]["project"] == "words"
    assert begun[0]["run_group"] == "seeds"
    assert begun[0]["tags"] == ["small", "first"]
    assert begun[0]["display_name"] == "tracked"
    assert begun[0]["config"]["update"]["denoiser"]["width"] == 16
    assert begun[0]["config"]["update"]["train"]["clip_norm"] == 1.0  # a default
    summary: dict[str, float] = {}
    for record in records(run):
        summary |= record.get("summary", {}).get("update", {})
    for name in exact:
        assert summary[name] == [x[name] for x in first if name in x][-1]
    assert summary["step"] == 6


def test_nothing_is_given_twice_and_nothing_is_missed(fake: Fake, tmp_path: Path) -> None:
    session(tmp_path, -1, *map(line, range(1, 5)))
    # step 2 is validated only now; 3 and 4 come again, and 5 is new
    session(tmp_path, 2, line(2, **{"val/nelbo_per_token": 3.0}), *map(line, range(3, 6)))
    assert [row for _, row in fake.rows] == [
        *map(line, range(1, 5)),
        {"step": 2, "val/nelbo_per_token": 3.0},
        line(5),
    ]
    assert [number for number, _ in fake.rows] == list(range(6))
    assert fake.begun[0]["id"] == fake.begun[1]["id"]
    assert fake.ended == 2


def test_two_lines_of_a_step_are_two_rows(fake: Fake, tmp_path: Path) -> None:
    session(tmp_path, -1, line(1), line(1, **{"val/nelbo_per_token": 3.0}))
    assert [row for _, row in fake.rows] == [line(1), {"step": 1, "val/nelbo_per_token": 3.0}]


def test_what_it_is_begun_with(fake: Fake, tmp_path: Path) -> None:
    session(tmp_path, -1, entity="team", directory="deeper", finish_seconds=5.0)
    (begun,) = fake.begun
    assert (begun["mode"], begun["entity"], begun["project"]) == ("online", "team", "mdmkit")
    assert begun["resume"] == "allow"
    assert begun["config"] == {"run": {"name": "fake"}}
    assert begun["dir"] == str(tmp_path / "deeper")
    assert begun["settings"].finish_timeout == 5.0
    assert begun["settings"].console == "off"


def test_disabled_does_nothing(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "_installed", lambda: False)
    session(tmp_path, -1, line(1), mode="disabled")
    assert fake.begun == []
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_without_a_network_it_goes_on_offline(
    fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fails = {"init online"}
    session(tmp_path, -1, line(1))
    assert [begun["mode"] for begun in fake.begun] == ["offline"]
    assert [row for _, row in fake.rows] == [line(1)]
    (said,) = caplog.messages
    assert "wandb sync" in said
    assert "ConnectionError: init online" in said


@pytest.mark.parametrize(
    ("fails", "rows", "said"),
    [
        ("init offline", 0, "it did not start"),
        ("define_metric", 0, "it did not start"),
        ("log", 0, "step 1 could not be handed over"),
        ("finish", 3, "it did not end well"),
    ],
)
def test_it_never_stops_a_run_and_says_so_once(
    fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture, fails: str, rows: int, said: str
) -> None:
    fake.fails = {fails}
    session(tmp_path, -1, *map(line, range(1, 4)), mode="offline")
    assert len(fake.rows) == rows
    (message,) = caplog.messages
    assert said in message
    assert "metrics.jsonl has every line" in message
    assert caplog.records[0].levelno == logging.WARNING
    assert read_metrics(tmp_path / "metrics.jsonl") == [*map(line, range(1, 4))]


def test_what_wandb_missed_is_handed_over_later(
    fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session(tmp_path, -1, line(1), line(2), mode="offline")
    fake.fails = {"log"}
    session(tmp_path, 2, line(3, x=float("nan"), y=1.0), line(4), mode="offline")
    fake.fails = set()
    session(tmp_path, 3, line(4), line(5), mode="offline")
    assert [row for _, row in fake.rows] == [line(1), line(2), line(3, y=1.0), line(4), line(5)]
    assert len(caplog.messages) == 1


def test_a_damaged_memory_stops_nothing(
    fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "wandb.json").write_text('{"run_id": "abc"}')
    session(tmp_path, -1, line(1))
    assert fake.begun == []
    assert "wandb.json: not as it was written" in caplog.text
    (tmp_path / "wandb.json").write_text("torn {")
    session(tmp_path, -1, line(1))
    assert caplog.text.count("not as it was written") == 2


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = RunInfo(directory=tmp_path, name="none", recipe={})
    monkeypatch.setattr(plugin, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"run: pip install wandb$"):
        Wandb().build(info)
    # a folder of that name, such as wandb itself makes, is no package
    monkeypatch.setattr(plugin, "find_spec", lambda _: SimpleNamespace(origin=None))
    with pytest.raises(MissingPackageError, match="wandb is not installed"):
        Wandb().build(info)


@pytest.mark.parametrize("directory", ["/tmp", "../other", "a/../../b"])
def test_files_stay_inside_the_run(tmp_path: Path, directory: str) -> None:
    with pytest.raises(mdmkit.RecipeError, match="expected a path inside the run directory"):
        Wandb(directory=directory).build(RunInfo(directory=tmp_path, name="out", recipe={}))


def test_a_recipe_can_use_it(tmp_path: Path) -> None:
    (path := tmp_path / "recipe.toml").write_text(RECIPE.format(text="t.txt"))
    (tmp_path / "t.txt").write_text("text")
    wanted = Wandb(mode="offline", project="words", group="seeds", tags=("small", "first"))
    assert list(load_recipe(path).trackers["wandb"].tags) == list(wanted.tags)
    with pytest.raises(mdmkit.RecipeError, match='several trackers keep their files in ""'):
        load_recipe(path, ["trackers.other.use=wandb"])
    both = ["trackers.other.use=wandb", "trackers.other.directory=other"]
    assert len(load_recipe(path, both).trackers) == 2
    with pytest.raises(mdmkit.RecipeError, match=r"\[trackers.wandb\] mode: "):
        load_recipe(path, ["trackers.wandb.mode=sometimes"])
    with pytest.raises(mdmkit.RecipeError, match="expected a path inside the run directory"):
        load_recipe(path, ["trackers.wandb.directory=../x"])
    with pytest.raises(mdmkit.RecipeError, match="tags: wandb takes 1 to 64 characters; not 2 of"):
        load_recipe(path, [f'trackers.wandb.tags=["", "fits", "{"a" * 65}"]'])


def test_mdmkit_finds_it_without_importing_wandb() -> None:
    (entry,) = entry_points(group="mdmkit", name="wandb")
    assert entry.load().mdmkit_trackers is plugin.mdmkit_trackers
    assert entry.dist is not None
    assert entry.dist.name == "mdmkit-wandb"
    code = "import sys, mdmkit_wandb; sys.exit(bool({'wandb', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
