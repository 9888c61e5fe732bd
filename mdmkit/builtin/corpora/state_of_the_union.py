"""The embedded corpus: State of the Union addresses, 1790 to 2021."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from mdmkit.data.shipped import archive_of, provenance_of, read_documents, read_provenance
from mdmkit.protocols import Split

NAME = "state_of_the_union"
ARCHIVE = archive_of(NAME)
PROVENANCE = provenance_of(NAME)

HELD_OUT_YEARS = (range(1797, 1817), range(2009, 2017))
RULE = (
    "Whole presidencies are held out, three early ones and a late one: the speeches of the years "
    "1797-1816 (John Adams, Thomas Jefferson, James Madison) and 2009-2016 (Barack Obama). Of "
    "these, even years are validation and odd years test; every other year is train."
)


def split_of(year: int) -> Split:
    """The split that a speech belongs to (`RULE`).

    >>> split_of(1790), split_of(1800), split_of(2015)
    ('train', 'validation', 'test')
    """
    if not any(year in years for years in HELD_OUT_YEARS):
        return "train"
    return "validation" if year % 2 == 0 else "test"


@frozen(kw_only=True)
class StateOfTheUnion:
    """The State of the Union addresses from 1790 to 2021, shipped with the package.

    A document is one speech, on one line. The text is in the public domain (CC0, PDDL); where it
    comes from and how it is split stands in the provenance file beside it.
    """

    def documents(self, split: Split) -> Iterator[str]:
        """The speeches of `split`, from the oldest to the newest.

        Raises:
            DataError: where the shipped file is not the one that was shipped.
        """
        for speech in read_documents(NAME, _provenance()):
            if split_of(speech["year"]) == split:
                yield speech["text"]

    def fingerprint(self, split: Split) -> str:
        """A hash of the shipped file and the split."""
        facts = f"{_provenance()['xz']['sha256']} {RULE} {split}"
        return hashlib.sha256(facts.encode()).hexdigest()

    def describe(self, split: Split) -> Mapping[str, Any]:
        """Source, version, licence, hash and rule."""
        provenance = _provenance()
        return {
            "source": provenance["source"],
            "version": provenance["version"],
            "licence": provenance["licence"],
            "sha256": provenance["xz"]["sha256"],
            "split": split,
            "split_rule": provenance["split_rule"],
        }


def _provenance() -> dict[str, Any]:
    return read_provenance(NAME)
