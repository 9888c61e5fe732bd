"""What wandb keeps in files, read back by its own program."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any


def records(folder: Path) -> list[dict[str, Any]]:
    """Everything in the files of all offline sessions below a tracker's folder, in their order.

    It needs the package ``wandb``, whose ``leet inspect`` reads them, and asks nobody else.

    Raises:
        subprocess.CalledProcessError: where a file is not one of wandb's.
    """
    from wandb.util import get_core_path

    found: list[dict[str, Any]] = []
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        inspect = [get_core_path(), "leet", "inspect", "--no-observability", "--json"]
        done = subprocess.run(
            [*inspect, "--run-file", str(file), str(file.parent.parent)],
            capture_output=True,
            check=True,
            text=True,
        )
        found += [json.loads(line) for line in done.stdout.splitlines()]
    return found


def rows(folder: Path) -> list[dict[str, float]]:
    """The rows of metrics among `records`, without the columns that are wandb's own."""
    return [
        {name: value for name, value in record["history"]["item"].items() if name[0] != "_"}
        for record in records(folder)
        if record["type"] == "history"
    ]
