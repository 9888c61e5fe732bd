"""``mdmkit import``: a run directory of weights from elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdmkit import DataError, Recipe, write_run
from mdmkit_hf.importing.exported import MANIFEST, read_exported
from mdmkit_hf.importing.hub import Place, find
from mdmkit_hf.importing.lightning import read_lightning
from mdmkit_hf.importing.published import read_published
from mdmkit_hf.importing.recipes import Origin, mdlm_recipe

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def import_run(
    source: str,
    out: str | Path,
    *,
    revision: str | None = None,
    tokenizer: str | Path | None = None,
    name: str | None = None,
    ema: bool | None = None,
    overrides: Sequence[str] = (),
) -> Path:
    """Make a run of weights from elsewhere.

    Args:
        source: a folder in the layout of ``kuleshov-group/mdlm-owt``, a Lightning checkpoint of
            MDLM's training, a folder that ``mdmkit export`` made, or owner/name on the hub.
        out: the run directory that is made.
        revision: commit, tag or branch on the hub; the newest by default.
        tokenizer: a local file or folder; by default the one of the hub that fits the vocabulary,
            or that of the folder.
        name: of the run; by default as `out`, or that of the run that was exported.
        ema: of a checkpoint, the average (the default) or the raw weights; others have but one.
        overrides: ``table.key=value``, laid over the recipe.

    Returns:
        The run directory.

    Raises:
        DataError: where the source or the tokenizer cannot be had or are not what is expected, or
            `out` is there already.
        RecipeError: for an override that is not valid.
        CheckpointError: where the run cannot be written.
    """
    target = Path(out)
    if target.exists():
        raise DataError(f"--out: {target} is there already; choose another place, or remove it")
    place = find(source, revision)
    own = place.path.is_dir() and (place.path / MANIFEST).is_file()
    if ema is not None and place.path.is_dir():
        raise DataError(
            f"{source}: a folder has one set of weights; leave out --{'' if ema else 'no-'}ema"
        )
    named = [] if name is None else [f"run.name={json.dumps(name)}"]
    name = name or _UNSAFE.sub("-", target.name).strip("-._") or "imported"
    known = {"source": str(source), "revision": revision, "commit": place.commit}
    if own:
        if tokenizer is not None:
            raise DataError("--tokenizer: the folder has its own; leave it out")
        return read_exported(place.path, [*named, *overrides]).write(target, known)
    origin = _origin(place, source, ema=ema is not False)
    recipe = mdlm_recipe(
        origin,
        name=name,
        tokenizer=None if tokenizer is None else Path(tokenizer),
        overrides=overrides,
    )
    return _write(target, origin, recipe, known)


def _write(target: Path, origin: Origin, recipe: Recipe, known: Mapping[str, Any]) -> Path:
    """Make the run directory of MDLM's weights; `known` is said of the source, too.

    Raises:
        DataError: where the tokenizer is not of the network.
    """
    built = recipe.data.tokenizer.build(recipe.data.corpus)
    if built.vocab.size != origin.architecture.vocab_size:
        raise DataError(
            f"{origin.where}: the network has {origin.architecture.vocab_size} ids, the tokenizer "
            f"{built.vocab.size}, its mask included; give the right one with --tokenizer"
        )
    return write_run(
        target,
        recipe,
        weights=origin.weights,
        tokenizer=built,
        step=origin.step,
        ema=origin.ema,
        source={"kind": "mdlm", **known, "ema": origin.ema, "sha256": hashes(origin.files)},
    )


def _origin(place: Place, source: str, *, ema: bool) -> Origin:
    if place.path.is_dir():
        return read_published(place.path)
    if place.path.suffix != ".ckpt":
        raise DataError(
            f"{source}: expected a folder, or a checkpoint of Lightning, whose name ends in .ckpt"
        )
    return read_lightning(place.path, ema=ema)


def hashes(paths: Iterable[Path]) -> dict[str, Any]:
    """The sha256 of each file, by name."""
    found = {}
    for path in paths:
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
