"""The files of a pretrained model: in a local folder, or from the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit import DataError
from mdmkit_hf.importing.hub import fetched, is_name
from mdmkit_hf.importing.tensors import read_json

OPTION = "denoiser.pretrained"
"""The option that names the model, for messages."""

CONFIG = "config.json"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")

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
    path = (folder or _from_hub(model, revision, CONFIG)) / CONFIG
    try:
        values = read_json(path, what=_LOCAL)
    except DataError as error:
        raise DataError(f"{OPTION}: {error}") from error
    architecture = values.get("model_type")
    if not isinstance(architecture, str):
        raise DataError(
            f"{OPTION}: {path}: no config of transformers (model_type is {architecture!r}); "
            "expected a JSON object with model_type"
        )
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
        folder = _from_hub(model, revision, CONFIG, *WEIGHTS)
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
    if not is_name(model):
        raise DataError(
            f'{OPTION}: there is no folder "{model}"; expected {_LOCAL}, or owner/name on the hub'
        )
    return None


def _from_hub(model: str, revision: str | None, *files: str) -> Path:
    """The folder of what is on the hub, or was fetched before.

    Raises:
        DataError: where neither can be had.
    """
    try:
        return fetched(model, revision, files)
    except DataError as error:
        raise DataError(f"{OPTION}: {error}") from error
