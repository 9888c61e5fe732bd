"""A recipe: everything that decides a run, as one frozen tree of typed options.

The components in it are options objects that hooks provide; no name of one is known here beyond
the defaults, and those are looked up like any other.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import cattrs
from attrs import Factory, frozen

from mdmkit.data.detokenizers import DetokenizerName
from mdmkit.data.packing import PACKINGS, PackingOptions
from mdmkit.data.tokenizers import TOKENIZERS, TokenizerOptions
from mdmkit.errors import PluginError, RecipeError
from mdmkit.options import DEFAULT_USE, component, option
from mdmkit.plugins import Catalogue, load_catalogue
from mdmkit.problems import Problem, StructureError, dotted, found, invalid
from mdmkit.protocols import (
    Corpus,
    DenoiserOptions,
    Evaluator,
    LossWeighting,
    MaskPattern,
    NoiseSchedule,
    ObjectiveOptions,
    Sampler,
    TimeSampler,
    Tracker,
)
from mdmkit.recipe_check import cross_problems
from mdmkit.recipe_files import Document, KeyPath, read_document, recipe_names, recipe_path
from mdmkit.structuring import make_converter

__all__ = [
    "CLOSED_TABLES",
    "Data",
    "LearningRate",
    "Optimizer",
    "Parallel",
    "Recipe",
    "Run",
    "Train",
    "check_recipe",
    "differing_keys",
    "dump_recipe",
    "load_recipe",
    "plain_hash",
    "recipe_from_dict",
    "recipe_hash",
    "recipe_names",
    "recipe_path",
    "recipe_toml",
    "split_layout",
]

CLOSED_TABLES: Mapping[Any, tuple[str, Mapping[str, type]]] = {
    TokenizerOptions: ("tokenizer", TOKENIZERS),
    PackingOptions: ("packing", PACKINGS),
}
"""The choices of ``use`` that no hook adds to: type to (kind, classes by name)."""

_LAYOUT: Mapping[str, frozenset[str]] = {
    "train": frozenset({"micro_batch_size"}),
    "parallel": frozenset(
        {
            "mode",
            "shard_size",
            "reshard_after_forward",
            "cpu_offload",
            "activation_checkpointing",
            "compile",
        }
    ),
}
"""Keys that say how the work is laid out, by table."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@frozen(kw_only=True)
class Run:
    """``[run]``: which run this is."""

    name: str = option(doc="begins the name of the run's directory")
    seed: int = option(1, ge=0, doc="everything random is a function of it")

    def __attrs_post_init__(self) -> None:
        """Refuse a name that is not safe as that of a directory."""
        if not _SAFE_NAME.fullmatch(self.name):
            expected = "expected letters, digits and . _ -, with a letter or digit first"
            raise invalid(f"{expected}; got {found(self.name)}", "name")


@frozen(kw_only=True)
class Data:
    """``[data]``: which text, as which tokens, in which blocks."""

    length: int = option(ge=2, doc="L, tokens a block")
    detokenizer: DetokenizerName = option("none", doc="undoes what a data set did to its text")
    corpus: Corpus
    tokenizer: TokenizerOptions
    packing: PackingOptions = component("packed", doc="how documents fill the blocks")


@frozen(kw_only=True)
class Train:
    """``[train]``: how long, in which batches, and what is done on the way."""

    steps: int = option(ge=1, doc="optimizer steps")
    global_batch_size: int = option(ge=1, doc="rows a step, over all ranks and micro-batches")
    micro_batch_size: int | None = option(
        None, ge=1, doc="rows that a rank handles at once; unset: as many as it has"
    )
    precision: Literal["bf16", "fp32", "bf16_weights"] = option(
        "bf16",
        doc="of the network's forward, by autocast; weights are float32. bf16_weights: they and "
        "their gradients are bfloat16 (Adam's state and the average are not): half the memory, "
        "but a change of a weight w by less than about |w|/500 is rounded away and lost",
    )
    log_every: int = option(10, ge=1, doc="steps between lines of training metrics")
    diagnose_every: int = option(
        500, ge=0, doc="steps between measurements of loss by time and gradient noise; 0: never"
    )
    validate_every: int = option(1000, ge=0, doc="steps between validations; 0: only at the end")
    validate_blocks: int = option(256, ge=0, doc="validation blocks that are read; 0: all")
    validate_draws: int = option(1, ge=1, doc="Monte-Carlo draws for each of these blocks")
    sample_every: int | None = option(
        None, ge=1, doc="steps between texts that are generated and kept; unset: only at the end"
    )
    checkpoint_every: int = option(1000, ge=0, doc="steps between checkpoints; 0: only at the end")
    keep_checkpoints: int = option(2, ge=0, doc="how many of the newest are kept; 0: all")
    keep_every: int = option(
        0, ge=0, doc="checkpoints whose step is a multiple of it are kept for ever; 0: none is"
    )
    checkpoints_in_flight: int = option(
        1, ge=0, doc="how many may be under way beside the training; 0: it waits for each"
    )
    ema_decay: float = option(0.9999, ge=0, lt=1, doc="of the average of the weights; 0: none")
    clip_norm: float = option(1.0, ge=0, doc="largest norm of the gradient; 0: not clipped")
    max_nonfinite_steps: int = option(
        10, ge=0, doc="more steps in a row than that without a finite gradient stop the run"
    )


@frozen(kw_only=True)
class Optimizer:
    """``[optimizer]``: AdamW (arXiv 1711.05101)."""

    beta1: float = option(0.9, ge=0, lt=1, doc="decay of the mean of the gradients")
    beta2: float = option(0.999, ge=0, lt=1, doc="decay of the mean of their squares")
    eps: float = option(1e-8, gt=0, doc="added to the root of that mean")
    weight_decay: float = option(0.0, ge=0, doc="times the learning rate, a step")


@frozen(kw_only=True)
class LearningRate:
    """``[learning_rate]``: a linear warm-up to the peak, then one of four shapes."""

    peak: float = option(3e-4, gt=0, doc="the highest learning rate")
    shape: Literal["constant", "cosine", "linear", "wsd"] = option(
        "constant", doc="after the warm-up; wsd stays at the peak and decays at the end"
    )
    warmup_steps: int = option(2500, ge=0, doc="steps of linear increase from 0")
    final_fraction: float = option(0.0, ge=0, le=1, doc="of the peak, where a decay ends")
    decay_fraction: float = option(0.2, gt=0, le=1, doc="wsd: last share of the run, that decays")


@frozen(kw_only=True)
class Parallel:
    """``[parallel]``: how the network is spread over processes, and what it costs each of them.

    None of it but the two dtypes changes the curve (beyond rounding, and without dropout), so a
    run may go on with other values.
    """

    mode: Literal["auto", "ddp", "fsdp", "hsdp"] = option(
        "auto",
        doc="what each process holds: ddp all, fsdp a shard, hsdp a shard of one of several "
        "copies; auto is fsdp, and hsdp with a copy a node on several nodes. One process: nothing",
    )
    shard_size: int = option(
        0, ge=0, doc="processes that share one copy, for hsdp; 0: those of a node"
    )
    reshard_after_forward: bool = option(
        True, doc="free gathered weights after the forward: less memory, more traffic"
    )
    cpu_offload: bool = option(
        False,
        doc="weights, gradients, optimizer and their step on the CPU; needs several processes",
    )
    param_dtype: Literal["fp32", "bf16"] | None = option(
        None, doc="that weights are gathered and used in; unset: their own. Not for one process"
    )
    reduce_dtype: Literal["fp32", "bf16"] | None = option(
        None, doc="that gradients are summed over processes in; unset: that of the weights used"
    )
    activation_checkpointing: Literal["none", "selective", "full"] = option(
        "none",
        doc="what of a block's forward is worked out again in the backward: nothing, all but "
        "matrix products and attention, or all",
    )
    compile: bool = option(False, doc="each block by torch.compile")

    def __attrs_post_init__(self) -> None:
        """Refuse what would be ignored."""
        if self.shard_size and self.mode in ("ddp", "fsdp"):
            raise invalid(f"is for hsdp; with mode {self.mode} leave it out", "shard_size")


@frozen(kw_only=True)
class Recipe:
    """Everything that decides a run. Each attribute is a table of the file."""

    run: Run
    data: Data
    denoiser: DenoiserOptions
    noise_schedule: NoiseSchedule = component("linear")
    time_sampler: TimeSampler = component("uniform")
    mask_pattern: MaskPattern = component("independent")
    loss_weighting: LossWeighting = component("elbo")
    objective: ObjectiveOptions = component("masked_diffusion")
    sampler: Sampler = component("ancestral")
    train: Train
    optimizer: Optimizer = Optimizer()
    learning_rate: LearningRate = LearningRate()
    parallel: Parallel = Parallel()
    evaluators: Mapping[str, Evaluator] = Factory(dict)
    trackers: Mapping[str, Tracker] = Factory(dict)


def load_recipe(
    source: str | Path, overrides: Sequence[str] = (), *, catalogue: Catalogue | None = None
) -> Recipe:
    """Read, check and structure a recipe.

    Args:
        source: a TOML file, or the bare name of a shipped recipe.
        overrides: ``table.key=value``, each as given to ``--set``.
        catalogue: the components to choose from; all installed ones by default.

    Returns:
        The recipe, with every default filled in.

    Raises:
        RecipeError: with every problem of the recipe, one line each, which names the file,
            the table and the key.
        PluginError: where installed plugins collide.
    """
    catalogue = load_catalogue() if catalogue is None else catalogue
    return _structure(read_document(source, overrides, _default_uses(Recipe)), catalogue)


def recipe_from_dict(
    data: Mapping[str, Any], where: str = "resolved.json", *, catalogue: Catalogue | None = None
) -> Recipe:
    """A recipe from plain data, such as `dump_recipe` makes and a run directory keeps.

    Args:
        data: the tree.
        where: what an error calls it.
        catalogue: the components to choose from; all installed ones by default.

    Raises:
        RecipeError: with every problem, one line each.
    """
    catalogue = load_catalogue() if catalogue is None else catalogue
    return _structure(Document.of(dict(data), where), catalogue)


def _structure(document: Document, catalogue: Catalogue) -> Recipe:
    try:
        recipe = _converter(catalogue).structure(document.data, Recipe)
    except StructureError as error:
        raise RecipeError(document.lines(error.problems)) from error
    recipe = _resolved(recipe, document)
    problems = list(cross_problems(recipe))
    if problems:
        raise RecipeError(document.lines(problems))
    return recipe


def _resolved(recipe: Recipe, document: Document) -> Recipe:
    """The recipe whose denoiser says all that it is, whatever it took from outside."""
    denoiser = recipe.denoiser
    resolved = getattr(denoiser, "resolved", None)
    if resolved is None:
        return recipe
    try:
        whole = resolved()
    except OSError as error:
        message = f"what it takes from outside cannot be read: {error}"
        problem = Problem(path=("denoiser",), message=message, table=True)
        raise RecipeError(document.lines([problem])) from error
    if type(whole) is not type(denoiser):
        raise PluginError(
            f"{type(denoiser).__qualname__}.resolved() gave {whole!r}; expected options of the "
            "same class"
        )
    return attrs.evolve(recipe, denoiser=whole)


def check_recipe(recipe: Recipe) -> list[str]:
    """What does not fit together between the parts of a recipe, one line each.

    `load_recipe` refuses a recipe that has any; this is for one that was made in Python.
    """
    return [problem.line() for problem in cross_problems(recipe)]


def dump_recipe(recipe: Recipe, catalogue: Catalogue | None = None) -> dict[str, Any]:
    """The recipe as plain data, with every default filled in and what is unset left out.

    Raises:
        PluginError: where a component is not registered with a hook.
    """
    catalogue = load_catalogue() if catalogue is None else catalogue
    plain: dict[str, Any] = _converter(catalogue).unstructure(recipe, unstructure_as=Recipe)
    return plain


def recipe_toml(recipe: Recipe, catalogue: Catalogue | None = None) -> str:
    """The recipe as a TOML file with every default filled in; it loads back to an equal one."""
    import tomli_w  # here, since only writing needs it

    return tomli_w.dumps(dump_recipe(recipe, catalogue))


def recipe_hash(recipe: Recipe, catalogue: Catalogue | None = None) -> str:
    """Eight hexadecimal digits that change with anything in the resolved recipe but its layout."""
    return plain_hash(dump_recipe(recipe, catalogue))


def plain_hash(plain: Mapping[str, Any]) -> str:
    """`recipe_hash` of a recipe as plain data.

    It begins the sha256 of what decides the curve, as JSON with sorted keys.
    """
    plain = split_layout(plain)[0]
    # A table of free form may hold a TOML date, which JSON lacks: its text stands for it.
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def split_layout(plain: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A plain recipe in two: what decides the curve, and how the work is laid out.

    The layout (``[parallel]`` without its dtypes, ``train.micro_batch_size``) changes a curve by
    rounding alone, and by dropout where there is any, so a run may go on with another.

    >>> split_layout({"train": {"steps": 5, "micro_batch_size": 2}, "parallel": {"mode": "ddp"}})
    ({'train': {'steps': 5}}, {'train': {'micro_batch_size': 2}, 'parallel': {'mode': 'ddp'}})
    """
    curve: dict[str, Any] = {}
    layout: dict[str, Any] = {}
    for table, keys in plain.items():
        if table in _LAYOUT:
            there = {key: value for key, value in keys.items() if key in _LAYOUT[table]}
            layout |= {table: there} if there else {}
            keys = {key: value for key, value in keys.items() if key not in there}
        if keys or table not in _LAYOUT:
            curve[table] = keys
    return curve, layout


def differing_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The keys in which two plain recipes differ, with the value in `a` and that in `b`.

    >>> differing_keys({"train": {"steps": 10}}, {"train": {"steps": 20}})
    ['train.steps: 10 -> 20']
    """
    left, right = dict(_leaves(a)), dict(_leaves(b))
    absent = object()

    def shown(value: object) -> str:
        return "(not set)" if value is absent else json.dumps(value, default=str)

    return [
        f"{dotted(path)}: {shown(left.get(path, absent))} -> {shown(right.get(path, absent))}"
        for path in [*left, *(path for path in right if path not in left)]
        if left.get(path, absent) != right.get(path, absent)
    ]


def _leaves(data: Mapping[str, Any], above: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _converter(catalogue: Catalogue) -> cattrs.Converter:
    return make_converter(catalogue, CLOSED_TABLES)


def _default_uses(cls: type, above: KeyPath = ()) -> dict[KeyPath, str]:
    """The component that each table gets if the recipe names none, by path."""
    attrs.resolve_types(cls)
    uses = {}
    for field in attrs.fields(cls):
        path = (*above, field.name)
        if DEFAULT_USE in field.metadata:
            uses[path] = field.metadata[DEFAULT_USE]
        elif isinstance(field.type, type) and attrs.has(field.type):
            uses |= _default_uses(field.type, path)
    return uses
