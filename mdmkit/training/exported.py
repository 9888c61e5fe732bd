"""``model.safetensors`` of a run: its network in one file, for a run that has no checkpoints.

They may have been removed to save room, or there never were any, because the weights come from
elsewhere; such a run can be evaluated and generate, but not be trained on.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from mdmkit.data.cache import Notify, ignore
from mdmkit.errors import CheckpointError
from mdmkit.plain_files import parse_json
from mdmkit.runs.checkpoints import checkpoints_dir, steps_on_disk
from mdmkit.runs.folder import IMPORTED, WEIGHTS
from mdmkit.training.checkpoint import Weights, load_weights

_OF_ROOT = "denoiser."


def saved_weights(
    run_dir: Path, *, step: int | None = None, ema: bool = True, notify: Notify = ignore
) -> Weights:
    """The weights of a run: out of its checkpoints, or its one file where it has none.

    Args:
        run_dir: the run directory.
        step: of which checkpoint; the newest whole one by default.
        ema: the averaged weights where the run keeps an average, else the raw ones.
        notify: is told of damaged checkpoints that are passed over.

    Raises:
        CheckpointError: where there are none such, or they are damaged.
    """
    path = run_dir / WEIGHTS
    if steps_on_disk(run_dir) or not path.exists():
        return load_weights(run_dir, step=step, ema=ema, notify=notify)
    weights = _read(path)
    if step not in (None, weights.step):
        raise CheckpointError(
            f"{run_dir}: there is no checkpoint of step {step}; there are none at all, and "
            f"{WEIGHTS} has the weights of step {weights.step}"
        )
    if weights.ema and not ema:
        raise CheckpointError(
            f"{run_dir}: the run has no checkpoints any more, and {WEIGHTS} has only averaged "
            "weights; leave out --no-ema"
        )
    return weights


def _read(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_json((file.metadata() or {})["facts"])["checkpoint"]
            state = {f"{_OF_ROOT}{name}": file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        step, ema = int(facts["step"]), bool(facts["ema"])
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); expected the weights that "
            "a run writes at its end"
        ) from error
    return Weights(state=state, step=step, averaged=frozenset(state) if ema else frozenset())


def require_trained_here(run_dir: Path) -> None:
    """Refuse to begin in a directory that holds the weights of a training, or imported ones.

    Args:
        run_dir: of a run without a whole checkpoint.

    Raises:
        CheckpointError: where it does.
    """
    if (run_dir / IMPORTED).exists():
        raise CheckpointError(
            f"{run_dir}: holds weights that were imported, without an optimizer's state; they can "
            "be evaluated and sampled from. To train on, begin a run of its own"
        )
    if (run_dir / WEIGHTS).exists():
        bad = ", ".join(sorted(path.name for path in checkpoints_dir(run_dir).glob("bad-step-*")))
        lost = f"; damaged and set aside: {bad}" if bad else ""
        raise CheckpointError(
            f"{run_dir}: was trained to its end, but holds no whole checkpoint to go on from"
            f"{lost}. The weights in {WEIGHTS} can be evaluated and sampled from; to begin anew, "
            "remove the directory"
        )
