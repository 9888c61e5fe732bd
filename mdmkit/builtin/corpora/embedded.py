"""Texts of different kinds that are shipped with the package, to test on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from attrs import frozen

from mdmkit.data.shipped import read_documents, read_provenance
from mdmkit.errors import DataError
from mdmkit.options import option
from mdmkit.protocols import Split


@frozen(kw_only=True)
class Embedded:
    """Text shipped with the package, of a kind of English that a model may not have seen.

    ``moby_dick``: odd chapters of Melville's novel (1851). ``bible``: chapters of six books of
    the King James translation (1611). ``jargon``: longer entries of the Jargon File (2003), what
    programmers say. All are in the public domain; where each comes from stands in the provenance
    file beside it. There is but a test split.
    """

    text: Literal["moby_dick", "bible", "jargon"] = option(doc="which text")

    def documents(self, split: Split) -> Iterator[str]:
        """The documents, in their order in the source.

        Raises:
            DataError: any split but ``test``; a shipped file that is not the one that was shipped.
        """
        provenance = self._provenance(split)
        return (document["text"] for document in read_documents(self.text, provenance))

    def fingerprint(self, split: Split) -> str:
        """A hash of the shipped file."""
        facts = f"{self._provenance(split)['xz']['sha256']} {self.text}"
        return hashlib.sha256(facts.encode()).hexdigest()

    def describe(self, split: Split) -> Mapping[str, Any]:
        """Title, source, version, licence, hash and what was taken."""
        provenance = self._provenance(split)
        facts = ("title", "source", "version", "licence", "selection")
        return {"split": split, "text": self.text, "sha256": provenance["xz"]["sha256"]} | {
            fact: provenance[fact] for fact in facts
        }

    def _provenance(self, split: Split) -> dict[str, Any]:
        if split != "test":
            raise DataError(
                f"data.corpus: the embedded text {self.text!r} has a test split only; the {split} "
                'split is asked for. Evaluate on it with `split = "test"`, and train on another '
                "corpus, state_of_the_union for one"
            )
        return read_provenance(self.text)
