"""Files of a run that are of one step each: ``<folder>/step-<step><suffix>``."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from mdmkit.files import write_atomic

_STEP = re.compile(r"step-([0-9]{8,18})")


@frozen(kw_only=True)
class StepFiles:
    """One kind of such files.

    Attributes:
        folder: where they are, in the run directory.
        suffix: what their names end in, with its dot.
    """

    folder: str
    suffix: str

    def path(self, run_dir: Path, step: int) -> Path:
        """The file of `step`, which need not be there."""
        return run_dir / self.folder / f"step-{step:08d}{self.suffix}"

    def steps(self, run_dir: Path) -> list[int]:
        """The steps that have a file, rising."""
        files = (run_dir / self.folder).glob(f"step-*{self.suffix}")
        found = (_STEP.fullmatch(file.stem) for file in files if file.is_file())
        return sorted(int(name[1]) for name in found if name)

    def forget_after(self, run_dir: Path, step: int) -> None:
        """Remove those past `step`: the run goes on from there."""
        for later in self.steps(run_dir):
            if later > step:
                self.path(run_dir, later).unlink()

    def copy_until(self, source: Path, target: Path, step: int) -> None:
        """Copy those up to `step` from one run directory to another.

        Raises:
            OSError: where they cannot be written.
        """
        for earlier in self.steps(source):
            if earlier <= step:
                path = self.path(target, earlier)
                path.parent.mkdir(exist_ok=True)
                write_atomic(path, self.path(source, earlier).read_bytes())
