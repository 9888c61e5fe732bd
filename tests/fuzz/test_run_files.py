"""Whatever the files of a run directory hold: they are read, or refused in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdmkit.comparison.runs import load_run
from mdmkit.data.hashed_file import DamagedError
from mdmkit.data.inventory import inventory
from mdmkit.data.store import stores_folder
from mdmkit.data.text_tokenizer import load_tokenizer
from mdmkit.data.token_files import MANIFEST as STORE_MANIFEST
from mdmkit.data.token_files import Filled, checked
from mdmkit.evaluation.infilling.template_file import read_templates
from mdmkit.evaluation.replay import _assignments
from mdmkit.evaluation.run import open_trained, read_recipe
from mdmkit.evaluation.suite_file import SuiteRecord, read_record, write_record
from mdmkit.metrics_log import MetricsLog, read_metrics
from mdmkit.plugins import Catalogue
from mdmkit.recipe_files import parse_overrides
from mdmkit.runs.folder import WEIGHTS
from mdmkit.training.branch import begun, fresh_tables, read_branch, require_branch
from mdmkit.training.checkpoint import MANIFEST, STATE, damage, load_weights
from mdmkit.training.exported import saved_weights
from mdmkit.validation_log import logged_steps, read_validation

from .fuzzing import SCALARS, TREES, cases, changed_bytes, changed_tree, read_or_refused

WORDS = tuple(
    word.encode()
    for word in (
        *("[" * 3000, '{"a":' * 3000, "NaN", "-Infinity", "1e999", "9" * 5000, "\\ud800", "null"),
        *("{}", "[]", '"../../x"', "0", "true", "\0", "\ufeff", "\n", '{"step": "x"}\n', "[1]\n"),
    )
)


@st.composite
def changed_json(draw: st.DrawFn, content: bytes) -> bytes:
    """A JSON file with other values, or other bytes."""
    if draw(st.booleans()):
        return draw(changed_bytes(content, WORDS))
    tree = draw(changed_tree(json.loads(content)) | TREES)
    return json.dumps(tree).encode()


@pytest.fixture(scope="module")
def place(trained: Path, tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue) -> Path:
    """A copy of a run, in which a test changes one file and puts it back."""
    place = tmp_path_factory.mktemp("place") / "run"
    shutil.copytree(trained, place)
    open_trained(place, device="cpu", catalogue=catalogue)  # imports what is needed
    load_run(place, catalogue=catalogue, notify=lambda _: None)
    return place


def harm(
    place: Path, name: str, data: st.DataObject, made: Callable[[bytes], Any], *readers: Any
) -> None:
    """Change a file, read it in several ways, and put it back."""
    path = place / name
    content = path.read_bytes()
    path.write_bytes(data.draw(made(content)))
    try:
        for reader in readers:
            read_or_refused(reader, place)
    finally:
        path.write_bytes(content)


def last(place: Path) -> Path:
    return max((place / "checkpoints").iterdir())


@cases(80)
@given(data=st.data())
def test_saved_recipes(place: Path, catalogue: Catalogue, data: st.DataObject) -> None:
    def resumed() -> Any:
        return load_run(place, catalogue=catalogue, notify=lambda _: None)

    harm(
        place,
        "resolved.json",
        data,
        changed_json,
        lambda: read_recipe(place, catalogue=catalogue),
        lambda: read_recipe(place, ["sampler.steps=3"], ["sampler"], catalogue=catalogue),
        resumed,
    )


@cases(150)
@given(data=st.data())
def test_manifests(place: Path, data: st.DataObject) -> None:
    path = last(place)
    name = str((path / MANIFEST).relative_to(place))

    def whole() -> Any:
        return load_weights(place) if damage(path) is None else None

    harm(place, name, data, changed_json, lambda: damage(path), whole)


@cases(100)
@given(data=st.data())
def test_states(place: Path, catalogue: Catalogue, data: st.DataObject) -> None:
    from mdmkit.training.checkpoint import _facts

    path = last(place)
    name = str((path / STATE).relative_to(place))
    harm(place, name, data, changed_json, lambda: damage(path), lambda: _facts(path))


@cases(200)
@given(data=st.data())
def test_metrics(place: Path, data: st.DataObject) -> None:
    path = place / "metrics.jsonl"

    def resume() -> None:
        MetricsLog(path).resume(3)
        assert all(entry.get("step", 0) <= 3 for entry in read_metrics(path))

    def made(content: bytes) -> st.SearchStrategy[bytes]:
        lines = [json.loads(line) for line in content.splitlines()]
        trees = changed_tree(lines[:3]).map(lambda t: [json.dumps(line) for line in t])
        return changed_bytes(content, WORDS) | trees.map(
            lambda t: "".join(f"{x}\n" for x in t).encode()
        )

    harm(place, "metrics.jsonl", data, made, lambda: read_metrics(path), resume)


@cases(60)
@given(data=st.data())
def test_metrics_in_a_comparison(place: Path, catalogue: Catalogue, data: st.DataObject) -> None:
    def made(content: bytes) -> st.SearchStrategy[bytes]:
        lines = [json.loads(line) for line in content.splitlines()]
        return changed_tree(lines, SCALARS).map(
            lambda t: "".join(f"{json.dumps(x)}\n" for x in t).encode()
        )

    def compared() -> Any:
        return load_run(place, catalogue=catalogue, notify=lambda _: None)

    harm(place, "metrics.jsonl", data, made, compared)


@cases(100)
@given(data=st.data())
def test_branches(place: Path, data: st.DataObject) -> None:
    facts = {
        "from": "a-1", "recipe_hash": "1", "seed": 1, "step": 2, "changed": ["data"], "whole": True,
    }  # fmt: skip
    (place / "branch.json").write_text(json.dumps(facts))
    try:
        harm(
            place,
            "branch.json",
            data,
            changed_json,
            lambda: read_branch(place),
            lambda: begun(place),
            lambda: require_branch(place, 2),
            lambda: fresh_tables(place, 2),
        )
    finally:
        (place / "branch.json").unlink()


@cases(150)
@given(data=st.data())
def test_tokenizers(place: Path, data: st.DataObject) -> None:
    harm(
        place,
        "tokenizer.json",
        data,
        changed_json,
        lambda: load_tokenizer(place / "tokenizer.json"),
    )


@cases(100)
@given(data=st.data())
def test_special_tokens(place: Path, data: st.DataObject) -> None:
    name = "tokenizer.special.json"
    harm(place, name, data, changed_json, lambda: load_tokenizer(place / "tokenizer.json"))


@cases(120)
@given(data=st.data())
def test_validations(place: Path, catalogue: Catalogue, data: st.DataObject) -> None:
    step = logged_steps(place)[-1]
    (path,) = (place / "validation").glob(f"step-*{step}.safetensors")
    harm(
        place,
        str(path.relative_to(place)),
        data,
        lambda content: changed_bytes(content, WORDS),
        lambda: read_validation(place, step),
        lambda: load_run(place, catalogue=catalogue, notify=lambda _: None),
    )


@cases(120)
@given(data=st.data())
def test_exported_weights(place: Path, catalogue: Catalogue, data: st.DataObject) -> None:
    aside = place.parent / "checkpoints"
    (place / "checkpoints").rename(aside)
    try:
        harm(
            place,
            WEIGHTS,
            data,
            lambda content: changed_bytes(content[:2000], WORDS).map(lambda c: c + content[2000:]),
            lambda: saved_weights(place),
            lambda: open_trained(place, device="cpu", catalogue=catalogue),
        )
    finally:
        aside.rename(place / "checkpoints")


@cases(50)
@given(data=st.data())
def test_shards(place: Path, catalogue: Catalogue, data: st.DataObject) -> None:
    """Changed where the manifest is true again, as an attacker would."""
    from mdmkit.files import sha256_file

    (shard,) = last(place).glob("*.distcp")
    manifest = last(place) / MANIFEST
    before = manifest.read_bytes()

    def opened() -> Any:
        facts = json.loads(before)
        facts["files"][shard.name] = {"bytes": shard.stat().st_size, "sha256": sha256_file(shard)}
        manifest.write_text(json.dumps(facts))
        return load_weights(place)

    try:
        harm(place, str(shard.relative_to(place)), data, changed_bytes, opened)
    finally:
        manifest.write_bytes(before)


RECORD = SuiteRecord(
    suite={"name": "s", "title": "", "sets": {"one": {"evaluator": {"use": "nelbo"}}}},
    settings={
        "seed": 1, "checkpoint": 4, "ema": True, "dtype": "fp32", "batch_size": 8,
        "sampler": {"use": "ancestral", "steps": 4},
    },
    run={"name": "tiny", "recipe_hash": "x"},
)  # fmt: skip
SET = {
    "label": "one",
    "measurements": {"nelbo": {"value": 1.0, "stderr": 0.1, "unit": "nats"}},
    "provenance": {"environment": {"torch": "2"}},
    "settings_sha256": "x",
    "data_sha256": "y",
}


@cases(200)
@given(data=st.data())
def test_files_of_suites(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "suite" / "s.json"
    path.parent.mkdir(exist_ok=True)
    write_record(path, RECORD)
    plain = json.loads(path.read_bytes())
    plain["sets"]["one"] = SET
    path.write_bytes(data.draw(changed_json(json.dumps(plain).encode())))

    def replayed() -> Any:
        record = read_record(path)
        parse_overrides(list(_assignments(record.settings["sampler"], ("sampler",))))
        return record

    read_or_refused(replayed)


@cases(150)
@given(data=st.data())
def test_manifests_of_token_stores(trained: Path, data: st.DataObject) -> None:
    root = trained.parents[1] / "cache"
    folder = next(
        path for path in stores_folder(root).iterdir() if (path / STORE_MANIFEST).exists()
    )
    filled = Filled.read(folder / STORE_MANIFEST)
    content = (folder / STORE_MANIFEST).read_bytes()
    plain = attrs.asdict(filled)
    changed = data.draw(changed_tree(plain) | changed_json(content).map(lambda c: c))
    if isinstance(changed, bytes):
        (folder / STORE_MANIFEST).write_bytes(changed)
    else:  # sealed anew, as an attacker would
        from mdmkit.data.token_files import _SEAL, _sealed

        try:
            changed[_SEAL] = _sealed(changed)
            (folder / STORE_MANIFEST).write_text(json.dumps(changed))
        except (TypeError, ValueError, AttributeError):
            (folder / STORE_MANIFEST).write_text(repr(changed))

    def opened() -> Any:
        try:
            return checked(folder, filled.made_from)
        except DamagedError as error:  # it is made anew
            return error

    try:
        read_or_refused(opened, root)
        read_or_refused(lambda: [one.to_json() for one in inventory(root)], root)
    finally:
        (folder / STORE_MANIFEST).write_bytes(content)


@cases(150)
@given(
    content=changed_bytes(
        b'{"template": "a [MASK:3-8] b", "id": 3}\n{"template": "[MASK]"}', WORDS
    ),
    ending=st.sampled_from((".jsonl", ".txt", "")),
)
def test_templates(tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"templates{ending}"
    path.write_bytes(content)
    read_or_refused(lambda: read_templates(path))
