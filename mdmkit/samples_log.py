"""Texts that a run generated on its way and at its end, with how they were unmasked.

One file ``samples/step-<step>.json`` in the run directory. A text begins with all L positions
masked; each state of its generation is kept as what it changed, so that the unmasking can be shown
without a network or a tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from mdmkit.errors import CheckpointError
from mdmkit.files import GO_ON, explained, write_atomic
from mdmkit.plain_files import read_json
from mdmkit.step_files import StepFiles

FILES = StepFiles(folder="samples", suffix=".json")
sampled_steps, forget_after, copy_until = FILES.steps, FILES.forget_after, FILES.copy_until

Change = tuple[int, str | None]
"""A position, and the decoded text of the one token there; None is a mask (again)."""


@frozen(kw_only=True)
class LoggedSample:
    """A generated text, read back.

    Attributes:
        text: decoded as a whole; it may end before position L (a sampler that stops at EOS).
        length: L, its tokens.
        network_evaluations: by state, how often the network had been called for its batch.
        states: by state, what differs from the state before; the last one has no mask.
    """

    text: str
    length: int
    network_evaluations: tuple[int, ...]
    states: tuple[tuple[Change, ...], ...]

    def pieces(self, state: int) -> list[str | None]:
        """The text of each of the L tokens after ``states[state]``; None is a mask."""
        pieces: list[str | None] = [None] * self.length
        last = range(len(self.states))[state]  # from the end, where it is negative
        for changes in self.states[: last + 1]:
            for position, piece in changes:
                pieces[position] = piece
        return pieces


@frozen(kw_only=True)
class LoggedSamples:
    """What a run generated after so many steps.

    Attributes:
        step: the optimizer steps behind the weights.
        ema: whether these were averaged.
        sampler: its options as in the recipe, its name as ``use``.
        seed: of the generation.
        vocab_size: V, special tokens included.
        samples: the texts.
    """

    step: int
    ema: bool
    sampler: Mapping[str, Any]
    seed: int
    vocab_size: int
    samples: tuple[LoggedSample, ...]


def write_samples(run_dir: Path, logged: LoggedSamples) -> None:
    """Keep the texts of ``logged.step``, replacing those that are there.

    Raises:
        CheckpointError: where they cannot be written.
    """
    path = FILES.path(run_dir, logged.step)
    content = json.dumps(attrs.asdict(logged), allow_nan=False, ensure_ascii=False)
    with explained(path, GO_ON):
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, content + "\n")


def read_samples(run_dir: Path, step: int) -> LoggedSamples:
    """The texts of `step`.

    Raises:
        CheckpointError: where there are none, or the file is damaged.
    """
    path = FILES.path(run_dir, step)
    try:
        logged = _logged(read_json(path))
        if logged.step != step:
            raise ValueError(f"it says that it is of step {logged.step}")
    except FileNotFoundError as error:
        found = ", ".join(map(str, sampled_steps(run_dir))) or "none"
        raise CheckpointError(
            f"{path}: there are no samples of step {step}; found {found}"
        ) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); expected the samples that "
            "a run keeps; remove it to go on without them"
        ) from error
    return logged


def _logged(plain: Any) -> LoggedSamples:
    """The samples that `plain` stands for; ValueError and the like where it stands for none."""
    if not isinstance(plain["sampler"], dict):
        raise ValueError("its sampler is no table")
    return LoggedSamples(
        step=_whole(plain["step"], "step"),
        ema=bool(plain["ema"]),
        sampler=plain["sampler"],
        seed=_whole(plain["seed"], "seed"),
        vocab_size=_whole(plain["vocab_size"], "vocab_size"),
        samples=tuple(map(_sample, plain["samples"])),
    )


def _sample(plain: Any) -> LoggedSample:
    length = _whole(plain["length"], "length")
    calls = tuple(_whole(count, "network_evaluations") for count in plain["network_evaluations"])
    states = tuple(tuple(_change(change, length) for change in state) for state in plain["states"])
    if not isinstance(plain["text"], str) or len(calls) != len(states):
        raise ValueError("a sample has no text, or other numbers of states and evaluations")
    masked = set(range(length))
    for position, piece in (change for state in states for change in state):
        (masked.add if piece is None else masked.discard)(position)
    if masked:
        raise ValueError(f"the last state of a sample has a mask at position {min(masked)}")
    return LoggedSample(text=plain["text"], length=length, network_evaluations=calls, states=states)


def _change(plain: Sequence[Any], length: int) -> Change:
    position, piece = plain
    if _whole(position, "position") >= length or not (piece is None or isinstance(piece, str)):
        raise ValueError(f"a change is {plain!r:.60}; expected a position below {length}, a text")
    return position, piece


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{name}: expected a whole number >= 0, got {value!r:.40}")
    return value
