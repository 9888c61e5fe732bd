"""Where weights are: a local file or folder, or a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from mdmkit import DataError
from mdmkit.hub import unreachable

_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_READ = ("*.json", "*.safetensors", "recipe.toml")


@frozen(kw_only=True)
class Place:
    """A file or folder on this machine, and where it is from.

    Attributes:
        path: of it.
        commit: on the hub; None for what was local already.
    """

    path: Path
    commit: str | None = None


def find(source: str, revision: str | None) -> Place:
    """What `source` means: a path, else a name on the hub, whose files are fetched once.

    Nothing but JSON, safetensors and a recipe is fetched: no code, no pickle.

    Raises:
        DataError: where there is no such path and the hub does not have it or is out of reach.
    """
    path = Path(source).expanduser()
    if path.exists():
        if revision is not None:
            raise DataError(f"--revision: {source} is local; leave it out")
        return Place(path=path)
    if not is_name(source):
        raise DataError(
            f'SOURCE: there is nothing at "{source}"; expected a folder with config.json and '
            "model.safetensors, a .ckpt file, or owner/name on the hub"
        )
    folder = fetched(source, revision)
    return Place(path=folder, commit=folder.name)


def is_name(source: str) -> bool:
    """Whether a repository of the hub may have that name."""
    return _ON_HUB.fullmatch(source) is not None


def fetched(repo: str, revision: str | None, files: Sequence[str] = _READ) -> Path:
    """The folder of a repository's commit, with the files fetched that are not there yet.

    Without a network, what was fetched before is taken.

    Args:
        repo: its name on the hub.
        revision: commit, tag or branch; the newest by default.
        files: patterns of their names; none in folders of the repository.

    Raises:
        DataError: where the hub does not have it, or is out of reach; that is said at once.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fetch(*, offline: bool) -> Path:
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                allow_patterns=list(files),
                ignore_patterns=["*/*"],
                local_files_only=offline,
            )
        )

    reason = unreachable()
    try:
        return fetch(offline=reason is not None)
    except LocalEntryNotFoundError as error:
        raise DataError(
            f"{repo}: there is no such path here, the Hugging Face hub cannot be reached: "
            f"{reason or error}, and it was not fetched before",
            remedy="Two ways out: run once with network access, or give a local folder with "
            "config.json and model.safetensors",
        ) from error
    except Exception as error:  # the client lets through errors of several HTTP libraries
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"{repo}: there is no such path here, and the hub did not deliver: {said}. Check the "
            "name and your access, or give a local folder"
        ) from error
