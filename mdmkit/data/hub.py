"""The Hugging Face hub: which files a split has, and getting them, without long waits.

A split is fetched once, at a commit that is written down; from then on it is read from the hub's
own cache, with or without a network. Where the hub is out of reach that is said at once: its
client would retry for most of a minute.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from attrs import asdict, frozen

from mdmkit.data.cache import cache_root, make_folder, unwritable
from mdmkit.data.layout import expected_layout, split_files
from mdmkit.data.opening import kind_of
from mdmkit.errors import DataError
from mdmkit.files import write_json
from mdmkit.hub import unreachable
from mdmkit.plain_files import read_json

T = TypeVar("T")


@frozen(kw_only=True)
class HubSplit:
    """A split of a data set on the hub.

    Attributes:
        dataset: ``owner/name``.
        config: the configuration (subset), or None.
        revision: a branch, tag or commit.
        split: the split's name on the hub.
        pattern: of the split's files where they are named otherwise than usual; see
            `layout.split_files`.
    """

    dataset: str
    config: str | None
    revision: str
    split: str
    pattern: str | None = None

    def __str__(self) -> str:
        config = f" ({self.config})" if self.config else ""
        return f"{self.dataset}{config}, split {self.split}, revision {self.revision}"


@frozen(kw_only=True)
class Resolved:
    """What a split stands for: all that its content depends on.

    Attributes:
        commit: the commit that the revision stood for when the hub was last asked.
        names: the files, relative to the top of the repository, in their order.
    """

    commit: str
    names: tuple[str, ...]


@lru_cache  # a branch that moves must not move within a run
def resolve(wanted: HubSplit, *, option: str) -> Resolved:
    """The commit and the files of a split: as the hub says now, or as it last said.

    Args:
        wanted: the split.
        option: what the user can set to a local copy instead, for the message.

    Raises:
        DataError: where the hub is out of reach and was not asked before, where it refuses, or
            where the split is not found.
    """
    reason = unreachable()
    if reason is not None:
        known = _remembered(wanted)
        if known is None:
            raise _out_of_reach(wanted, reason, option)
        return known
    known = _remembered(wanted)
    if known is not None and known.commit == wanted.revision:
        return known  # a commit never changes
    try:
        resolved = ask(str(wanted), lambda: _resolve(wanted), option=option)
    except DataError as error:
        if known is not None and _troubled(error):
            return known
        raise
    _remember(wanted, resolved)
    return resolved


@lru_cache
def fetch_split(wanted: HubSplit, *, option: str) -> tuple[Path, ...]:
    """Get the files of a split onto this machine: from the hub, or as they were fetched before.

    Args:
        wanted: the split.
        option: what the user can set to a local copy instead, for the message.

    Raises:
        DataError: see `resolve`; and where a file that is not here cannot be fetched.
    """
    resolved = resolve(wanted, option=option)
    files = _in_cache(wanted, resolved)
    if files is not None:
        return files
    reason = unreachable()
    if reason is not None:
        raise _out_of_reach(wanted, reason, option)
    return ask(str(wanted), lambda: _download(wanted, resolved), option=option)


def require_reachable(wanted: HubSplit, *, option: str) -> None:
    """Say at once where a split cannot be streamed, since the client would try for a long time.

    Raises:
        DataError: where the hub is out of reach.
    """
    reason = unreachable()
    if reason is not None:
        raise _out_of_reach(wanted, reason, option, but="streaming reads from it each time")


def _troubled(error: DataError) -> bool:
    """Whether the hub itself failed, instead of saying that there is no such thing."""
    response = getattr(error.__cause__, "response", None)
    status = getattr(response, "status_code", None)
    return error.__cause__ is not None and (status is None or status >= 500)


def _out_of_reach(
    wanted: HubSplit, reason: str, option: str, but: str = "this split was not fetched before"
) -> DataError:
    layout = expected_layout(wanted.config, wanted.split, wanted.pattern)
    return DataError(
        f"{wanted}: the Hugging Face hub cannot be reached: {reason}, and {but}",
        remedy="Two ways out: run once with network access, or point to a local copy with "
        f"`--set {option}=…`: a file, or a folder in the hub's layout ({layout})",
    )


def ask(what: str, call: Callable[[], T], *, option: str) -> T:
    """Run `call`, which talks to the hub; any failure of the hub becomes one clear message.

    Raises:
        DataError: what the hub, or the network on the way, said.
    """
    try:
        return call()
    except DataError:
        raise
    except Exception as error:  # the client lets through errors of several HTTP libraries
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"{what}: the hub did not deliver: {said}. Check the name and your access, "
            f"or point to a local copy with `--set {option}=…`"
        ) from error


def _resolve(wanted: HubSplit) -> Resolved:
    from huggingface_hub import HfApi

    info = HfApi().dataset_info(wanted.dataset, revision=wanted.revision)
    commit = str(info.sha)
    listed = [sibling.rfilename for sibling in info.siblings or ()]
    names = split_files(listed, config=wanted.config, split=wanted.split, pattern=wanted.pattern)
    if not names and wanted.pattern is not None:
        raise DataError(f"{wanted}: no file fits {wanted.pattern!r}; there are: {_some(listed)}")
    names = names or _declared_files(wanted, commit)
    return Resolved(commit=commit, names=tuple(names))


def _some(names: list[str]) -> str:
    shown = [n for n in names if kind_of(n)][:5]
    return ", ".join(shown) + (", …" if len(shown) < len(names) else "")


def _download(wanted: HubSplit, resolved: Resolved) -> tuple[Path, ...]:
    from huggingface_hub import hf_hub_download

    return tuple(
        Path(hf_hub_download(wanted.dataset, n, repo_type="dataset", revision=resolved.commit))
        for n in resolved.names
    )


def _in_cache(wanted: HubSplit, resolved: Resolved) -> tuple[Path, ...] | None:
    """The files in the hub's own cache, if every one is there."""
    from huggingface_hub import try_to_load_from_cache

    found = [
        try_to_load_from_cache(wanted.dataset, n, repo_type="dataset", revision=resolved.commit)
        for n in resolved.names
    ]
    files = tuple(Path(f) for f in found if isinstance(f, str))
    return files if len(files) == len(resolved.names) else None


def _declared_files(wanted: HubSplit, commit: str) -> list[str]:
    """The files that the data set's own card declares for the split."""
    from datasets import load_dataset_builder

    builder = load_dataset_builder(wanted.dataset, name=wanted.config, revision=commit)
    by_split: dict[str, Any] = dict(builder.config.data_files or {})
    if wanted.split not in by_split:
        raise DataError(
            f"{wanted}: no such split; the data set has: {', '.join(by_split) or 'none'}"
        )
    # Addresses look like hf://datasets/owner/name@commit/path/of/the.file
    names = [str(f).split(f"@{commit}/", 1)[-1] for f in by_split[wanted.split]]
    unreadable = [n for n in names if kind_of(n) is None]
    if unreadable:
        raise DataError(
            f"{wanted}: its files ({unreadable[0]}) are of no kind that can be read; try "
            "revision = 'refs/convert/parquet', the hub's own conversion"
        )
    return names


def _record(wanted: HubSplit) -> Path:
    key = hashlib.sha256(json.dumps(asdict(wanted), sort_keys=True).encode()).hexdigest()[:32]
    return cache_root() / "hub" / f"{key}.json"


def _remember(wanted: HubSplit, resolved: Resolved) -> None:
    path = _record(wanted)
    make_folder(path.parent)
    try:
        write_json(path, {"commit": resolved.commit, "names": list(resolved.names)})
    except OSError as error:
        raise unwritable(path, error) from error


def _remembered(wanted: HubSplit) -> Resolved | None:
    try:
        record = read_json(_record(wanted))
        return Resolved(commit=str(record["commit"]), names=tuple(record["names"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no record, or none that can be used: the same as never asked
