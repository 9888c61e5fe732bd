"""Text that is shipped with the package: JSON lines in an xz archive, and where it comes from."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from mdmkit.errors import DataError

FOLDER = "embedded"


def archive_of(name: str) -> str:
    """The name of the archive of a text."""
    return f"{name}.jsonl.xz"


def provenance_of(name: str) -> str:
    """The name of the file that says where a text comes from."""
    return f"{name}.provenance.json"


def read_provenance(name: str) -> dict[str, Any]:
    """What the text `name` is: source, version, licence, sha256, documents."""
    path = files("mdmkit.data").joinpath(FOLDER, provenance_of(name))
    provenance: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return provenance


def read_documents(name: str, provenance: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The documents of the text `name`, which is verified before it is unpacked.

    Raises:
        DataError: where the shipped file is not the one that was shipped.
    """
    content = files("mdmkit.data").joinpath(FOLDER, archive_of(name)).read_bytes()
    found, expected = hashlib.sha256(content).hexdigest(), provenance["xz"]["sha256"]
    if found != expected:
        raise DataError(
            f"{archive_of(name)}: the embedded corpus is damaged: its sha256 is {found}, expected "
            f"{expected}; install mdmkit again"
        )
    for line in lzma.decompress(content).decode("utf-8").strip().split("\n"):
        yield json.loads(line)
