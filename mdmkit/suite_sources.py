"""Local files instead of what a suite names: ``--source LABEL=FILE``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from mdmkit.choices import USE
from mdmkit.errors import RecipeError
from mdmkit.plugins import Catalogue
from mdmkit.recipe_files import Document, merged
from mdmkit.suggest import did_you_mean

SOURCE = "--source"
SPLITS = ("train", "validation", "test")


def share_sources(
    sources: Mapping[str, str], suites: Sequence[Collection[str]]
) -> list[dict[str, str]]:
    """For each of several suites the sources of the sets that it has.

    Args:
        sources: local files or folders by label.
        suites: the tables of sets of each suite.

    Raises:
        RecipeError: for a label that none of them has.
    """
    every = {label: None for sets in suites for label in sets}
    unknown = [unknown_set(SOURCE, label, every) for label in sources if label not in every]
    if unknown:
        raise RecipeError(unknown)
    return [{label: p for label, p in sources.items() if label in sets} for sets in suites]


def read_sources(
    document: Document, sources: Mapping[str, str | Path], catalogue: Catalogue
) -> Document:
    """What ``--source`` changes, as a document.

    A corpus that can be read from a ``path`` is; else the evaluator; else the corpus becomes plain
    text in files.

    Args:
        document: of the suite.
        sources: local files or folders by label of a set, or name of a grid.
        catalogue: the components to choose from.

    Raises:
        RecipeError: for a label that is no set's or grid's.
    """
    known = {
        (kind, label): entry
        for kind in ("sets", "grids")
        for label, entry in _table(document.data, kind).items()
    }
    labels = [label for _, label in known]
    unknown = [unknown_set(SOURCE, label, labels) for label in sources if label not in labels]
    if unknown:
        raise RecipeError(unknown)
    shared, changes = _table(document.data, "protocol"), dict[str, Any]()
    for (kind, label), entry in known.items():
        if label in sources and isinstance(entry, Mapping):
            whole = merged(shared, entry, (), {})
            source = _source(whole, _absolute(sources[label]), catalogue)
            changes.setdefault(kind, {})[label] = source
    return Document.of(changes, SOURCE)


def _table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table of a document; empty where there is none, or something else."""
    table = data.get(name)
    return table if isinstance(table, Mapping) else {}


def _source(entry: Mapping[str, Any], path: str, catalogue: Catalogue) -> dict[str, Any]:
    """The keys of a set that make it read `path`."""
    for table, hook in (("corpus", "mdmkit_corpora"), ("evaluator", "mdmkit_evaluators")):
        cls = _chosen(entry, table, hook, catalogue)
        if cls is None or "path" not in option_names(cls):
            continue
        keys = {"path": path}
        if "file_split" in option_names(cls) and Path(path).is_file():
            split = _split_read(entry, catalogue)
            keys |= {} if split is None else {"file_split": split}  # what the file is
        return {table: keys}
    return {"corpus": {USE: "text", **dict.fromkeys(SPLITS, path)}}


def _chosen(entry: Mapping[str, Any], table: str, hook: str, catalogue: Catalogue) -> type | None:
    """The class that a table of a set chooses, where there is one of that name."""
    options = entry.get(table)
    use = options.get(USE) if isinstance(options, Mapping) else None
    component = catalogue.of(hook).get(use) if isinstance(use, str) else None
    return None if component is None else component.cls


def _split_read(entry: Mapping[str, Any], catalogue: Catalogue) -> str | None:
    """The split that the evaluator of a set reads, if it says."""
    evaluator = _chosen(entry, "evaluator", "mdmkit_evaluators", catalogue)
    if evaluator is None or "split" not in option_names(evaluator):
        return None
    split = entry["evaluator"].get("split", attrs.fields_dict(evaluator)["split"].default)
    return split if split in SPLITS else None


def option_names(cls: Any) -> set[str]:
    """The options of a component's class."""
    return {field.name for field in attrs.fields(cls)}


def _absolute(path: str | Path) -> str:
    """A replay may be started elsewhere."""
    return str(Path(path).expanduser().absolute())


def unknown_set(option_name: str, label: str, known: Iterable[str]) -> str:
    """What to say of a label that is no set's."""
    known = list(known)
    hint = did_you_mean(label, known) or ";"
    return f'{option_name}: there is no set "{label}"{hint} known: {", ".join(known)}'
