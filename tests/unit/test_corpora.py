from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import lzma
import tarfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mdmkit import DataError
from mdmkit.builtin.corpora import Hub, Lm1b, StateOfTheUnion, Text, mdmkit_corpora
from mdmkit.builtin.corpora import state_of_the_union as module
from mdmkit.data.shipped import FOLDER
from mdmkit.protocols import Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
EMBEDDED = files("mdmkit.data").joinpath(FOLDER)
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "embed_state_of_the_union.py"


def test_the_hook_names_them() -> None:
    assert {
        "state_of_the_union": StateOfTheUnion,
        "text": Text,
        "hub": Hub,
        "lm1b": Lm1b,
    }.items() <= dict(mdmkit_corpora()).items()


# --- the embedded corpus -------------------------------------------------------------------


@pytest.fixture(scope="module")
def provenance() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(EMBEDDED.joinpath(module.PROVENANCE).read_text("utf-8"))
    return content


@pytest.fixture(scope="module")
def speeches(provenance: dict[str, Any]) -> list[dict[str, Any]]:
    packed = EMBEDDED.joinpath(module.ARCHIVE).read_bytes()
    assert len(packed) == provenance["xz"]["bytes"]
    assert hashlib.sha256(packed).hexdigest() == provenance["xz"]["sha256"]
    lines = lzma.decompress(packed)
    assert hashlib.sha256(lines).hexdigest() == provenance["jsonl"]["sha256"]
    return [json.loads(line) for line in lines.decode().strip().split("\n")]


def test_the_shipped_file_is_what_its_provenance_says(
    provenance: dict[str, Any], speeches: list[dict[str, Any]]
) -> None:
    assert provenance["documents"] == len(speeches) == 233
    assert provenance["version"] == "0.2.3"
    assert provenance["text_bytes"] == sum(len(s["text"].encode()) for s in speeches)
    assert (speeches[0]["year"], speeches[-1]["year"]) == (1790, 2021)
    assert all(s["text"] == " ".join(s["text"].split()) for s in speeches)


def test_the_rule_gives_the_lists_in_the_provenance(
    provenance: dict[str, Any], speeches: list[dict[str, Any]]
) -> None:
    assert provenance["split_rule"] == module.RULE
    for split in SPLITS:
        ids = [s["id"] for s in speeches if module.split_of(s["year"]) == split]
        assert provenance["splits"][split]["ids"] == ids
        assert provenance["splits"][split]["documents"] == len(ids)
    listed = [i for split in SPLITS for i in provenance["splits"][split]["ids"]]
    assert sorted(listed) == sorted(s["id"] for s in speeches)


def test_held_out_are_whole_presidencies_early_and_late(speeches: list[dict[str, Any]]) -> None:
    by_split = {s: [x for x in speeches if module.split_of(x["year"]) == s] for s in SPLITS}
    presidents = {split: {x["president"] for x in found} for split, found in by_split.items()}
    assert presidents["validation"] == presidents["test"]
    assert not presidents["train"] & presidents["test"]
    total = sum(len(s["text"]) for s in speeches)
    for split in ("validation", "test"):
        assert 0.02 < sum(len(s["text"]) for s in by_split[split]) / total < 0.04
        years = [s["year"] for s in by_split[split]]
        assert min(years) < 1800
        assert max(years) > 2010


def test_the_corpus_reads_the_splits(speeches: list[dict[str, Any]]) -> None:
    corpus = StateOfTheUnion()
    texts = [t for split in SPLITS for t in corpus.documents(split)]
    assert sorted(texts) == sorted(s["text"] for s in speeches)
    assert next(corpus.documents("train")).startswith("Fellow-Citizens of the Senate and House")
    assert len({corpus.fingerprint(split) for split in SPLITS}) == 3
    assert "CC0" in corpus.describe("test")["licence"]
    json.dumps(corpus.describe("test"))


def test_a_damaged_install_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"xz": {"sha256": "0" * 64}}
    monkeypatch.setattr(module, "_provenance", lambda: wrong)
    with pytest.raises(DataError, match=r"is damaged: its sha256 is .*install mdmkit again"):
        next(StateOfTheUnion().documents("train"))


@pytest.mark.skipif(not SCRIPT.exists(), reason="the script is not part of the package")
def test_the_script_makes_the_same_text_and_the_same_bytes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provenance: dict[str, Any]
) -> None:
    spec = importlib.util.spec_from_file_location("embed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert provenance["tarball"]["sha256"] == script.TARBALL_SHA256

    tarball = tmp_path / "package.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        for year in (1797, 1790, 2012):
            facts = {"year": year, "name": "N. N.", "text": "ignored"}
            for suffix, content in ((".txt", f" {year}  a\nb \n"), (".json", json.dumps(facts))):
                member = tarfile.TarInfo(f"package/data/{year}_n_n{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content.encode()))
    monkeypatch.setattr("sys.argv", ["embed", str(tarball), "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="sha256"):
        script.main()
    monkeypatch.setattr(script, "TARBALL_SHA256", hashlib.sha256(tarball.read_bytes()).hexdigest())
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr("sys.argv", ["embed", str(tarball), "--output", str(tmp_path / name)])
        script.main()
        made.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    lines = lzma.decompress(made[0][module.ARCHIVE]).decode().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["1790 a b", "1797 a b", "2012 a b"]
    splits = json.loads(made[0][module.PROVENANCE])["splits"]
    assert [splits[s]["ids"] for s in SPLITS] == [["1790_n_n"], ["2012_n_n"], ["1797_n_n"]]


# --- local text ----------------------------------------------------------------------------


def test_text_splits_are_files_folders_and_globs(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    for name in ("b", "a"):
        (tmp_path / "books" / f"{name}.txt").write_text(f"book {name}")
    (tmp_path / "valid.jsonl").write_text('{"body": "held out"}\n')
    (tmp_path / "valid.txt").write_text("one\ntwo\n")
    corpus = Text(
        train=str(tmp_path / "books"),
        validation=str(tmp_path / "valid.*"),
        column="body",
        document="line",
    )
    assert list(corpus.documents("train")) == ["book a", "book b"]
    assert list(corpus.documents("validation")) == ["held out", "one", "two"]
    assert corpus.describe("validation")["files"] == ["valid.jsonl", "valid.txt"]
    with pytest.raises(DataError, match=r"data\.corpus\.test: not set.*--set data\.corpus\.test="):
        corpus.documents("test")


def test_text_fingerprint_follows_content_and_options(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo")
    lines, whole = Text(train=str(path), document="line"), Text(train=str(path))
    first = whole.fingerprint("train")
    assert lines.fingerprint("train") != first
    path.write_text("one\nthree")
    assert whole.fingerprint("train") != first


# --- the hub's layout, on this machine -----------------------------------------------------


def write_parquet(path: Path, texts: list[str], column: str = "text") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: texts}), path)


@pytest.fixture
def lm1b(tmp_path: Path) -> Path:
    folder = tmp_path / "lm1b"
    for number in (1, 0):
        write_parquet(folder / f"plain_text/train/000{number}.parquet", [f"train {number}", ""])
    write_parquet(folder / "plain_text/test/0000.parquet", ["test"])
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)


def test_lm1b_from_a_local_copy(lm1b: Path) -> None:
    corpus = Lm1b(path=str(lm1b))
    assert list(corpus.documents("train")) == ["train 0", "train 1"]
    assert list(corpus.documents("validation")) == list(corpus.documents("test")) == ["test"]
    assert corpus.describe("train")["files"] == ["0000.parquet", "0001.parquet"]
    assert corpus.fingerprint("train") != corpus.fingerprint("test")
    assert corpus.fingerprint("validation") == corpus.fingerprint("test")
    inside = Lm1b(path=str(lm1b / "plain_text"))
    assert inside.fingerprint("train") == corpus.fingerprint("train")


def test_a_single_file_is_the_train_split(lm1b: Path) -> None:
    path = str(lm1b / "plain_text/test/0000.parquet")
    assert list(Lm1b(path=path).documents("train")) == ["test"]
    with pytest.raises(
        DataError, match=r"single file, which is taken for the train split; the validation split"
    ):
        Lm1b(path=path).documents("validation")
    same = Lm1b(path=path, validation="train")
    assert list(same.documents("validation")) == ["test"]


def test_other_columns_and_formats(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a"], column="sentence")
    (tmp_path / "dev.jsonl").write_text('{"sentence": "b"}\n')
    (tmp_path / "test.txt").write_text("c\nd\n")
    corpus = Hub(dataset="x/y", column="sentence", validation="dev", path=str(tmp_path))
    assert [list(corpus.documents(s)) for s in SPLITS] == [["a"], ["b"], ["c", "d"]]


def test_a_local_copy_that_is_missing_or_laid_out_otherwise(tmp_path: Path, lm1b: Path) -> None:
    with pytest.raises(
        DataError, match=r"nothing at .*nowhere.*a local copy of billion.*plain_text/train/\*"
    ):
        Lm1b(path=str(tmp_path / "nowhere")).documents("train")
    with pytest.raises(DataError, match=r"no files of the split 'validation' of x/y"):
        Hub(dataset="x/y", config="plain_text", path=str(lm1b)).documents("validation")
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(DataError, match=r"data\.corpus\.path: .*notes\.md: cannot tell what"):
        Lm1b(path=str(tmp_path / "notes.md")).documents("train")


def test_without_path_and_network_there_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path))
    for ask in (Lm1b().documents, Lm1b().fingerprint, Lm1b().describe):
        with pytest.raises(DataError, match=r"network access.*--set data\.corpus\.path=") as caught:
            ask("train")
        assert "\n" not in str(caught.value)
