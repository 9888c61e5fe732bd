"""``mdmkit data``: make a recipe's tokens ahead of time, look at them, list what there is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdmkit.cli.options import JsonOption, RecipeArgument, SetOption, print_columns, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mdmkit.data.blocks import TokenBlocks
    from mdmkit.data.inventory import Stored
    from mdmkit.data.text_tokenizer import TextTokenizer
    from mdmkit.protocols import Split
    from mdmkit.recipe import Recipe
    from mdmkit.report.tokenizing import Teller

SplitOption = Annotated[
    list[str] | None,
    typer.Option("--split", help="Only this split; repeatable. By default all that a run needs."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Processes that tokenize; one a core by default. The result is "
        "the same."
    ),
]  # fmt: skip
BlocksOption = Annotated[
    int, typer.Option("--blocks", min=0, help="How many blocks of each split to print.")
]
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Read all files and compare them with their hashes.")
]


_LONG = 80  # characters


def register(app: typer.Typer) -> None:
    """Add the command and its sub-commands."""
    group = typer.Typer(
        help="Tokenize a recipe's text ahead of time, look at it, list what is in the cache.",
        no_args_is_help=True,
    )
    group.command("prepare")(prepare)
    group.command("show")(show)
    group.command("list")(list_stores)
    app.add_typer(group, name="data")


def prepare(
    recipe: RecipeArgument,
    split: SplitOption = None,
    workers: WorkersOption = None,
    overrides: SetOption = None,
) -> None:
    """Tokenize the splits that a run of the recipe needs, so that it begins at once.

    What was interrupted is gone on with: start the same command again.
    """
    from rich.console import Console

    from mdmkit.recipe import load_recipe
    from mdmkit.report.tokenizing import Teller

    teller = Teller(Console())
    loaded = load_recipe(recipe, overrides or ())
    try:
        found = [_facts(blocks) for _, blocks in _opened(loaded, split, workers, teller)]
    except KeyboardInterrupt:
        typer.echo("stopped; start the same command again to go on from there", err=True)
        raise
    names = ("split", "documents", "tokens", "blocks", "folder")
    print_columns(names, [[_cell(facts[name]) for name in names] for facts in found])


def show(
    recipe: RecipeArgument,
    split: SplitOption = None,
    blocks: BlocksOption = 3,
    workers: WorkersOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print how much text a recipe has, how it is cut into blocks, and some of the blocks.

    What is not tokenized yet is tokenized first.
    """
    from rich.console import Console

    from mdmkit.recipe import dump_recipe, load_recipe
    from mdmkit.report.tables import printable
    from mdmkit.report.tokenizing import Teller

    teller = Teller(Console(stderr=True))
    loaded = load_recipe(recipe, overrides or ())
    named = dump_recipe(loaded)["data"]["tokenizer"]
    found = []
    for tokenizer, opened in _opened(loaded, split, workers, teller):
        facts = _facts(opened) | {
            "tokenizer": named | {"vocabulary": tokenizer.vocab.size},
            "examples": _decoded(opened, tokenizer, blocks),
        }
        found.append(facts)
        if not as_json:
            if len(found) > 1:
                typer.echo()
            for line in _described(facts):
                typer.echo(printable(line))
    if as_json:
        print_json(found)


def list_stores(as_json: JsonOption = False, verify: VerifyOption = False) -> None:
    """List the tokenized text in the cache, unfinished work too.

    A folder that is not needed any more can be removed; a run that needs it makes it again.
    """
    from mdmkit.data.cache import cache_root
    from mdmkit.data.inventory import inventory
    from mdmkit.report.numbers import size

    root = cache_root()
    stores = inventory(root, verify=verify)
    if as_json:
        print_json([stored.to_json() for stored in stores])
        return
    if not stores:
        typer.echo(f"nothing in {root}")
        return
    header = ("corpus", "split", "tokenizer", "size", "tokens", "age", "state", "folder")
    print_columns(header, [_row(stored) for stored in stores])
    typer.echo(f"{size(sum(stored.size for stored in stores))} in {root}")


def _opened(
    recipe: Recipe, only: Sequence[str] | None, workers: int | None, teller: Teller
) -> Iterator[tuple[TextTokenizer, TokenBlocks]]:
    """The tokenizer and the blocks of each split."""
    from mdmkit.data.blocks import build_tokenizer, open_blocks
    from mdmkit.training.job import splits_of

    splits = splits_of(recipe) if not only else [_split(name) for name in dict.fromkeys(only)]
    tokenizer = build_tokenizer(recipe.data, teller.notify, splits=splits)
    for split in splits:
        with teller.watching(split) as watch:
            blocks = open_blocks(
                recipe.data,
                split,
                tokenizer=tokenizer,
                notify=teller.notify,
                watch=watch,
                workers=workers,
            )
        yield tokenizer, blocks


def _split(name: str) -> Split:
    from mdmkit.errors import RecipeError
    from mdmkit.suggest import did_you_mean
    from mdmkit.training.job import SPLITS

    for split in SPLITS:
        if split == name:
            return split
    meant = did_you_mean(name, SPLITS) or ";"
    raise RecipeError(f'--split: no split "{name}"{meant} known: {", ".join(SPLITS)}')


def _facts(blocks: TokenBlocks) -> dict[str, Any]:
    """What there is to say of a split, as plain JSON."""
    facts = dict(blocks.provenance)
    return facts | {
        "tokens_per_byte": facts["tokens"] / max(facts["utf8_bytes"], 1),
        "folder": str(blocks.folder),
    }


def _decoded(blocks: TokenBlocks, tokenizer: TextTokenizer, count: int) -> list[dict[str, Any]]:
    """Some blocks as text, evenly spaced: with special tokens, but without padding."""
    import torch

    number = min(count, len(blocks))
    rows = torch.arange(number) * len(blocks) // max(number, 1)
    batch = blocks.batch(rows)
    real = batch.tokens >= 0 if batch.real is None else batch.real
    return [
        {"block": row, "text": tokenizer.decode(ids[own].tolist())}
        for row, ids, own in zip(rows.tolist(), batch.tokens, real, strict=True)
    ]


_OF_PADDED = {
    "truncated_documents": ("truncated", "documents"),
    "split_documents": ("split", "documents"),
    "padding": ("padding", "positions"),
}


def _described(facts: dict[str, Any]) -> Iterator[str]:
    """The facts of a split and its blocks, as lines."""
    yield f"{facts['split']}: {_named(facts['corpus'])}"
    skipped, length = facts["documents_without_tokens"], facts["length"]
    yield f"  documents        {facts['documents']:,}" + (
        f" and {skipped:,} without a token, left out" if skipped else ""
    )
    yield f"  bytes of text    {facts['utf8_bytes']:,}"
    yield f"  tokens           {facts['tokens']:,}, special ones around documents included"
    yield f"  tokens per byte  {facts['tokens_per_byte']:.4f}"
    yield f"  blocks           {facts['blocks']:,} of {length} tokens"
    yield f"  dropped          {facts['dropped_tokens']:,} tokens"
    for name, (label, unit) in _OF_PADDED.items():
        if name in facts:
            yield f"  {label:<15}  {facts[name]:,} {unit}"
    yield f"  packing          {_named(facts['packing'])}"
    yield f"  tokenizer        {_named(facts['tokenizer'])}"
    yield f"  its sha256       {facts['tokenizer_fingerprint']}"
    yield f"  on disk          {facts['folder']}"
    for example in facts["examples"]:
        yield f"  block {example['block']}:"
        yield from (f"    {line}" for line in example["text"].split("\n"))


def _named(table: dict[str, Any]) -> str:
    """A table on one line; what is long (a list of files, an explanation) is in the JSON only."""
    words = [
        f"{key} ({_named(value)})" if isinstance(value, dict) else f"{key} {value}"
        for key, value in table.items()
        if value is not None
    ]
    return ", ".join(word for word in words if len(word) < _LONG)


def _row(stored: Stored) -> list[str]:
    from mdmkit.report.numbers import duration, size

    about = {} if stored.filled is None else stored.filled.about
    corpus, tokenizer = about.get("corpus", {}), about.get("tokenizer", {})
    name = " ".join(str(corpus[key]) for key in ("source", "config") if corpus.get(key))
    state = stored.state if stored.problem is None else f"{stored.state} ({stored.problem})"
    if stored.filled is not None and stored.state in ("being made", "unfinished"):
        state += f" after {stored.filled.counts.documents:,} documents"
    tokens = "" if stored.filled is None else f"{stored.filled.counts.tokens:,}"
    return [
        name,
        str(about.get("split", "")),
        str(tokenizer.get("use", "")),
        size(stored.size),
        tokens,
        duration(max(time.time() - stored.changed, 0)),
        state,
        str(stored.folder),
    ]


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
