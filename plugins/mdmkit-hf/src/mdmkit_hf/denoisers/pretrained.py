"""The files of a pretrained model: in a local folder, or from the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit import DataError

OPTION = "denoiser.pretrained"
"""The option that names the model, for messages."""

CONFIG = "config.json"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")

_ON_HUB = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_LOCAL = "a folder with config.json and weights in .safetensors"


@frozen(kw_only=True)
class FoundConfig:
    """What a config.json says.

    Attributes:
        architecture: its model_type.
        values: everything in it.
        commit: on the hub; None of a local folder.
    """

    architecture: str
    values: Mapping[str, Any]
    commit: str | None


def read_config(model: str, revision: str | None) -> FoundConfig:
    """The config of a model.

    Args:
        model: a folder, or owner/name on the hub.
        revision: on the hub.

    Raises:
        DataError: where it cannot be had, or is none.
    """
    folder = _local(model)
    if folder is None:
        path = _from_hub(model, lambda offline: _one_file(model, revision, offline=offline))
    else:
        path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        architecture = values["model_type"]
        if not isinstance(architecture, str):
            raise TypeError(f"model_type is {architecture!r}")
    except OSError as error:
        raise DataError(
            f"{OPTION}: {path}: cannot be read: {error.strerror or error}; expected {_LOCAL}"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{OPTION}: {path}: no config of transformers ({type(error).__name__}: {error}); "
            "expected a JSON object with model_type"
        ) from error
    return FoundConfig(
        architecture=architecture,
        values=values,
        commit=path.parent.name if folder is None else None,
    )


def weights_folder(model: str, revision: str | None) -> Path:
    """The folder that has the weights of a model, fetched now where they are on the hub.

    Raises:
        DataError: where they cannot be had.
    """
    folder = _local(model)
    if folder is None:
        folder = _from_hub(model, lambda offline: _snapshot(model, revision, offline=offline))
    if any(folder.glob("*.safetensors")):
        return folder
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    beside = f" ({pickles[0]} is a pickle, which is never read)" if pickles else ""
    raise DataError(f"{OPTION}: {folder}: has no .safetensors{beside}; expected {_LOCAL}")


def _local(model: str) -> Path | None:
    """The folder of that name; None where the name is one of the hub's."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if not _ON_HUB.fullmatch(model):
        raise DataError(
            f'{OPTION}: there is no folder "{model}"; expected {_LOCAL}, or owner/name on the hub'
        )
    return None


def _one_file(model: str, revision: str | None, *, offline: bool) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(model, CONFIG, revision=revision, local_files_only=offline))


def _snapshot(model: str, revision: str | None, *, offline: bool) -> Path:
    from huggingface_hub import snapshot_download

    found = snapshot_download(
        model,
        revision=revision,
        allow_patterns=[CONFIG, *WEIGHTS],
        ignore_patterns=["*/*"],  # other formats' folders
        local_files_only=offline,
    )
    return Path(found)


def _from_hub(model: str, fetch: Callable[[bool], Path]) -> Path:
    """What `fetch` finds on the hub, else what it fetched before.

    Raises:
        DataError: where neither can be had.
    """
    try:
        return fetch(False)
    except (OSError, ValueError) as error:  # the hub's own errors are OSErrors
        try:
            return fetch(True)
        except (OSError, ValueError):
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(
                f'{OPTION}: the model "{model}" cannot be had from the Hugging Face hub: {reason}',
                remedy=f"It is no folder here, either. Three ways out: check the name, run once "
                f"with network access, or `--set {OPTION}=…` with {_LOCAL}",
            ) from error
