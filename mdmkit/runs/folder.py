"""The folder of all runs, and what belongs into the directory of one."""

from __future__ import annotations

import os
from pathlib import Path

from mdmkit.errors import CheckpointError

RESOLVED = "resolved.json"
WEIGHTS = "model.safetensors"
IMPORTED = "imported.json"
_FOLDERS = ("checkpoints", "validation", "eval", "samples", "analysis")
"""What a run has besides files, of its own."""


def runs_root(runs_dir: str | Path | None = None) -> Path:
    """The folder of all runs: as given, else ``MDMKIT_RUNS_DIR``, else ``runs``."""
    return Path(runs_dir or os.environ.get("MDMKIT_RUNS_DIR") or "runs")


def require_own_files(directory: Path) -> None:
    """Refuse a run directory with anything in it that leads out, or that is no file or folder.

    What is read is then the run's own, and nothing is written or removed anywhere else; the
    directory itself may be a link. Inside of folders that are not ours, those of trackers, nobody
    looks.

    Raises:
        CheckpointError: naming what does not belong there.
    """
    top = os.path.realpath(directory)
    for here, folders, files in os.walk(top):
        if here != top and Path(here).relative_to(top).parts[0] not in _FOLDERS:
            folders.clear()
            continue
        for path in (Path(here, name) for name in (*folders, *files)):
            if path.is_symlink():
                target = os.path.realpath(path)
                if os.path.commonpath((top, target)) != top:
                    raise CheckpointError(
                        f"{path}: is a link to {target}, outside of the run directory; expected "
                        "all of a run in its directory: put the files themselves there"
                    )
            elif not (path.is_file() or path.is_dir()):
                raise CheckpointError(f"{path}: is neither a file nor a folder; remove it")
