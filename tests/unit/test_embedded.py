from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import lzma
import shutil
import struct
import tarfile
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import attrs
import pytest

from mdmkit import DataError
from mdmkit.builtin.corpora import Embedded, StateOfTheUnion
from mdmkit.builtin.corpora import embedded as module
from mdmkit.data.shipped import FOLDER, archive_of, provenance_of

TEXTS: tuple[Literal["moby_dick", "bible", "jargon"], ...] = ("moby_dick", "bible", "jargon")
SHIPPED = files("mdmkit.data").joinpath(FOLDER)
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "embed_texts.py"


def provenance(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(SHIPPED.joinpath(provenance_of(name)).read_text("utf-8"))
    return content


@pytest.mark.parametrize("name", TEXTS)
def test_the_shipped_file_is_what_its_provenance_says(name: Any) -> None:
    facts, packed = provenance(name), SHIPPED.joinpath(archive_of(name)).read_bytes()
    assert len(packed) == facts["xz"]["bytes"] < 300_000
    lines = lzma.decompress(packed)
    assert hashlib.sha256(lines).hexdigest() == facts["jsonl"]["sha256"]
    texts = list(Embedded(text=name).documents("test"))
    assert texts == [json.loads(line)["text"] for line in lines.decode().strip().split("\n")]
    assert len(texts) == facts["documents"]
    assert sum(len(text.encode()) for text in texts) == facts["text_bytes"]
    assert all(text == text.strip() and len(text) > 400 for text in texts)
    assert "public domain" in facts["licence_text"].lower() or "expired" in facts["licence_text"]


def test_the_names_are_those_of_the_option() -> None:
    assert get_args(attrs.fields_dict(attrs.resolve_types(Embedded))["text"].type) == TEXTS


def test_well_known_words() -> None:
    first = {name: next(Embedded(text=name).documents("test")) for name in TEXTS}
    assert first["moby_dick"].startswith("Call me Ishmael. Some years ago—never mind how long")
    assert first["bible"].startswith("In the beginning God created the heaven and the earth. And")
    bible = list(Embedded(text="bible").documents("test"))
    assert len(bible) == 50 + 42 + 12 + 24 + 16 + 22
    assert not any(character.isdigit() for text in bible for character in text)
    jargon = list(Embedded(text="jargon").documents("test"))
    assert any(text.startswith("hacker: n.\n\n[originally, someone who makes") for text in jargon)
    assert all(len(text) >= 1000 for text in jargon)
    assert not any("Crunchly saga is" in text for text in jargon)


def test_there_is_but_a_test_split() -> None:
    corpus = Embedded(text="bible")
    for ask in (corpus.documents, corpus.fingerprint, corpus.describe):
        with pytest.raises(DataError, match="'bible' has a test split only; the train split is"):
            ask("train")


def test_texts_differ_in_fingerprint_and_facts() -> None:
    prints = {Embedded(text=name).fingerprint("test") for name in TEXTS}
    assert len(prints | {StateOfTheUnion().fingerprint("test")}) == 4
    facts = Embedded(text="jargon").describe("test")
    assert (facts["licence"], facts["version"]) == ("public domain", "4.4.7-4.1")
    json.dumps(facts)


def test_a_damaged_install_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"xz": {"sha256": "0" * 64}}
    monkeypatch.setattr(module, "read_provenance", {"bible": wrong}.get)
    with pytest.raises(DataError, match=r"bible\.jsonl\.xz: .*is damaged.*install mdmkit again"):
        next(Embedded(text="bible").documents("test"))


# --- the script that made them -------------------------------------------------------------


@pytest.fixture(scope="module")
def script() -> ModuleType:
    if not SCRIPT.exists() or shutil.which("gzip") is None:
        pytest.skip("the script is not part of the package, and needs gzip")
    spec = importlib.util.spec_from_file_location("embed_texts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def tar(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:xz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def deb(path: str, content: bytes) -> bytes:
    """A Debian package with one file."""
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": b"odd",
        "data.tar.xz": tar({f"./{path}": content}),
    }
    parts = [b"!<arch>\n"]
    for name, packed in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(packed):<10}`\n".encode())
        parts.append(packed + b"\n" * (len(packed) % 2))
    return b"".join(parts)


def lzw(text: bytes) -> bytes:
    """As of compress(1), without its mark, in codes of nine bits and nothing repeated."""
    codes = sum(byte << (9 * place) for place, byte in enumerate(text))
    return codes.to_bytes((9 * len(text) + 7) // 8, "little")


def as_bible(windows: list[bytes]) -> bytes:
    packed = [lzw(window) for window in windows]
    places, place = [], 0x5C + 4 * len(packed)
    for window in packed:
        places.append(place)
        place += len(window)
    head = bytes(0x58) + struct.pack(f">{1 + len(packed)}I", len(packed), *places)
    return head + b"".join(packed)


def test_the_script_cuts_the_packages_as_it_says(script: ModuleType) -> None:
    chapters = {
        f"package/data/chapter_{i}.json": json.dumps({"title": f"T{i}", "text": f"text {i}\n"})
        for i in range(1, 136)
    }
    packed = tar({name: text.encode() for name, text in chapters.items()})
    whale = list(script.moby_dick(packed))
    assert [d["text"] for d in whale] == [f"text {i}" for i in range(1, 136, 2)]
    assert whale[1] == {"id": "chapter_3", "title": "T3", "text": "text 3"}

    verses = b"Holy Bible.\nGe1:1 In the\nGe1:2 And.\nExo1:1 Now\nRev2:1 Un"
    data = as_bible([verses, b"to\nRev22:3 And\n"])
    assert list(script.bible(deb("usr/lib/bible.data", data))) == [
        {"id": "genesis_1", "title": "Genesis 1", "text": "In the And."},
        {"id": "revelation_2", "title": "Revelation 2", "text": "Unto"},
        {"id": "revelation_22", "title": "Revelation 22", "text": "And"},
    ]

    long = "word {cross reference}\n   more. " * 40
    lexicon = (
        "   Glossary\n\nGlossary\n\n   A\n\n   :short: n.\n\n   Too short.\n"
        f"\n   :long:  /long/, n.\n\n   {long}\n\n   (The next cartoon is\n   that.)\n"
        "\nAppendix\N{NO-BREAK SPACE}A. Hacker Folklore\n\n   :not: this\n"
    )
    path = "usr/share/doc/jargon-text/jargon.txt.gz"
    (entry,) = script.jargon(deb(path, gzip.compress(lexicon.encode())))
    assert entry["title"] == "long"
    assert entry["text"] == "long: /long/, n.\n\n" + " ".join(["word cross reference more."] * 40)


def test_the_script_writes_the_same_bytes_twice_and_refuses_other_packages(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in script.TEXTS.items():
        assert provenance(name)["package"] == {"name": text.package, "sha256": text.sha256}
    one = {"bible": script.TEXTS["bible"]}
    package = deb("usr/lib/bible.data", as_bible([b"Ge1:1 In the beginning\n"]))
    (tmp_path / one["bible"].package).write_bytes(package)
    monkeypatch.setattr(script, "TEXTS", one)
    monkeypatch.setattr("sys.argv", ["embed", str(tmp_path), "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="sha256"):
        script.main()
    own = attrs.evolve(one["bible"], sha256=hashlib.sha256(package).hexdigest())
    monkeypatch.setattr(script, "TEXTS", {"bible": own})
    made = []
    for _ in range(2):
        script.main()
        made.append([(tmp_path / of("bible")).read_bytes() for of in (archive_of, provenance_of)])
    assert made[0] == made[1]
    assert json.loads(lzma.decompress(made[0][0]))["text"] == "In the beginning"
