from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mdmkit.errors import CheckpointError
from mdmkit.training.checkpoint import (
    Weights,
    checkpoints_dir,
    damage,
    last_checkpoint,
    load_checkpoint,
    load_weights,
    step_name,
    steps_on_disk,
)
from mdmkit.training.distributed import World
from mdmkit.training.saving import save_checkpoint

WORLD = World(device=torch.device("cpu"))


def tensors(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {
        "model/denoiser.weight": torch.full((4, 3), value),
        "model/denoiser.bias": torch.full((3,), value),
        "ema/denoiser.weight": torch.full((4, 3), value + 0.5),
        "window": torch.zeros(6, dtype=torch.float64),
    }


def save(run: Path, step: int, value: float = 1.0, keep: int = 0) -> Path:
    save_checkpoint(run, step, tensors(value), {"seconds": 1.5}, world=WORLD, keep=keep)
    return checkpoints_dir(run) / step_name(step)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path, 7, 3.0)
    filled = tensors(0.0)
    facts = load_checkpoint(path, filled, world=WORLD)
    assert facts["step"] == 7
    assert facts["seconds"] == 1.5
    assert all(torch.equal(filled[name], tensor) for name, tensor in tensors(3.0).items())


def test_retention_keeps_the_newest(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save(tmp_path, step, keep=2)
    assert steps_on_disk(tmp_path) == [2, 10]


def test_saving_over_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 3, 1.0)
    with pytest.raises(CheckpointError, match="nothing was overwritten"):
        save(tmp_path, 3, 2.0)
    filled = tensors(0.0)
    load_checkpoint(path, filled, world=WORLD)
    assert filled["model/denoiser.bias"][0] == 1.0


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "manifest", "no manifest"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(
    tmp_path: Path, harm: str
) -> None:
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    shard = next(bad.glob("*.distcp"))
    harms = {
        "truncate": lambda: os.truncate(shard, shard.stat().st_size // 2),
        "flip": lambda: flip_byte(shard),
        "remove": shard.unlink,
        "manifest": lambda: (bad / "manifest.json").write_text("{"),
        "no manifest": (bad / "manifest.json").unlink,
    }
    harms[harm]()
    said: list[str] = []
    assert last_checkpoint(tmp_path, said.append) == good
    assert "set aside" in said[0]
    assert (checkpoints_dir(tmp_path) / f"bad-{step_name(2)}").is_dir()


def test_two_bad_ones_of_one_step_are_both_kept(tmp_path: Path) -> None:
    for _ in range(2):
        (save(tmp_path, 2) / "state.json").write_text("")
        assert last_checkpoint(tmp_path, lambda _: None) is None
    assert len(list(checkpoints_dir(tmp_path).glob("bad-*"))) == 2


def test_leftover_temporaries_are_removed(tmp_path: Path) -> None:
    good = save(tmp_path, 1)
    leftover = checkpoints_dir(tmp_path) / f".tmp-{step_name(2)}"
    leftover.mkdir()
    (leftover / "half.distcp").write_bytes(b"half")
    assert last_checkpoint(tmp_path, lambda _: None) == good
    assert not leftover.exists()


def test_other_shapes_are_named(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    other = tensors() | {"model/denoiser.bias": torch.zeros(5)}
    with pytest.raises(CheckpointError, match=r"denoiser\.bias: checkpoint \(3,\), run \(5,\)"):
        load_checkpoint(path, other, world=WORLD)


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file may grow past 2000 bytes: the nearest thing to a full disk that a test can have.

    Only around the call itself: the test runner's own output may be a longer file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    good = save(tmp_path, 1)
    big = tensors() | {"model/denoiser.weight": torch.zeros(400, 300)}
    with small_files(), pytest.raises(CheckpointError, match="the checkpoint of step 1 is kept"):
        save_checkpoint(tmp_path, 2, big, {}, world=WORLD, keep=1)
    assert damage(good) is None
    assert sorted(p.name for p in checkpoints_dir(tmp_path).iterdir()) == [good.name]


def test_weights_are_raw_or_averaged_as_asked(tmp_path: Path) -> None:
    save(tmp_path, 1, 1.0)
    save(tmp_path, 2, 2.0)
    averaged = load_weights(tmp_path)
    assert (averaged.step, averaged.ema) == (2, True)
    assert averaged.state["denoiser.weight"][0, 0] == 2.5
    assert averaged.state["denoiser.bias"][0] == 2.0  # no average is kept of it
    raw = load_weights(tmp_path, step=1, ema=False)
    assert (raw.step, raw.ema) == (1, False)
    assert raw.state["denoiser.weight"][0, 0] == 1.0
    with pytest.raises(CheckpointError, match=r"checkpoint of step 5; found those of steps 1, 2"):
        load_weights(tmp_path, step=5)


class Payload:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (os.system, (f"touch {self.path}",))


def rewrite_manifest(path: Path, name: str) -> None:
    """Make the manifest true again after `name` was replaced, as an attacker would."""
    from mdmkit.files import sha256_file

    manifest = json.loads((path / "manifest.json").read_text())
    file = path / name
    manifest["files"][name] = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("once", [False, True])
def test_an_average_is_meant_by_the_names_under_which_the_network_is_kept(once: bool) -> None:
    """Of tied weights a network keeps every name, or leaves all but one out."""
    tied = torch.nn.ModuleList([torch.nn.Linear(2, 2, bias=False)] * 2)
    if once:
        tied.register_state_dict_post_hook(lambda _, state, *__: state.__delitem__("1.weight"))
    raw, average = torch.zeros(2, 2), torch.ones(2, 2)
    state = dict.fromkeys(tied.state_dict(), raw)
    weights = Weights(
        state={**state, "0.weight": average}, step=1, averaged=frozenset({"0.weight"})
    )
    assert weights.fit(tied) == dict.fromkeys(state, average)


def test_a_planted_table_of_contents_does_not_run(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    trace = tmp_path / "trace"
    (path / ".metadata").write_bytes(pickle.dumps(Payload(trace)))
    rewrite_manifest(path, ".metadata")
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint(path, tensors(), world=WORLD)
    with pytest.raises(CheckpointError, match="refused"):
        load_weights(tmp_path)
    assert not trace.exists()


def test_a_table_of_contents_cannot_point_outside(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    with (path / ".metadata").open("rb") as file:
        metadata = pickle.load(file)
    for info in metadata.storage_data.values():
        info.relative_path = "../" + info.relative_path
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    rewrite_manifest(path, ".metadata")
    with pytest.raises(CheckpointError, match="files outside"):
        load_checkpoint(path, tensors(), world=WORLD)


def test_a_manifest_cannot_point_outside(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../../secret"] = {"bytes": 0, "sha256": ""}
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert "outside" in str(damage(path))
