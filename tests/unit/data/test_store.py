from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from mdmkit import DataError
from mdmkit.data import encoding, token_files, tokenization
from mdmkit.data.cache import ignore, is_locked, locked
from mdmkit.data.store import Frame, TokenStore, open_store
from mdmkit.data.text_tokenizer import SpecialTokens, TextTokenizer, wrap
from mdmkit.data.token_files import token_dtype

ROOT = Path(__file__).parents[3]


def word_tokenizer(size: int = 300, mask: str = "<m>") -> TextTokenizer:
    words = {"<m>": 0, "</s>": 1, "<u>": 2} | {f"w{i}": i for i in range(3, size)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<u>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrap(backend, SpecialTokens(mask=mask, eos="</s>"), where="test")


def texts(count: int) -> list[str]:
    return [" ".join(f"w{3 + (i * j) % 250}" for j in range(1 + i % 7)) for i in range(count)]


def opened(root: Path, corpus: Any, notes: list[str] | None = None, **options: Any) -> TokenStore:
    tokenizer = options.pop("tokenizer", None) or word_tokenizer()
    frame = options.pop("frame", Frame(after=(1,)))
    notify = ignore if notes is None else notes.append
    return open_store(corpus, "train", tokenizer, frame, root=root, notify=notify, **options)


def test_documents_come_back_framed(tmp_path: Path, listed: Any) -> None:
    written = texts(50)
    store = opened(tmp_path, listed(train=written), frame=Frame(before=(1,), after=(1, 1)))
    assert store.tokens.dtype == np.uint16
    for number, text in enumerate(written):
        ids = store.tokens[store.offsets[number] : store.offsets[number + 1]].tolist()
        assert ids == [1, *(int(w[1:]) for w in text.split()), 1, 1]
    assert store.counts.documents == 50
    assert store.counts.tokens == len(store.tokens) == store.offsets[-1]
    assert store.counts.utf8_bytes == sum(len(t) for t in written)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(256, "u1"), (257, "<u2"), (65536, "<u2"), (65537, "<u4")],
)
def test_the_smallest_type_that_holds_the_ids(size: int, dtype: str) -> None:
    assert token_dtype(size) == np.dtype(dtype)


@pytest.fixture
def odd_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks of uneven sizes, and processes from the first documents on."""
    monkeypatch.setattr(encoding, "_CHUNK_CHARACTERS", 331)
    monkeypatch.setattr(encoding, "_CHUNK_DOCUMENTS", 37)
    monkeypatch.setattr(encoding, "_ALONE_CHARACTERS", 1)


def content(root: Path) -> dict[str, bytes]:
    """The files of the only store in a cache."""
    (folder,) = (root / "tokens").iterdir()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("odd_chunks")
def test_neither_processes_nor_chunks_change_the_files(
    tmp_path: Path, listed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = listed(train=[*texts(300), " ", "w3 w4", *texts(450)])
    found = []
    for workers in (1, 2, 5):
        opened(tmp_path / str(workers), corpus, workers=workers)
        found.append(content(tmp_path / str(workers)))
    monkeypatch.undo()
    opened(tmp_path / "whole", corpus)
    found.append(content(tmp_path / "whole"))
    assert set(found[0]) == {"tokens.bin", "offsets.bin", "utf8_bytes.bin", "manifest.json"}
    assert all(files == found[0] for files in found)


@pytest.mark.usefixtures("odd_chunks")
def test_processes_are_started_and_end(
    tmp_path: Path, listed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    popen = encoding.subprocess.Popen
    monkeypatch.setattr(
        encoding.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1]
    )
    opened(tmp_path, listed(train=texts(300)), workers=2)
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)


@pytest.mark.usefixtures("odd_chunks")
def test_special_tokens_in_text_are_text_in_every_process(tmp_path: Path, listed: Any) -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "</s>": 1, "<u>": 2, "<m>": 3}, unk_token="<u>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()  # takes "<m>" apart, if it is text
    backend.add_special_tokens(["<m>"])
    tokenizer = wrap(backend, SpecialTokens(mask="<m>", eos="</s>"), where="test")
    store = opened(tmp_path, listed(train=["a <m> a"] * 400), tokenizer=tokenizer, workers=2)
    assert store.tokens[:6].tolist() == [0, 2, 2, 2, 0, 1]
    assert store.counts.tokens == 6 * 400


@pytest.mark.usefixtures("odd_chunks")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_document_is_named_whoever_tokenizes_it(
    tmp_path: Path, listed: Any, workers: int
) -> None:
    with pytest.raises(DataError, match="document 251: its text is tokenized to the mask"):
        opened(tmp_path, listed(train=[*texts(250), " ", "w3 <m>", *texts(200)]), workers=workers)
    assert list((tmp_path / "tokens").iterdir()) == []
    backend = Tokenizer(models.WordLevel({"a": 0, "<m>": 1}, unk_token="<none>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = wrap(backend, SpecialTokens(mask="<m>"), where="test")
    with pytest.raises(DataError, match="no token for the character 'b'"):
        opened(
            tmp_path,
            listed(train=["a"] * 300 + ["b"]),
            tokenizer=tokenizer,
            frame=Frame(),
            workers=workers,
        )


@pytest.mark.usefixtures("odd_chunks")
def test_a_process_that_dies_is_said(
    tmp_path: Path, listed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(encoding._Process):
        def encode(self, texts: list[str]) -> Any:
            self._process.kill()
            return super().encode(texts)

    monkeypatch.setattr(encoding, "_Process", Dying)
    with pytest.raises(DataError, match=r"ended with status -9.*--workers 2"):
        opened(tmp_path, listed(train=texts(300)), workers=2)


def test_progress_is_told(tmp_path: Path, listed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_CHUNK_DOCUMENTS", 100)
    monkeypatch.setattr(tokenization, "_SAY_SECONDS", 0.0)
    corpus, notes, told = listed(train=texts(250)), [], []
    opened(tmp_path / "a", corpus, notes)
    assert notes[1].startswith("  100 documents, 495 tokens, ")
    assert notes[1].endswith(" MB/s so far")
    assert sum("so far" in note for note in notes) == 3
    opened(tmp_path / "b", corpus, watch=told.append)
    assert [progress.counts.documents for progress in told] == [100, 200, 250]
    assert told[-1].counts.utf8_bytes == sum(map(len, corpus.train))
    assert told[-1].bytes_per_second > 0


def test_made_once_and_then_read(tmp_path: Path, listed: Any) -> None:
    corpus = listed(train=texts(20))
    notes: list[str] = []
    opened(tmp_path, corpus, notes)
    assert corpus.reads == ["train"]
    assert notes[0] == "tokenizing the train split"
    notes.clear()
    opened(tmp_path, corpus, notes)
    assert corpus.reads == ["train"]
    assert notes == []


def test_the_key_is_all_that_matters(tmp_path: Path, listed: Any) -> None:
    written = texts(20)
    opened(tmp_path, listed(train=written))
    opened(tmp_path, listed(train=written, version="2"))
    opened(tmp_path, listed(train=written), frame=Frame())
    opened(tmp_path, listed(train=written), tokenizer=word_tokenizer(301))
    assert len(list((tmp_path / "tokens").iterdir())) == 4


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "utf8_bytes.bin", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_noticed_said_and_mended(
    tmp_path: Path, listed: Any, name: str, damage: str
) -> None:
    corpus = listed(train=texts(30))
    good = np.array(opened(tmp_path, corpus).tokens)
    (folder,) = (tmp_path / "tokens").iterdir()
    file = folder / name
    content = bytearray(file.read_bytes())
    middle = content.index(b'"files"') if name == "manifest.json" else len(content) // 2
    content[middle] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flip" else content[:-3])
    notes: list[str] = []
    assert np.array_equal(opened(tmp_path, corpus, notes).tokens, good)
    assert "damaged" in notes[0]
    assert "making them again" in notes[0]
    assert corpus.reads == ["train", "train"]
    opened(tmp_path, corpus)
    assert corpus.reads == ["train", "train"]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b'"dtype": "<u2"', b'"dtype": "|u1"'),
        (b'"dtype": "<u2"', b'"dtype": "xxx"'),
        (b'"documents": 30', b'"documents": 31'),
        (b'"utf8_bytes": ', b'"utf8_bytes": 9'),
    ],
)
def test_every_word_of_a_manifest_is_protected(
    tmp_path: Path, listed: Any, good: bytes, bad: bytes
) -> None:
    corpus = listed(train=texts(30))
    whole = opened(tmp_path, corpus)
    (file,) = (tmp_path / "tokens").glob("*/manifest.json")
    content = file.read_bytes()
    assert good in content
    file.write_bytes(content.replace(good, bad))
    notes: list[str] = []
    again = opened(tmp_path, corpus, notes)
    assert "manifest.json: its content has changed" in notes[0]
    assert np.array_equal(again.tokens, whole.tokens)
    assert again.counts == whole.counts


def test_a_manifest_of_other_tokens_is_damage(tmp_path: Path, listed: Any) -> None:
    corpus = listed(train=texts(30))
    opened(tmp_path, corpus)
    (folder,) = (tmp_path / "tokens").iterdir()
    opened(tmp_path / "other", listed(train=texts(30), version="2"))
    (other,) = (tmp_path / "other" / "tokens").iterdir()
    shutil.rmtree(folder)
    other.rename(folder)
    notes: list[str] = []
    opened(tmp_path, corpus, notes)
    assert "manifest is of other tokens" in notes[0]


def test_two_at_once(tmp_path: Path, listed: Any) -> None:
    corpus = listed(train=texts(2000))
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: opened(tmp_path, corpus), range(8)))
    for store in stores:
        assert np.array_equal(store.tokens, stores[0].tokens)
    assert len(list((tmp_path / "tokens").iterdir())) == 1


def test_failure_leaves_nothing_behind(tmp_path: Path, listed: Any) -> None:
    def broken() -> Any:
        yield "w3"
        raise DataError("the file ends in the middle")

    class Broken(listed):
        def documents(self, split: str) -> Any:
            return broken()

    with pytest.raises(DataError, match="ends in the middle"):
        opened(tmp_path, Broken())
    assert list((tmp_path / "tokens").iterdir()) == []


def test_a_failure_leaves_what_can_be_gone_on_with(
    tmp_path: Path, listed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_CHUNK_DOCUMENTS", 100)
    monkeypatch.setattr(tokenization, "_RECORD_SECONDS", 0.0)
    written = texts(450)
    whole = opened(tmp_path / "whole", listed(train=written))

    class Broken(listed):
        def documents(self, split: str) -> Any:
            yield from written[:350]
            raise DataError("the hub has gone away")

    with pytest.raises(DataError, match="gone away"):
        opened(tmp_path / "cache", Broken())
    (begun,) = (tmp_path / "cache" / "tokens").iterdir()
    assert begun.name.startswith(".work-")
    notes: list[str] = []
    again = opened(tmp_path / "cache", listed(train=written), notes)
    assert "going on after 300 documents that were tokenized before" in notes
    assert np.array_equal(again.tokens, whole.tokens)
    assert content(tmp_path / "cache") == content(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from mdmkit.data import encoding, hashed_file, store, token_files, tokenization
from tests.unit.data.test_store import opened, texts
from tests.unit.data.conftest import Listed

root, owner, name, number = sys.argv[1:]
encoding._CHUNK_DOCUMENTS, tokenization._RECORD_SECONDS = 50, 0.0
owner = {"HashedFile": hashed_file.HashedFile, "Filled": token_files.Filled, "Path": Path}[owner]
function, calls = getattr(owner, name), [0]

def counted(self, *arguments):
    calls[0] += 1
    if calls[0] == int(number):
        if name == "write" and hasattr(self, "_file"):  # half of it reaches the disk
            function(self, arguments[0][: len(arguments[0]) // 2])
            self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return function(self, *arguments)

setattr(owner, name, counted)
opened(Path(root), Listed(train=[*texts(200), " ", *texts(250)]), workers=1)
"""


@pytest.mark.parametrize(
    ("owner", "name", "number", "done"),
    [
        ("HashedFile", "write", 2 + 3 * 4 + 1, 200),  # in the tokens of the fifth chunk
        ("HashedFile", "write", 2 + 3 * 4 + 2, 200),  # in its offsets
        ("HashedFile", "sync", 3 * 6 + 2, 300),  # while its files are being synced
        ("Filled", "write", 8, 350),  # before progress is written down
        ("Path", "replace", 3, 100),  # before the file that says so gets its name
        ("Filled", "write", 11, 451),  # before the manifest
        ("Path", "rename", 1, 451),  # before the store gets its name
    ],
)
def test_a_killed_process_is_gone_on_with_to_the_same_bytes(
    tmp_path: Path, listed: Any, owner: str, name: str, number: int, done: int
) -> None:
    done_process = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed"), owner, name, str(number)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done_process.returncode == -9, done_process.stderr
    corpus, notes = listed(train=[*texts(200), " ", *texts(250)]), []
    opened(tmp_path / "killed", corpus, notes, workers=1)
    assert f"going on after {done} documents that were tokenized before" in notes
    opened(tmp_path / "whole", corpus)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["flip", "cut", "progress", "other"])
def test_unfinished_work_that_is_damaged_is_begun_anew(
    tmp_path: Path, listed: Any, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(encoding, "_CHUNK_DOCUMENTS", 50)
    monkeypatch.setattr(tokenization, "_RECORD_SECONDS", 0.0)
    corpus, root = listed(train=texts(120)), tmp_path / "cache"
    opened(tmp_path / "whole", corpus)
    opened(root, corpus)
    (folder,) = (root / "tokens").iterdir()
    tokens = bytearray((folder / "tokens.bin").read_bytes())
    (folder / "manifest.json").rename(folder / "progress.json")
    if damage == "flip":
        tokens[7] ^= 1
        (folder / "tokens.bin").write_bytes(tokens)
    elif damage == "cut":
        (folder / "tokens.bin").write_bytes(tokens[:-1])
    elif damage == "progress":
        (folder / "progress.json").write_text("{")
    else:
        progress = json.loads((folder / "progress.json").read_text())
        progress["made_from"]["format"] = 0
        (folder / "progress.json").write_text(json.dumps(progress))
    folder.rename(folder.with_name(f".work-{folder.name}"))
    notes: list[str] = []
    opened(root, corpus, notes)
    assert any("cannot go on from here" in note and "starting over" in note for note in notes)
    assert content(root) == content(tmp_path / "whole")


def test_a_corpus_that_became_shorter_is_an_error(tmp_path: Path, listed: Any) -> None:
    opened(tmp_path, listed(train=texts(120)))
    (folder,) = (tmp_path / "tokens").iterdir()
    (folder / "manifest.json").rename(folder / "progress.json")
    folder.rename(folder.with_name(f".work-{folder.name}"))
    with pytest.raises(DataError, match=r"120 documents were .* the corpus now has 100, under the"):
        opened(tmp_path, listed(train=texts(100)))


def test_another_process_that_makes_it_is_waited_for(tmp_path: Path, listed: Any) -> None:
    entered, may_go = threading.Event(), threading.Event()

    class Slow(listed):
        def documents(self, split: str) -> Any:
            entered.set()
            assert may_go.wait(60)
            return super().documents(split)

    slow, quick, notes = Slow(train=texts(30)), listed(train=texts(30)), []
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(opened, tmp_path, slow)
        assert entered.wait(60)
        second = pool.submit(opened, tmp_path, quick, SaidThen(notes, may_go.set))
        assert np.array_equal(first.result().tokens, second.result().tokens)
    assert notes == ["another process is tokenizing the train split; waiting for it"]
    assert quick.reads == []
    assert {path.name[0] for path in (tmp_path / "tokens").iterdir()}.isdisjoint(".")


class SaidThen(list[str]):
    """Notes, of which the first sets something going."""

    def __init__(self, notes: list[str], then: Any) -> None:
        self.notes, self.then = notes, then

    def append(self, note: str) -> None:
        self.notes.append(note)
        self.then()


def test_a_lock_that_its_holder_removed_is_not_held(tmp_path: Path) -> None:
    """Who waits for a lock gets one on a file without a name, and must take the next one."""
    path, order, ready = tmp_path / "lock", [], threading.Event()

    def hold(number: int) -> None:
        with locked(path, lambda _: ready.set(), "waiting"):
            order.append(number)
            assert is_locked(path)
            order.append(number)

    with ThreadPoolExecutor(4) as pool:
        with locked(path, ignore, ""):
            futures = [pool.submit(hold, number) for number in range(4)]
            assert ready.wait(60)
            assert order == []
        for future in futures:
            future.result()
    assert order[::2] == order[1::2]
    assert not path.exists()
    assert not is_locked(path)


@pytest.fixture
def large(tmp_path: Path, listed: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A corpus whose store counts as a large one, which is made, opened once and so believed."""
    monkeypatch.setattr(token_files, "_ALWAYS_HASHED", 10)
    corpus = listed(train=texts(30))
    opened(tmp_path, corpus)
    return corpus


def test_a_large_store_is_not_hashed_each_time(
    tmp_path: Path, large: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    verify = token_files.verify
    monkeypatch.setattr(
        token_files, "verify", lambda path, c: hashed.append(path.name) or verify(path, c)
    )
    opened(tmp_path, large)
    assert hashed == []
    (stamp,) = (tmp_path / "tokens").glob("*/verified.json")
    facts = json.loads(stamp.read_text())
    stamp.write_text(json.dumps({**facts, "time": facts["time"] - 8 * 86400}))
    opened(tmp_path, large)
    assert hashed == ["tokens.bin", "offsets.bin", "utf8_bytes.bin"]
    opened(tmp_path, large)
    assert len(hashed) == 3


def test_a_byte_that_flips_in_a_large_store_is_noticed(tmp_path: Path, large: Any) -> None:
    (file,) = (tmp_path / "tokens").glob("*/tokens.bin")
    status = file.stat()
    with file.open("r+b") as handle:
        handle.write(bytes([handle.read(1)[0] ^ 1]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if nothing had happened
    notes: list[str] = []
    opened(tmp_path, large, notes)
    assert "the content of tokens.bin has changed" in notes[0]
    assert large.reads == ["train", "train"]


def test_old_leftovers_are_removed_and_young_ones_kept(tmp_path: Path, listed: Any) -> None:
    for name, age in ((".tmp-old", 3 * 86400), (".tmp-young", 60)):
        folder = tmp_path / "tokens" / name
        folder.mkdir(parents=True)
        (folder / "tokens.bin").write_bytes(b"x")
        for path in (folder / "tokens.bin", folder):
            os.utime(path, (time.time() - age,) * 2)
    opened(tmp_path, listed(train=texts(5)))
    names = {p.name for p in (tmp_path / "tokens").iterdir()}
    assert ".tmp-young" in names
    assert ".tmp-old" not in names


def test_documents_without_tokens_are_counted(tmp_path: Path, listed: Any) -> None:
    corpus = listed(train=["w3 w4", " ", "w5", "\t"])
    store = opened(tmp_path, corpus, frame=Frame())
    assert store.tokens.tolist() == [3, 4, 5]
    assert (store.counts.documents, store.counts.without_tokens, store.counts.empty) == (2, 2, 0)


def test_documents_without_tokens_are_framed_like_any_other(tmp_path: Path, listed: Any) -> None:
    store = opened(tmp_path, listed(train=["w3 w4", " ", "w5", "\t"]))
    assert store.tokens.tolist() == [3, 4, 1, 1, 5, 1, 1]
    assert store.offsets.tolist() == [0, 3, 4, 6, 7]
    assert (store.counts.documents, store.counts.without_tokens, store.counts.empty) == (4, 0, 2)
    every = np.arange(7)
    assert store.document_at(every).tolist() == [0, 0, 0, 1, 2, 2, 3]
    found = store.bytes_between(every, every + 1).tolist()
    assert found == [2.5, 2.5, 0, 0, 2, 0, 0]  # white space that is no token is no text
    assert sum(found) == store.counts.utf8_bytes


def test_a_corpus_without_tokens(tmp_path: Path, listed: Any) -> None:
    with pytest.raises(DataError, match="the tokenizer made nothing out of any document"):
        opened(tmp_path, listed(train=[" ", "\n"], version="2"))


def test_text_that_is_tokenized_to_the_mask_is_refused(tmp_path: Path, listed: Any) -> None:
    with pytest.raises(DataError, match=r"document 1: its text is tokenized to the mask \(id 0\)"):
        opened(tmp_path, listed(train=["w3", "w4 <m> w5"]))


def test_ids_beyond_the_vocabulary_are_refused(tmp_path: Path, listed: Any) -> None:
    class Wrong:
        vocab = word_tokenizer(10).vocab
        fingerprint = "wrong"

        def encode_batch(self, texts: list[str]) -> list[list[int]]:
            return [[3, 10] for _ in texts]

    with pytest.raises(DataError, match=r"document 0: the tokenizer gave id 10.*from 0 to 9"):
        opened(tmp_path, listed(train=["a"]), tokenizer=Wrong())


def test_a_cache_that_cannot_be_written(tmp_path: Path, listed: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write here.*set MDMKIT_CACHE_DIR"):
        opened(tmp_path / "file", listed(train=["w3"]))


def test_a_full_disk(tmp_path: Path, listed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, content: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    plain_open = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, *a, **k: Full() if path.name == "tokens.bin" else plain_open(path, *a, **k),
    )
    with pytest.raises(DataError, match=r"No space left on device; free some space"):
        opened(tmp_path, listed(train=["w3"]))
    assert list((tmp_path / "tokens").iterdir()) == []


def test_bytes_of_ranges_add_up_to_the_text(tmp_path: Path, listed: Any) -> None:
    written = [*texts(40), "w3 ünbekannt é w4", " "]
    frame = Frame(before=(1, 1), after=(1,))
    store = opened(tmp_path, listed(train=written), frame=frame)
    sizes = [*(len(t.encode()) for t in written[:-1]), 0]  # the last is no token
    assert np.diff(store.utf8_bytes).tolist() == sizes
    assert store.counts.utf8_bytes == sum(sizes)

    whole = store.bytes_between(store.offsets[:-1], store.offsets[1:])
    assert whole.tolist() == sizes
    each = np.arange(store.counts.tokens)
    of_token = store.bytes_between(each, each + 1)
    assert of_token.sum() == pytest.approx(sum(sizes))
    for document, size in enumerate(sizes[:-1]):
        own = of_token[store.offsets[document] : store.offsets[document + 1]]
        assert own[[0, 1, -1]].tolist() == [0, 0, 0]
        assert own[2:-1] == pytest.approx(np.full(len(own) - 3, size / (len(own) - 3)))
    assert of_token[-3:].tolist() == [0, 0, 0]
    last = np.array([store.counts.tokens])
    assert store.bytes_between(last, last).tolist() == [0]
