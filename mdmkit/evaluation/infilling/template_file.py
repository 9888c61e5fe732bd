"""A file of templates: one a line, as plain text or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mdmkit.data.text_tokenizer import read_text
from mdmkit.errors import RecipeError
from mdmkit.evaluation.infilling.templates import Template, parse_template
from mdmkit.plain_files import parse_json
from mdmkit.problems import found
from mdmkit.suggest import did_you_mean

KEYS = ("template", "id")
"""What a line of JSON may have."""


def read_templates(path: Path) -> list[Template]:
    r"""The templates of a file, in order.

    ``.txt`` has one template a line; ``.jsonl`` one JSON object a line, with ``template`` (in which
    a line may end, as ``\n``) and, if wanted, ``id``, a string or an integer. Empty lines are
    passed over.

    Raises:
        DataError: where the file cannot be read.
        RecipeError: for another ending, a line that is not understood, or no template at all.
    """
    read_line = READERS.get(path.suffix)
    if read_line is None:
        raise RecipeError(
            f"{path}: expected a file of templates that ends in {' or '.join(READERS)}, one a line"
        )
    text = read_text(path, what="a file of templates, one a line")
    lines = enumerate(text.split("\n"), start=1)  # JSON may hold characters that end a line, too
    templates = [
        read_line(line.removesuffix("\r"), f"{path}, line {number}")
        for number, line in lines
        if line.strip()
    ]
    if not templates:
        raise RecipeError(f"{path}: it is empty; expected a template a line")
    return templates


def _plain(line: str, where: str) -> Template:
    return parse_template(line, where=where)


def _json(line: str, where: str) -> Template:
    try:
        entry = parse_json(line)
    except ValueError as error:
        raise RecipeError(f"{where}: not JSON: {error}") from error
    if not isinstance(entry, dict):
        raise RecipeError(f'{where}: expected {{"template": "…"}}, got {found(entry)}')
    problems = list(_problems(entry))
    if problems:
        raise RecipeError(f"{where}: {problem}" for problem in problems)
    return parse_template(entry["template"], id=entry.get("id"), where=where)


def _problems(entry: Mapping[str, object]) -> Iterator[str]:
    for key in entry:
        if key not in KEYS:
            yield f'unknown key "{key}"{did_you_mean(key, KEYS)}; expected {" and ".join(KEYS)}'
    if "template" not in entry:
        yield "template: missing; expected a string"
    elif not isinstance(entry["template"], str):
        yield f"template: expected a string, got {found(entry['template'])}"
    id = entry.get("id", 0)
    if type(id) not in (str, int) or not str(id).isprintable():
        yield f"id: expected a string on one line, or an integer, got {found(id)}"


READERS: Mapping[str, Callable[[str, str], Template]] = {".txt": _plain, ".jsonl": _json}
"""What reads a line, by the ending of the file's name."""
