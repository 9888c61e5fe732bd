"""A run directory that leads elsewhere is refused: nothing outside is read, written or removed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mdmkit.comparison.runs import load_run
from mdmkit.errors import CheckpointError, RecipeError
from mdmkit.evaluation.run import open_trained, read_recipe
from mdmkit.files import sha256_file
from mdmkit.plain_files import read_bytes, read_json
from mdmkit.plugins import Catalogue
from mdmkit.recipe import load_recipe
from mdmkit.training.checkpoint import (
    MANIFEST,
    STATE,
    damage,
    last_checkpoint,
    load_weights,
    steps_on_disk,
)
from mdmkit.training.loop import train
from mdmkit.training.table_of_contents import NAME
from mdmkit.validation_log import logged_steps

from .fuzzing import read_or_refused


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a file that nobody may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("{}")
    return folder


def newest(run: Path) -> Path:
    return max((run / "checkpoints").iterdir())


def to_outside(name: str, target: str = "secret") -> Callable[[Path, Path], None]:
    """Put a link in place of a file or folder of the run."""

    def harm(run: Path, outside: Path) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.symlink_to(outside / target)

    return harm


def step_to_outside(run: Path, outside: Path) -> None:
    shutil.move(newest(run), outside / "step")
    (run / "checkpoints" / "step-00000004").symlink_to(outside / "step")


def pipe(run: Path, _: Path) -> None:
    (run / "model.safetensors").unlink()
    os.mkfifo(run / "model.safetensors")


def listening(run: Path, _: Path) -> None:
    here = Path.cwd()
    os.chdir(run)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
    os.chdir(here)


HARMS = {
    "lock": to_outside(".lock"),
    "metrics": to_outside("metrics.jsonl"),
    "a log that is not there": to_outside("metrics.jsonl", "new"),
    "recipe": to_outside("resolved.json"),
    "tokenizer": to_outside("tokenizer.json"),
    "eval": to_outside("eval", ""),
    "validation": to_outside("validation", ""),
    "checkpoints": to_outside("checkpoints", ""),
    "a device": to_outside("metrics.jsonl", "/dev/zero"),
    "a step": step_to_outside,
    "a pipe": pipe,
    "a socket": listening,
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_run_that_leads_elsewhere(
    run: Path, outside: Path, catalogue: Catalogue, harm: Callable[[Path, Path], None]
) -> None:
    recipe = read_recipe(run, catalogue=catalogue)
    harm(run, outside)
    before = sorted(path.name for path in outside.rglob("*"))
    for use in (
        lambda: read_recipe(run, catalogue=catalogue),
        lambda: open_trained(run, device="cpu", catalogue=catalogue),
        lambda: load_run(run, catalogue=catalogue, notify=lambda _: None),
        lambda: train(recipe, resume=run),
    ):
        error = read_or_refused(use, run)
        assert isinstance(error, CheckpointError)
        assert "outside of the run directory" in str(error) or "neither a file" in str(error)
    assert sorted(path.name for path in outside.rglob("*")) == before
    assert (outside / "secret").read_text() == "{}"


def test_links_within_a_run_are_its_own(run: Path, catalogue: Catalogue, tmp_path: Path) -> None:
    (run / "latest").symlink_to("checkpoints")
    (run / "gone").symlink_to("nothing")
    link = tmp_path / "link"
    link.symlink_to(run)  # the directory itself may be one
    assert read_recipe(link, catalogue=catalogue) == read_recipe(run, catalogue=catalogue)


def rewritten(step: Path, change: Callable[[dict[str, object]], object]) -> str | None:
    """What is wrong with a checkpoint whose manifest was changed."""
    manifest = json.loads((step / MANIFEST).read_text())
    change(manifest["files"])
    (step / MANIFEST).write_text(json.dumps(manifest))
    return damage(step)


@pytest.mark.parametrize(
    "name",
    [
        "../../../outside/secret",
        "{outside}/secret",
        "..",
        ".",
        "",
        "sub/x",
        "/",
        "a\0b",
        "x" * 5000,
    ],
)
def test_manifests_name_files_of_their_checkpoint_alone(
    run: Path, outside: Path, name: str
) -> None:
    step, secret = newest(run), outside / "secret"
    entry = {"bytes": secret.stat().st_size, "sha256": sha256_file(secret)}
    name = name.format(outside=outside)
    problem = rewritten(step, lambda files: files.__setitem__(name, entry))
    assert problem is not None
    assert load_weights(run).step == 2  # the one before


@pytest.mark.parametrize("name", [STATE, NAME])
def test_a_manifest_that_leaves_out_what_is_read(run: Path, name: str) -> None:
    problem = rewritten(newest(run), lambda files: files.pop(name))
    assert problem == f"manifest does not name {name}"


def test_a_part_that_is_a_link_or_a_loop(run: Path, outside: Path) -> None:
    (shard,) = newest(run).glob("*.distcp")
    shutil.move(shard, outside / "shard")
    shard.symlink_to(outside / "shard")
    assert "outside" in str(damage(newest(run)))
    shard.unlink()
    shard.symlink_to(shard.name)
    assert damage(newest(run)) is not None


def test_only_steps_are_steps(run: Path) -> None:
    folder = run / "checkpoints"
    for name in (
        "step-1x",
        "step-5",
        "step-../x",
        "step-" + 8 * "\N{FULLWIDTH DIGIT ONE}",
        "step-00000099.txt",
    ):
        (folder / name.replace("/", "_")).mkdir()
    (folder / "step-00000100").write_text("a file")
    (folder / f"step-{'9' * 200}").mkdir()
    assert steps_on_disk(run) == [2, 4]
    (run / "validation" / "step-x.safetensors").write_text("")
    (run / "validation" / "step-7.safetensors").write_text("")
    assert logged_steps(run) == [0, 2, 4]


def test_left_over_links_are_removed_not_followed(run: Path, outside: Path) -> None:
    (run / "checkpoints" / ".tmp-link").symlink_to(outside)
    (run / "checkpoints" / ".tmp-file").write_text("")
    assert last_checkpoint(run, lambda _: None) == newest(run)
    assert (outside / "secret").exists()
    assert not list((run / "checkpoints").glob(".tmp-*"))


def test_a_lock_is_not_emptied(run: Path, catalogue: Catalogue) -> None:
    (run / ".lock").write_text("mine")
    train(read_recipe(run, catalogue=catalogue), resume=run)
    assert (run / ".lock").read_text() == "mine"


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", ".", "", "~", "a\0", "-x", ".x"])
def test_names_that_would_be_places(trained: Path, catalogue: Catalogue, name: str) -> None:
    """Of runs, and of evaluators and trackers, whose numbers are files of that name."""
    recipe = trained / "recipe.toml"
    quoted = json.dumps(name)
    for override in (
        f"run.name={quoted}",
        f'evaluators.{quoted}={{use = "nelbo"}}',
        f'trackers.{quoted}={{use = "jsonl"}}',
    ):
        with pytest.raises(RecipeError, match="letters, digits"):
            load_recipe(recipe, [override], catalogue=catalogue)


def test_devices_pipes_and_folders_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path in ("/dev/zero", "/dev/null", tmp_path / "pipe", tmp_path / "loop", tmp_path):
        with pytest.raises(OSError, match=r"."):
            read_bytes(Path(path), 100)
    (tmp_path / "long").write_bytes(b"x" * 101)
    with pytest.raises(ValueError, match="101 bytes; expected 100 at most"):
        read_bytes(tmp_path / "long", 100)
    with pytest.raises(ValueError, match="more than 10 bytes"):  # which says that it has none
        read_bytes(Path("/proc/self/status"), 10)
    with pytest.raises(OSError, match="No such file"):
        read_json(tmp_path / "gone")


# --- tensors -------------------------------------------------------------------------------


def test_a_recipe_of_a_network_that_no_machine_holds(run: Path, catalogue: Catalogue) -> None:
    plain = json.loads((run / "resolved.json").read_text())
    plain["denoiser"]["width"] = 1 << 24
    (run / "resolved.json").write_text(json.dumps(plain))
    error = read_or_refused(lambda: open_trained(run, device="cpu", catalogue=catalogue))
    assert "the weights do not fit the network of the recipe" in str(error)


def test_a_packed_tensor_is_refused(run: Path) -> None:
    """A zip of a few kilobytes, in which torch would find a tensor of many."""
    step = newest(run)
    (shard,) = step.glob("*.distcp")
    torch.save(torch.zeros(10**6), run / "plain")
    with zipfile.ZipFile(run / "plain") as plain, zipfile.ZipFile(shard, "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert shard.stat().st_size < 20_000
    with (step / NAME).open("rb") as file:
        metadata = pickle.load(file)
    for info in metadata.storage_data.values():
        info.offset, info.length = 0, shard.stat().st_size
    for entry in metadata.state_dict_metadata.values():
        entry.size = torch.Size([1])
        entry.chunks[0].offsets, entry.chunks[0].sizes = torch.Size([0]), torch.Size([1])
    metadata.storage_data = {
        type(index)(index.fqn, [0], 0): info for index, info in metadata.storage_data.items()
    }
    (step / NAME).write_bytes(pickle.dumps(metadata))
    entries = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in (shard, step / NAME)
    }
    assert rewritten(step, lambda files: files.update(entries)) is None
    error = read_or_refused(lambda: load_weights(run))
    assert "a tensor is packed; expected it as torch saves it" in str(error)
