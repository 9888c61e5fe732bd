"""The grammar of templates: ``The [MASK:3-8] of the sea.[EOS]``."""

from __future__ import annotations

import re
from typing import Literal

from attrs import frozen

from mdmkit.errors import RecipeError
from mdmkit.suggest import did_you_mean

NAMES = ("MASK", "BOS", "EOS")
"""What brackets may hold."""

_TAG = re.compile(r"\[([A-Za-z]+)")
_GAP = re.compile(r"\[MASK(?::([0-9]{1,9})(?:-([0-9]{1,9}))?)?\]")
_SPECIAL = re.compile(r"\[(BOS|EOS)\]")


@frozen(kw_only=True)
class Gap:
    """Text that is to be generated.

    Attributes:
        shortest, longest: how many tokens it may have.
    """

    shortest: int
    longest: int


@frozen(kw_only=True)
class Special:
    """The token that begins a document, or the one that ends it."""

    role: Literal["bos", "eos"]


Part = str | Gap | Special


@frozen(kw_only=True)
class Template:
    """Text with gaps.

    Attributes:
        text: as it was written.
        parts: literal text, gaps and special tokens, in order.
        id: what output calls it; None: its number among the templates.
        where: how an error names it.
    """

    text: str
    parts: tuple[Part, ...]
    id: str | int | None = None
    where: str = "template"


def parse_template(text: str, *, id: str | int | None = None, where: str | None = None) -> Template:
    r"""Read a template.

    ``[MASK]`` is a gap of one token, ``[MASK:12]`` one of twelve, ``[MASK:3-8]`` one whose length
    is chosen; ``[BOS]`` and ``[EOS]`` are the special tokens. A backslash before a bracket or
    another backslash takes its meaning away. Brackets around anything else are text, but for
    words in capitals.

    Args:
        text: the template.
        id: what output calls it.
        where: how an error names it; by the text itself by default.

    Raises:
        RecipeError: where a bracket is not understood, a gap has an impossible length, or there
            is no gap.

    >>> parse_template(r"[MASK] \[MASK] [sic]").parts
    (Gap(shortest=1, longest=1), ' [MASK] [sic]')
    """
    where = f'template "{_short(text, 40)}"' if where is None else where
    parts: list[Part] = []
    literal, place = "", 0
    while place < len(text):
        tag = _TAG.match(text, place)
        if tag is not None and _reserved(tag[1]):
            part, end = _tag(text, place, tag[1], where)
            parts += [literal, part] if literal else [part]
            literal, place = "", end
            continue
        place += text[place] == "\\" and text[place + 1 : place + 2] in ("[", "]", "\\")
        literal += text[place]
        place += 1
    parts += [literal] if literal else []
    if not any(isinstance(part, Gap) for part in parts):
        raise RecipeError(
            f"{where}: it has no gap, so there is nothing to generate; expected [MASK:n] "
            "somewhere, with n tokens"
        )
    return Template(text=text, parts=tuple(parts), id=id, where=where)


def _reserved(word: str) -> bool:
    """Whether a bracket before `word` is more than text: one letter in capitals is, as in [T]he."""
    return word.upper() in NAMES or (word.isupper() and len(word) > 1)


def _tag(text: str, place: int, word: str, where: str) -> tuple[Part, int]:
    """The part whose bracket opens at `place`, and where it ends."""
    if gap := _GAP.match(text, place):
        return _gap(gap, f"{where}: character {place + 1}: {gap[0]}"), gap.end()
    if special := _SPECIAL.match(text, place):
        role: Literal["bos", "eos"] = "bos" if special[1] == "BOS" else "eos"
        return Special(role=role), special.end()
    raise _not_understood(text, place, word, where)


def _gap(match: re.Match[str], where: str) -> Gap:
    shortest = int(match[1] or 1)
    longest = int(match[2] or shortest)
    if shortest < 1:
        raise RecipeError(f"{where}: a gap has at least 1 token")
    if longest < shortest:
        raise RecipeError(
            f"{where}: the range goes down; expected [MASK:{longest or 1}-{shortest}]"
        )
    return Gap(shortest=shortest, longest=longest)


def _not_understood(text: str, place: int, word: str, where: str) -> RecipeError:
    end = text.find("]", place)
    seen = _short(text[place : end + 1] if end >= 0 else text[place:], 30)
    hint = "" if word in NAMES else did_you_mean(word.upper(), NAMES)
    return RecipeError(
        f"{where}: character {place + 1}: {seen} is not understood{hint}; expected [MASK], "
        f"[MASK:n], [MASK:a-b] (tokens), [BOS] or [EOS]; for the text itself write \\{seen}"
    )


def _short(text: str, most: int) -> str:
    r"""One line of at most so many characters.

    >>> _short("a\nb" + 50 * "c", 6)
    'a\\nbc…'
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return line if len(line) <= most else line[: most - 1] + "…"
