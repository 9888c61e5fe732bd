"""The Hugging Face hub: which files a split has, and getting them, without long waits.

A split is fetched once, at a commit that is written down; from then on it is read from the hub's
own cache, with or without a network. Where the hub is out of reach that is said at once: its
client would retry for most of a minute.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from attrs import asdict, frozen

from mdmkit.data.cache import cache_root
from mdmkit.data.layout import expected_layout, split_files
from mdmkit.data.opening import kind_of
from mdmkit.errors import DataError
from mdmkit.files import write_json

T = TypeVar("T")
_PROBE_SECONDS = 3.0


@frozen(kw_only=True)
class HubSplit:
    """A split of a data set on the hub.

    Attributes:
        dataset: ``owner/name``.
        config: the configuration (subset), or None.
        revision: a branch, tag or commit.
        split: the split's name on the hub.
    """

    dataset: str
    config: str | None
    revision: str
    split: str

    def __str__(self) -> str:
        config = f" ({self.config})" if self.config else ""
        return f"{self.dataset}{config}, split {self.split}, revision {self.revision}"


@frozen(kw_only=True)
class Fetched:
    """A split on this machine.

    Attributes:
        commit: the commit that the revision stood for when the files were fetched.
        names: the files, relative to the top of the repository.
        files: where they are.
    """

    commit: str
    names: tuple[str, ...]
    files: tuple[Path, ...]


def unreachable() -> str | None:
    """Why the hub cannot be asked, or None if something answers at its address.

    Looks at the offline switches (``HF_HUB_OFFLINE``, ``HF_DATASETS_OFFLINE``), then opens a
    connection to the configured endpoint, or to the proxy that leads there. At most a few
    seconds.
    """
    from huggingface_hub import constants

    for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(switch, "").upper() in {"1", "ON", "YES", "TRUE"}:
            return f"{switch} is set"
    address = urlsplit(constants.ENDPOINT)
    host = address.hostname or ""
    proxy = None if proxy_bypass(host) else getproxies().get(address.scheme)
    if proxy:
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_PROBE_SECONDS).close()
    except OSError as error:
        return f"no connection to {address.hostname}:{port} ({error.strerror or error})"
    return None


@lru_cache  # a branch that moves must not move within a run
def fetch_split(wanted: HubSplit, *, option: str) -> Fetched:
    """Get the files of a split: from the hub, or as they were fetched before.

    Args:
        wanted: the split.
        option: what the user can set to a local copy instead, for the message.

    Raises:
        DataError: where the hub is out of reach and the split was not fetched before, where it
            refuses, or where the split is not found.
    """
    reason = unreachable()
    if reason is not None:
        known = _remembered(wanted)
        if known is not None:
            return known
        raise DataError(
            f"{wanted}: the Hugging Face hub cannot be reached: {reason}, and this split was not "
            f"fetched before. Two ways out: run once with network access, or point to a local "
            f"copy with `--set {option}=…`: a file, or a folder in the hub's layout "
            f"({expected_layout(wanted.config, wanted.split)})"
        )
    fetched = ask(str(wanted), lambda: _download(wanted), option=option)
    _remember(wanted, fetched)
    return fetched


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


def _download(wanted: HubSplit) -> Fetched:
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().dataset_info(wanted.dataset, revision=wanted.revision)
    commit = str(info.sha)
    listed = [sibling.rfilename for sibling in info.siblings or ()]
    names = split_files(listed, config=wanted.config, split=wanted.split)
    if not names:
        names = _declared_files(wanted, commit)
    files = [
        hf_hub_download(wanted.dataset, name, repo_type="dataset", revision=commit)
        for name in names
    ]
    return Fetched(commit=commit, names=tuple(names), files=tuple(Path(f) for f in files))


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


def _remember(wanted: HubSplit, fetched: Fetched) -> None:
    path = _record(wanted)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"commit": fetched.commit, "names": list(fetched.names)})


def _remembered(wanted: HubSplit) -> Fetched | None:
    """What was fetched before, if every file of it is still in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    try:
        record = json.loads(_record(wanted).read_text(encoding="utf-8"))
        commit, names = str(record["commit"]), tuple(record["names"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no record, or none that can be used: the same as never fetched
    files = [
        try_to_load_from_cache(wanted.dataset, name, repo_type="dataset", revision=commit)
        for name in names
    ]
    found = [Path(f) for f in files if isinstance(f, str)]
    if len(found) != len(names):
        return None
    return Fetched(commit=commit, names=names, files=tuple(found))
