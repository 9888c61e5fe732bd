"""What wandb was given of a run, kept beside it, so that nothing is given twice."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from attrs import define, field

FILE = "wandb.json"


@define(kw_only=True)
class Handed:
    """The memory of a run's tracker, from one session to the next.

    Attributes:
        path: the file that it is kept in.
        run_id: wandb's name of the run, the same in every session.
        rows: how many rows it was given.
        steps: by figure, the last step of which it was given one.
    """

    path: Path
    run_id: str = field(factory=lambda: secrets.token_hex(4))
    rows: int = 0
    steps: dict[str, int] = field(factory=dict)

    @classmethod
    def read(cls, path: Path) -> Handed:
        """The memory in a file, or a new one where there is none.

        Raises:
            ValueError: where the file is not one of this class.
            OSError: where it cannot be read.
        """
        if not path.exists():
            return cls(path=path)
        try:
            found = json.loads(path.read_text())
            steps = {str(name): int(step) for name, step in found["steps"].items()}
            return cls(path=path, run_id=str(found["run_id"]), rows=int(found["rows"]), steps=steps)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{path}: not as it was written ({error!r}); without the file, wandb is given a "
                "new run with all lines"
            ) from error

    def write(self) -> None:
        """Keep it: whole, or as it was before.

        Raises:
            OSError: where it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".tmp-{self.path.name}")
        content = {"run_id": self.run_id, "rows": self.rows, "steps": self.steps}
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(self.path)

    def new(self, metrics: dict[str, float]) -> dict[str, float]:
        """The figures of a line that wandb was not given yet; ``step`` is no figure."""
        step = metrics["step"]
        return {
            name: value
            for name, value in metrics.items()
            if name != "step" and step > self.steps.get(name, -1)
        }

    def note(self, metrics: dict[str, float]) -> None:
        """Remember that the figures of a line were given, as one more row."""
        self.rows += 1
        self.steps.update({name: int(metrics["step"]) for name in metrics if name != "step"})
