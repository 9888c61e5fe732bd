"""A run's lines of metrics on their way to wandb, which is imported where the run begins."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mdmkit.protocols import RunInfo
from mdmkit.values import Metrics
from mdmkit_wandb.handed import FILE, Handed

if TYPE_CHECKING:
    from mdmkit_wandb import Wandb

LINES = "metrics.jsonl"  # that every run directory has
_START_SECONDS = 30.0  # that a run waits for an answer when it starts

logger = logging.getLogger(__name__)


class WandbLog:
    """One run of wandb, as `mdmkit.protocols.Tracking`.

    Nothing that goes wrong here leaves this class: it is said once, with `logging`, and wandb is
    then left alone until the run is started again.
    """

    def __init__(self, options: Wandb, run: RunInfo) -> None:
        """Track `run` as `options` say, from `resume` on."""
        self._options, self._info = options, run
        self._folder = run.directory / options.directory
        self._handed = Handed(path=self._folder / FILE)
        self._run: Any = None

    def resume(self, step: int) -> None:
        """Begin, or go on with the same run of wandb, and hand over what it lacks up to `step`.

        wandb cannot forget: figures past `step` that it has from before stay, and those that the
        training now makes again for these steps are not handed over a second time.
        """
        if self._options.mode == "disabled":
            return
        try:
            self._handed = Handed.read(self._handed.path)
            self._run = self._begin()
            for line in _lines(self._info.directory / LINES):
                if line["step"] <= step:
                    self.log(line)
        except Exception as error:  # wandb may raise anything
            self._give_up("it did not start", error)

    def log(self, metrics: Metrics) -> None:
        """Hand over the figures of a line that wandb does not have yet, as one row."""
        if self._run is None:
            return
        line = dict(metrics)
        figures = self._handed.new(line)
        if set(figures) <= {"tokens", "seconds"}:  # what every line has, and nothing else
            return
        try:
            row = {"step": line["step"], **figures}
            self._run.log(row, step=self._handed.rows)
            self._handed.note(row)
            self._handed.write()
        except Exception as error:
            self._give_up(f"step {line['step']} could not be handed over", error)

    def close(self) -> None:
        """End wandb's run; what is not sent in time stays in its files."""
        run, self._run = self._run, None
        if run is None:
            return
        try:
            run.finish()
        except Exception as error:
            self._give_up("it did not end well", error)

    def _begin(self) -> Any:
        """A live run of wandb: online if it can be had and is wanted, else offline."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._options.mode == "online":
            try:
                return self._init("online")
            except Exception as error:
                _forget()
                _say(
                    "wandb did not start online; it keeps everything in files of "
                    f"{self._folder}, for `wandb sync`",
                    error,
                )
        return self._init("offline")

    def _init(self, mode: Literal["online", "offline"]) -> Any:
        import wandb

        options = self._options
        run = wandb.init(
            project=options.project,
            entity=options.entity,
            group=options.group,
            tags=list(options.tags),
            name=self._info.name,
            id=self._handed.run_id,
            resume="allow",
            config=dict(self._info.recipe),
            dir=str(self._folder),
            mode=mode,
            settings=wandb.Settings(
                console="off",  # what the program prints is its own business
                disable_job_creation=True,
                finish_timeout=options.finish_seconds,
                init_timeout=_START_SECONDS,
                login_timeout=_START_SECONDS,
                reinit="create_new",  # whatever other runs this process has
                save_code=False,
            ),
        )
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        self._handed.write()
        return run

    def _give_up(self, what: str, error: Exception) -> None:
        self._run = None
        _say(f"{what}; the training goes on without it, and {LINES} has every line", error)


def _forget() -> None:
    """Have wandb let go of a run that did not start, or its name could not be used again.

    wandb has no way to do so but to end all that this process has with it.
    """
    import wandb

    wandb.teardown()


def _say(what: str, error: Exception) -> None:
    logger.warning('tracker "wandb": %s (%s: %s)', what, type(error).__name__, error)


def _lines(path: Path) -> Iterator[dict[str, float]]:
    """The lines of metrics in a file, if it is there; figures that are not finite are left out."""
    if not path.exists():
        return
    for text in path.read_text().splitlines():
        line = json.loads(text)
        yield {name: value for name, value in line.items() if value is not None}
