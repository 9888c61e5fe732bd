"""The recipe of imported weights, and parts of recipes that stand alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from torch import Tensor

from mdmkit import DataError, Recipe, RecipeError, load_recipe
from mdmkit_hf.importing.mdlm import Architecture

MDLM = Path(__file__).with_name("mdlm.toml")

_BY_VOCABULARY: Mapping[int, tuple[str, ...]] = {
    50258: (),  # GPT-2's pieces and the mask
    30522: (
        "data.corpus.use=lm1b",
        "data.detokenizer=lm1b",
        "data.tokenizer.use=bert",
    ),
}
"""What MDLM's authors trained on, by the size of the vocabulary."""

_TOKENIZER_FILES = (
    ("vocab.json", "gpt2"),
    ("encoder.json", "gpt2"),
    ("vocab.txt", "bert"),
    ("tokenizer.json", "json"),
)
"""What a tokenizer's file says it is; the first of these that a folder has counts."""


@frozen(kw_only=True, eq=False)
class Origin:
    """Weights of MDLM's network from elsewhere, and what is known of them.

    Attributes:
        weights: in float32, by their names in our ``dit``.
        architecture: the network's.
        length: L, on which it was trained.
        time_conditioning: whether it is told sigma_t, instead of 0.
        files: that were read.
        where: they are from, for messages.
        dropout: in training.
        step: the optimizer steps behind them; 0: not known.
        ema: whether they are said to be the average over training.
    """

    weights: Mapping[str, Tensor]
    architecture: Architecture
    length: int
    time_conditioning: bool
    files: tuple[Path, ...]
    where: str
    dropout: float = 0.1
    step: int = 0
    ema: bool = False


def mdlm_recipe(
    origin: Origin, *, name: str, tokenizer: Path | None, overrides: Sequence[str]
) -> Recipe:
    """MDLM's recipe for these weights.

    Args:
        origin: the weights.
        name: of the run.
        tokenizer: a local file, or a folder with one; None: by the size of the vocabulary.
        overrides: ``table.key=value``, laid over it.

    Raises:
        DataError: where the tokenizer is not known.
        RecipeError: for an override that is not valid.
    """
    shape = origin.architecture
    sizes = {
        "run.name": json.dumps(name),
        "data.length": origin.length,
        "denoiser.width": shape.width,
        "denoiser.depth": shape.depth,
        "denoiser.heads": shape.heads,
        "denoiser.conditioning_width": shape.conditioning_width,
        "denoiser.time_conditioning": str(origin.time_conditioning).lower(),
        "denoiser.dropout": origin.dropout,
    }
    return load_recipe(
        MDLM,
        [
            *_BY_VOCABULARY.get(shape.vocab_size, ()),
            *_tokenizer(tokenizer, shape.vocab_size, overrides),
            *(f"{key}={value}" for key, value in sizes.items()),
            *overrides,
        ],
    )


def _tokenizer(path: Path | None, vocab_size: int, overrides: Sequence[str]) -> list[str]:
    if path is None:
        if vocab_size in _BY_VOCABULARY or any(
            text.startswith("data.tokenizer") for text in overrides
        ):
            return []
        sizes = " and ".join(str(size) for size in _BY_VOCABULARY)
        raise DataError(
            f"--tokenizer: missing; the network has {vocab_size} ids, and only of {sizes} is it "
            "known which tokenizer they belong to"
        )
    path = path.expanduser().absolute()
    found = [
        (path, use)
        for name, use in _TOKENIZER_FILES
        if path.name == name or (path.is_dir() and (path / name).is_file())
    ]
    if not path.exists() or not found:
        names = ", ".join(name for name, _ in _TOKENIZER_FILES)
        raise DataError(f"--tokenizer: {path}: expected one of {names}, or a folder with one")
    use = found[0][1]
    if use == "json" and vocab_size == 30522:  # BERT's, in the library's own format
        use = "bert"
    more = ["data.tokenizer.add_mask=true"] if use == "json" else []
    return [f"data.tokenizer.use={use}", f"data.tokenizer.path={json.dumps(str(path))}", *more]


def recipe_of(tables: Mapping[str, Any], *, where: str) -> Recipe:
    """A recipe of these tables, with something small in the place of every other.

    For a component that is needed alone: it is read from its table as strictly as any.

    Args:
        tables: by name.
        where: they are from, for messages.

    Raises:
        RecipeError: where a table is not valid.
    """
    import tomli_w

    least: dict[str, Any] = {
        "run": {"name": "part"},
        "data": {
            "length": 2,
            "corpus": {"use": "state_of_the_union"},
            "tokenizer": {"use": "bytes"},
        },
        "denoiser": {"use": "dit", "width": 2, "depth": 1, "heads": 1},
        "train": {"steps": 1, "global_batch_size": 1},
        "learning_rate": {"warmup_steps": 0},
    }
    least |= {**tables, "data": {**least["data"], **tables.get("data", {})}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        try:
            path.write_text(tomli_w.dumps(least), encoding="utf-8")
            return load_recipe(path)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{where}: not what a recipe can hold ({error})") from error
        except RecipeError as error:
            problems = [problem.replace(str(path), where) for problem in error.problems]
            raise RecipeError(problems) from error
