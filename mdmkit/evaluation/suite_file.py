"""``eval/<suite>.json``: what a suite found on a run, set by set, enough to repeat it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from attrs import field, frozen

from mdmkit.environment import environment
from mdmkit.errors import CheckpointError
from mdmkit.evaluation.driver import Result
from mdmkit.files import explained, write_json
from mdmkit.plain_files import read_json
from mdmkit.problems import found

FORMAT = 1
KIND = "mdmkit suite"


@frozen(kw_only=True)
class SetRecord:
    """What is kept of one set.

    Attributes:
        result: its numbers and their provenance.
        settings: a hash of everything that decides the numbers, but for the data.
        data: a hash of what was known of the data when it was opened.
    """

    result: Result
    settings: str
    data: str

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        keys = {"settings_sha256": self.settings, "data_sha256": self.data}
        return {**self.result.to_json(), **keys}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> SetRecord:
        """What `to_json` made."""
        return cls(
            result=Result.from_json(plain),
            settings=plain["settings_sha256"],
            data=plain["data_sha256"],
        )


@frozen(kw_only=True)
class SuiteRecord:
    """The content of the file.

    Attributes:
        suite: as plain data, resolved for the run.
        settings: with which it was measured: seed, checkpoint, ema, dtype, batch_size.
        run: the run's facts.
        sets: by label, those that are done.
        missing: by label, why a set could not be had.
    """

    suite: Mapping[str, Any]
    settings: Mapping[str, Any]
    run: Mapping[str, Any]
    sets: Mapping[str, SetRecord] = field(factory=dict)
    missing: Mapping[str, str] = field(factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "kind": KIND,
            "format": FORMAT,
            "suite": dict(self.suite),
            "run": dict(self.run),
            "settings": dict(self.settings),
            "sets": {label: record.to_json() for label, record in self.sets.items()},
            "missing": dict(self.missing),
        }


def record_path(directory: Path, stem: str) -> Path:
    """Where a run keeps what a suite found."""
    return directory / "eval" / f"{stem}.json"


def read_record(path: Path) -> SuiteRecord:
    """What is in the file.

    Raises:
        CheckpointError: where it cannot be read or is not the file of a suite.
    """
    try:
        plain = read_json(path)
        if plain["kind"] != KIND or plain["format"] != FORMAT:
            raise ValueError(f"it is {found(plain['kind'])}, format {found(plain['format'])}")
        _require_settings(plain["settings"])
        for table in ("suite", "run", "missing"):
            if not isinstance(plain[table], dict):
                raise TypeError(f"{table} is {found(plain[table])}")
        return SuiteRecord(
            suite=plain["suite"],
            settings=plain["settings"],
            run=plain["run"],
            sets={label: SetRecord.from_json(entry) for label, entry in plain["sets"].items()},
            missing=plain["missing"],
        )
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: is not what a suite wrote ({type(error).__name__}: {error}); expected "
            f'"{KIND}", format {FORMAT}. Move it away to measure anew'
        ) from error


def _require_settings(settings: Mapping[str, Any]) -> None:
    kinds = {"seed": int, "ema": bool, "checkpoint": int, "dtype": str, "sampler": dict}
    for name, kind in kinds.items():
        if type(settings[name]) is not kind:
            raise TypeError(f"{name} is {found(settings[name])}")
    if type(settings["batch_size"]) not in (int, NoneType):
        raise TypeError(f"batch_size is {found(settings['batch_size'])}")


def write_record(path: Path, record: SuiteRecord) -> None:
    """Write the file, whole or not at all.

    Raises:
        CheckpointError: where it cannot be written.
    """
    with explained(path, "make room, and evaluate again: what is measured is kept"):
        path.parent.mkdir(exist_ok=True)
        write_json(path, record.to_json())


def settings_hash(
    table: Mapping[str, Any], facts: Mapping[str, Any], seed: int, device: torch.device
) -> str:
    """A hash of what decides the numbers of a set beside its data.

    The rows a call and the number of processes are not in it: they change rounding alone.

    Args:
        table: the set as plain data.
        facts: of the weights: run, checkpoint, precision and hash.
        seed: of the evaluation.
        device: what computes.
    """
    here = environment(device)
    versions = {name: here[name] for name in ("mdmkit", "torch", "device")}
    return hashed({"set": table, "facts": facts, "seed": seed, "versions": versions})


def hashed(value: Any) -> str:
    """The sha256 of plain data, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
