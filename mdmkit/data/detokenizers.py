"""Detokenizers: they undo what the makers of a data set did to its text.

Perplexities of these sets were published for text that was put back together by a list of
replacements. These lists do what MDLM does (``dataloader.py`` of kuleshov-group/mdlm; Duo's is the
same), mistakes included, because a replacement more or less is another text with another
perplexity. The order of the steps is part of the method; comments name what may surprise.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

from attrs import frozen

from mdmkit.errors import DataError
from mdmkit.protocols import Corpus, Split
from mdmkit.suggest import did_you_mean

VERSION = 1
"""Changes whenever a detokenizer would give other text."""

DetokenizerName = Literal["none", "wikitext", "ptb", "lm1b", "lambada", "scientific_papers"]


class _Step(Protocol):
    def apply(self, text: str) -> str:
        """The text after this step."""


@frozen
class Rule:
    """Replace every occurrence of a string, from the left, without overlap.

    Attributes:
        find: what is replaced.
        put: by what.
        times: how often in a row; an occurrence that shares a space with the one before it is
            found only the next time.
    """

    find: str
    put: str
    times: int = 1

    def apply(self, text: str) -> str:
        """The text after this step."""
        for _ in range(self.times):
            text = text.replace(self.find, self.put)
        return text


@frozen(slots=False)
class Pattern:
    r"""Replace every match of a regular expression.

    Attributes:
        find: the expression.
        put: its replacement, in which ``\1`` is the first group.
    """

    find: str
    put: str

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.find)

    def apply(self, text: str) -> str:
        """The text after this step."""
        return self._compiled.sub(self.put, text)


WIKITEXT: Sequence[_Step] = (
    # Possessives of plurals. It also joins an opening quote to a word before it that ends in s:
    # "was 'so" becomes "was'so".
    Rule("s '", "s'"),
    # Meant for years such as ' 90s, but the slashes and the class are taken literally: only text
    # such as "/' 9/" matches, and turns into "/'[0-9]/".
    Pattern(r"/' [0-9]/", "/'[0-9]/"),
    # WikiText's own marks of a hyphen, comma or point inside a word or number.
    Rule(" @-@ ", "-"),
    Rule(" @,@ ", ","),
    Rule(" @.@ ", "."),
    # Punctuation loses the space before it, but only where a space follows, too: at the end of a
    # text without a line end, " ." stays.
    *(Rule(f" {mark} ", f"{mark} ") for mark in ":;.!?,"),
    # Brackets and quotes close around what they hold. Quotes are paired from the left, so one
    # apostrophe or unpaired quote before shifts the pairs that follow.
    Pattern(r"\(\s*([^)]*?)\s*\)", r"(\1)"),
    Pattern(r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    Pattern(r"\{\s*([^}]*?)\s*\}", r"{\1}"),
    Pattern(r'"\s*([^"]*?)\s*"', r'"\1"'),
    Pattern(r"'\s*([^']*?)\s*'", r"'\1'"),
    # Marks of headings, longest first.
    Rule("= = = =", "===="),
    Rule("= = =", "==="),
    Rule("= =", "=="),
    Rule(" ° ", "°"),
    Rule(" \n", "\n"),
    Rule("\n ", "\n"),
    # Penn Treebank's stand-in for a number, though here it is the north of coordinates; once, so
    # that of " N N " the second stays.
    Rule(" N ", " 1 "),
    Rule(" 's", "'s"),
)

PTB: Sequence[_Step] = (
    Rule(" 's", "'s"),
    Rule("s ' ", "s' "),
    Rule(" n't", "n't"),
    Rule(" \n ", "\n"),
    Rule("\\/", "/"),
    # N stands for a number; at the very beginning or end of a text it stays.
    Rule(" N ", " 1 ", times=10),
    Rule("$ 1", "$1"),
    Rule("# 1", "#1"),
    Rule("<unk>", "?"),
)

LM1B: Sequence[_Step] = (
    Rule("http : / / ", "http://"),
    Rule("https : / / ", "https://"),
    # Clitics ("it 's"); an opening single quote without a space after it is joined just so.
    Pattern(r" '(\w+)", r"'\1"),
    # A full stop after a word; after anything else (a bracket, a quote) it stays apart.
    Pattern(r" (\w+) \. ", r" \1. "),
    Pattern(r" (\w+) \.$", r" \1."),
    Rule(" ? ", "? "),
    Pattern(r" \?$", "?"),
    Rule(" ! ", "! "),
    Pattern(r" !$", "!"),
    Rule(" , ", ", "),
    Rule(" : ", ": "),
    Rule(" ; ", "; "),
    Rule(" / ", "/"),
    # What stands between quotes or brackets, none of which may lie inside.
    Pattern(r'" ([^"]+) "', r'"\1"'),
    Pattern(r"' ([^']+) '", r"'\1'"),
    Pattern(r"\( ([^()]+) \)", r"(\1)"),
    Pattern(r"\[ ([^\[\]]+) \]", r"[\1]"),
    Rule("$ ", "$"),
    Rule("£ ", "£"),
)

LAMBADA: Sequence[_Step] = (
    Rule("“", '"'),
    Rule("”", '"'),
    # White space around the text becomes one newline in front of it.
    Pattern(r"\s+\Z", ""),
    Pattern(r"\A\s*", "\n"),
)

DETOKENIZERS: Mapping[DetokenizerName, Sequence[_Step]] = {
    "none": (),
    "wikitext": WIKITEXT,
    "ptb": PTB,
    "lm1b": LM1B,
    "lambada": LAMBADA,
    "scientific_papers": (*WIKITEXT, *LM1B),
}
"""The closed catalogue: what ``[data] detokenizer`` may say, and the steps in their order."""


def detokenize(name: str, text: str) -> str:
    """The text as the detokenizer `name` leaves it.

    Args:
        name: of `DETOKENIZERS`.
        text: one document.

    Raises:
        DataError: where there is no such detokenizer.

    >>> detokenize("wikitext", " a guest @-@ starring role , in 2000 . ")
    ' a guest-starring role, in 2000. '
    >>> detokenize("ptb", "<unk> rose $ N to N N")
    '? rose $1 to 1 N'
    """
    for step in _steps(name):
        text = step.apply(text)
    return text


def detokenized(corpus: Corpus, name: str) -> Corpus:
    """`corpus` with every document detokenized; itself where the name is ``none``.

    Raises:
        DataError: where there is no such detokenizer.
    """
    return Detokenized(corpus=corpus, detokenizer=name) if _steps(name) else corpus


@frozen(kw_only=True)
class Detokenized:
    """A corpus whose documents are detokenized one by one as they are read.

    Attributes:
        corpus: where they come from.
        detokenizer: a name of `DETOKENIZERS`.
    """

    corpus: Corpus
    detokenizer: str

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of `split`, detokenized."""
        for document in self.corpus.documents(split):
            yield detokenize(self.detokenizer, document)

    def fingerprint(self, split: Split) -> str:
        """Changes with the corpus, the name, and what the name stands for (`VERSION`)."""
        parts = (self.corpus.fingerprint(split), self.detokenizer, str(VERSION))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def describe(self, split: Split) -> Mapping[str, Any]:
        """What the corpus says of itself, and the detokenizer."""
        return {**self.corpus.describe(split), "detokenizer": self.detokenizer}


def _steps(name: str) -> Sequence[_Step]:
    steps: Mapping[str, Sequence[_Step]] = {str(known): of for known, of in DETOKENIZERS.items()}
    if name not in steps:
        raise DataError(
            f'data.detokenizer: no detokenizer "{name}"{did_you_mean(name, steps) or ";"} '
            f"known: {', '.join(steps)}"
        )
    return steps[name]
