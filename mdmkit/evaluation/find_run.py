"""Run directories by their path or name."""

from __future__ import annotations

from pathlib import Path

from mdmkit.errors import CheckpointError
from mdmkit.runs.folder import RESOLVED, runs_root
from mdmkit.suggest import did_you_mean


def find_run(run: str | Path, runs_dir: str | Path | None = None) -> Path:
    """The directory that `run` means.

    Args:
        run: a path, or a name in the folder of runs; the hash at its end may be left out where
            that is unambiguous.
        runs_dir: the folder of runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.

    Raises:
        CheckpointError: where there is none, or several fit.
    """
    root = runs_root(runs_dir)
    for candidate in (Path(run), root / run):
        if (candidate / RESOLVED).is_file():
            return candidate
    known = sorted(path.parent.name for path in root.glob(f"*/{RESOLVED}"))
    fitting = [name for name in known if name.rpartition("-")[0] == str(run)]
    if len(fitting) == 1:
        return root / fitting[0]
    if fitting:
        raise CheckpointError(
            f'run "{run}": {len(fitting)} runs in {root} have that name; say which: '
            + ", ".join(fitting)
        )
    if Path(run).is_dir():
        raise CheckpointError(f"{run}: holds no run; expected {RESOLVED} in it")
    found = f"runs in {root}: {', '.join(known)}" if known else f"there are no runs in {root}"
    hint = did_you_mean(Path(run).name, known)
    raise CheckpointError(
        f'run "{run}": no such run directory{hint}; {found} (give a path, or the folder of runs '
        "with --runs-dir)"
    )


def run_names(root: Path) -> list[str]:
    """The names of the runs in a folder, and these without the hash at the end."""
    known = sorted(path.parent.name for path in root.glob(f"*/{RESOLVED}"))
    return list(dict.fromkeys([*known, *(name.rpartition("-")[0] or name for name in known)]))


def is_run(run: str, runs_dir: str | Path | None = None) -> bool:
    """Whether `find_run` has a run, or several, for this name."""
    root = runs_root(runs_dir)
    whole = any((candidate / RESOLVED).is_file() for candidate in (Path(run), root / run))
    return whole or any(
        path.parent.name.rpartition("-")[0] == run for path in root.glob(f"*/{RESOLVED}")
    )
