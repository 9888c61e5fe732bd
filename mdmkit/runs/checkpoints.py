"""The checkpoints of a run as files: which there are, and whether they are whole."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from mdmkit.files import sha256_file, sync_directory
from mdmkit.plain_files import read_json
from mdmkit.problems import found

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
TABLE_OF_CONTENTS = ".metadata"
_STEP = re.compile(r"step-([0-9]{8,18})")


def checkpoints_dir(run_dir: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run_dir / "checkpoints"


def damage(path: Path) -> str | None:
    """What is wrong with the checkpoint at `path`, or None where it is whole."""
    try:
        if path.is_symlink():
            return "is a link, not a folder of this run"
        manifest = read_json(path / MANIFEST)
        files = manifest["files"]
        if manifest["format"] != FORMAT:
            return f"has format {found(manifest['format'])}, this version reads {FORMAT}"
        for name in (STATE, TABLE_OF_CONTENTS):
            if name not in files:
                return f"manifest does not name {name}"
        for name, entry in files.items():
            file = path / name
            if file.resolve().parent != path.resolve():
                return f"manifest names a file outside the checkpoint: {name}"
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):
                return f"{name} is no file"
            if status.st_size != entry["bytes"] or sha256_file(file) != entry["sha256"]:
                return f"{name} is not as it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__}: {error})"
    return None


def steps_on_disk(run_dir: Path) -> list[int]:
    """The steps that have a checkpoint, rising."""
    names = (_STEP.fullmatch(path.name) for path in checkpoints_dir(run_dir).glob("step-*"))
    steps = {int(name[1]) for name in names if name}
    return sorted(step for step in steps if (checkpoints_dir(run_dir) / step_name(step)).is_dir())


def step_name(step: int) -> str:
    """The directory of a step's checkpoint."""
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step of a checkpoint directory."""
    return int(path.name.removeprefix("step-"))


def expired(steps: Sequence[int], keep: int, keep_every: int) -> list[int]:
    """Which of the checkpoints of `steps` (rising) are to be dropped.

    Args:
        steps: of all checkpoints.
        keep: that many of the newest stay; 0: all.
        keep_every: those whose step is a multiple of it stay, too; 0: none do for that.

    >>> expired([2, 4, 6, 8, 10], keep=2, keep_every=4)
    [2, 6]
    """
    older = steps[:-keep] if keep > 0 else []
    return [step for step in older if keep_every == 0 or step % keep_every]


def drop(folder: Path) -> None:
    """Remove a checkpoint; it goes at once, since one that is half there would look damaged.

    Raises:
        OSError: where that is not possible; it is whole, or gone but for a temporary.
    """
    leftover = folder.with_name(f".tmp-dropped-{folder.name}")
    folder.rename(leftover)
    sync_directory(folder.parent)
    shutil.rmtree(leftover)
