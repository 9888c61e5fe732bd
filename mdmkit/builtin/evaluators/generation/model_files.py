"""The files of a published language model: from a folder, or from the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from mdmkit.data.hub import ask
from mdmkit.errors import DataError
from mdmkit.files import sha256_file
from mdmkit.hub import unreachable

OPTION = "evaluators.<label>.judge.model"
"""The option that names it, for messages."""

_READ = ("*.json", "*.txt", "*.model", "*.safetensors")
_ON_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?")
_EXPECTED = "config.json, the tokenizer's files and weights in .safetensors"


@frozen(kw_only=True)
class ModelFiles:
    """A folder that holds a model, and where it is from.

    Attributes:
        folder: with config, tokenizer and weights.
        commit: on the hub; None for a local folder.
    """

    folder: Path
    commit: str | None = None

    @classmethod
    def find(cls, model: str, revision: str | None) -> ModelFiles:
        """The files of `model`, a folder or a name on the hub; the hub's are fetched once.

        Raises:
            DataError: where they cannot be had.
        """
        folder = Path(model).expanduser()
        if folder.is_dir():
            return cls(folder=_whole(folder))
        if not _ON_HUB.fullmatch(model) or model.startswith("."):
            raise DataError(
                f'{OPTION}: there is no folder "{model}"; expected one with {_EXPECTED}, or '
                "owner/name on the hub"
            )
        found = _from_hub(model, revision)
        return cls(folder=_whole(found), commit=found.name)

    def sha256(self) -> Mapping[str, str]:
        """A hash of every file that may be read, by name."""
        paths = {path for pattern in _READ for path in self.folder.glob(pattern)}
        return {path.name: sha256_file(path) for path in sorted(paths)}


def _problem(folder: Path) -> str | None:
    """What a folder lacks, or None."""
    if not (folder / "config.json").is_file():
        return "it has no config.json"
    if not list(folder.glob("*.safetensors")):
        pickles = [path.name for path in sorted(folder.glob("*.bin"))]
        return "it has no .safetensors" + (
            f" ({pickles[0]} is a pickle, which is never read)" if pickles else ""
        )
    return None


def _whole(folder: Path) -> Path:
    problem = _problem(folder)
    if problem is not None:
        raise DataError(f"{OPTION}: {folder}: {problem}; expected {_EXPECTED}")
    return folder


def _from_hub(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fetch(*, offline: bool) -> Path:
        found = snapshot_download(
            model,
            revision=revision,
            allow_patterns=list(_READ),
            ignore_patterns=["*/*"],  # other formats' folders
            local_files_only=offline,
        )
        return Path(found)

    reason = unreachable()
    if reason is None:
        return ask(f"model {model}", lambda: fetch(offline=False), option=OPTION)
    try:
        folder = fetch(offline=True)
    except LocalEntryNotFoundError:
        folder = None
    if folder is not None and _problem(folder) is None:
        return folder
    raise DataError(
        f"model {model}: the Hugging Face hub cannot be reached: {reason}, and it was not fetched "
        "before",
        remedy=f"Three ways out: run once with network access, `--set {OPTION}=…` with a local "
        f"folder that has {_EXPECTED}, or judge by a run of your own: judge.run",
    )
