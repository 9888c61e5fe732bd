"""The hub's data sets that the field uses, by name.

Each is a `Hub` with other defaults, and every default can be set otherwise. Where files lie, how
columns are called and what licence a card states is taken from the hub's pages and from code that
reads them; no data set was fetched from the hub to write this.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import frozen

from mdmkit.builtin.corpora.hub import Hub
from mdmkit.options import option

_CONVERTED = "refs/convert/parquet"  # the hub's own conversion of sets that are scripts on main


@frozen(kw_only=True)
class Lm1b(Hub):
    """The One Billion Word Benchmark (LM1B): one shuffled sentence a document.

    From the hub's own parquet conversion. As in MDLM (arXiv 2406.07524), the test split serves
    for validation too.
    """

    dataset: str = option("billion-word-benchmark/lm1b", doc="owner/name on the hub")
    config: str | None = option("plain_text", doc="the configuration (subset)")
    revision: str = option(_CONVERTED, doc="branch, tag or commit")
    validation: str = option("test", doc="the hub's name of the split used for validation")


@frozen(kw_only=True)
class OpenWebText(Hub):
    """OpenWebText (Gokaslan and Cohen, 2019): 8,013,769 web pages, some 40 GB of text.

    It has a train split only: as in MDLM (arXiv 2406.07524), the last 100,000 documents are
    validation, and they serve for testing too.
    """

    licence: ClassVar[str | None] = "CC0-1.0 (the collection)"

    dataset: str = option("Skylion007/openwebtext", doc="owner/name on the hub")
    config: str | None = option("plain_text", doc="the configuration (subset)")
    train: str = option("train[:-100000]", doc="the split used for training, or rows of it")
    validation: str = option("train[-100000:]", doc="of the one used for validation")
    test: str = option("train[-100000:]", doc="of the one used for testing")


@frozen(kw_only=True)
class WikiText103(Hub):
    """WikiText-103 (arXiv 1609.07843), raw: a line of an article a document."""

    licence: ClassVar[str | None] = "CC-BY-SA-3.0 and GFDL"

    dataset: str = option("Salesforce/wikitext", doc="owner/name on the hub")
    config: str | None = option("wikitext-103-raw-v1", doc="the configuration (subset)")
    file_split: Literal["train", "validation", "test"] = option(
        "validation", doc="the split that `path` is, where it is a single file"
    )


@frozen(kw_only=True)
class WikiText2(WikiText103):
    """WikiText-2 (arXiv 1609.07843), raw: the validation and test articles of WikiText-103."""

    config: str | None = option("wikitext-2-raw-v1", doc="the configuration (subset)")


@frozen(kw_only=True)
class Ptb(Hub):
    """The Penn Treebank as prepared by Mikolov: one sentence a document, rare words ``<unk>``.

    From the hub's own parquet conversion; the text itself is licensed by the LDC.
    """

    licence: ClassVar[str | None] = "LDC User Agreement for Non-Members"

    dataset: str = option("ptb-text-only/ptb_text_only", doc="owner/name on the hub")
    config: str | None = option("penn_treebank", doc="the configuration (subset)")
    revision: str = option(_CONVERTED, doc="branch, tag or commit")
    column: str = option("sentence", doc="the column that holds the text")
    file_split: Literal["train", "validation", "test"] = option(
        "validation", doc="the split that `path` is, where it is a single file"
    )


@frozen(kw_only=True)
class AgNews(Hub):
    """AG News (arXiv 1509.01626): title and first sentences of a news article a document.

    It has no validation split: the test split serves for both.
    """

    dataset: str = option("fancyzhx/ag_news", doc="owner/name on the hub")
    validation: str = option("test", doc="the hub's name of the split used for validation")
    file_split: Literal["train", "validation", "test"] = option(
        "test", doc="the split that `path` is, where it is a single file"
    )


@frozen(kw_only=True)
class Lambada(Hub):
    """LAMBADA (arXiv 1606.06031), OpenAI's test set of 5,153 passages; there is no training text.

    The test split serves for validation too.
    """

    licence: ClassVar[str | None] = "MIT"

    dataset: str = option("EleutherAI/lambada_openai", doc="owner/name on the hub")
    config: str | None = option("default", doc="the configuration (subset)")
    validation: str = option("test", doc="the hub's name of the split used for validation")
    file_split: Literal["train", "validation", "test"] = option(
        "test", doc="the split that `path` is, where it is a single file"
    )


@frozen(kw_only=True)
class PubMed(Hub):
    """Scientific papers of PubMed (arXiv 1804.05685): the body of an article a document.

    From the hub's own parquet conversion.
    """

    dataset: str = option("armanc/scientific_papers", doc="owner/name on the hub")
    config: str | None = option("pubmed", doc="the configuration (subset)")
    revision: str = option(_CONVERTED, doc="branch, tag or commit")
    column: str = option("article", doc="the column that holds the text")
    file_split: Literal["train", "validation", "test"] = option(
        "validation", doc="the split that `path` is, where it is a single file"
    )


@frozen(kw_only=True)
class ArXiv(PubMed):
    """Scientific papers of arXiv (arXiv 1804.05685): the body of an article a document.

    The hub converts no more than 5 GB of a configuration and calls all of its splits partial then:
    ``partial-train`` is cut short. ``ccdv/arxiv-summarization`` (configuration ``document``) has
    all of it, with the paragraphs of an article joined in another way.
    """

    config: str | None = option("arxiv", doc="the configuration (subset)")
    train: str = option("partial-train", doc="the split used for training, or rows of it")
    validation: str = option("partial-validation", doc="of the one used for validation")
    test: str = option("partial-test", doc="of the one used for testing")


@frozen(kw_only=True)
class FineWebEdu(Hub):
    """FineWeb-Edu (arXiv 2406.17557), the sample of 10 billion tokens; one web page a document.

    Other samples: ``files = "sample/100BT/*"``, ``"sample/350BT/*"``; everything: ``"data/*/*"``.
    It has a train split only: the last 10,000 documents are held out (our choice).
    """

    licence: ClassVar[str | None] = "ODC-By-1.0"

    dataset: str = option("HuggingFaceFW/fineweb-edu", doc="owner/name on the hub")
    files: str | None = option("sample/10BT/*", doc="a pattern of the files of the train split")
    train: str = option("train[:-10000]", doc="the split used for training, or rows of it")
    validation: str = option("train[-10000:]", doc="of the one used for validation")
    test: str = option("train[-10000:]", doc="of the one used for testing")


@frozen(kw_only=True)
class TinyStories(Hub):
    """TinyStories (arXiv 2305.07759): a generated story of small words a document.

    It has no test split: the validation split serves for both.
    """

    licence: ClassVar[str | None] = "CDLA-Sharing-1.0"

    dataset: str = option("roneneldan/TinyStories", doc="owner/name on the hub")
    test: str = option("validation", doc="the hub's name of the split used for testing")
