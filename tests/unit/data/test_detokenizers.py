from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from mdmkit import DataError
from mdmkit.data.blocks import build_tokenizer, open_blocks
from mdmkit.data.detokenizers import (
    DETOKENIZERS,
    Detokenized,
    DetokenizerName,
    Rule,
    detokenize,
    detokenized,
)

WIKITEXT = [
    # contractions, and what the rule for possessives does to an opening quote
    ("the boys ' games", "the boys' games"),
    ("it was 'so", "it was'so"),
    ("Teddy 's Story", "Teddy's Story"),
    # the rule meant for years takes slashes and class literally
    ("in /' 9/ style", "in /'[0-9]/ style"),
    ("the ' 90s", "the ' 90s"),
    ("a guest @-@ star , 1 @,@ 000 or 2 @.@ 5 m", "a guest-star, 1,000 or 2.5 m"),
    ("a : b ; c . d ! e ? f , g", "a: b; c. d! e? f, g"),
    ("the end .", "the end ."),  # no space after it
    ("the end . \n", "the end.\n"),
    ("60 cm ( 24 in ) and [ sic ] or { x }", "60 cm (24 in) and [sic] or {x}"),
    ('called " lobster red " here', 'called "lobster red" here'),
    ("so ' quoted ' here", "so 'quoted' here"),
    ('one " alone', 'one " alone'),
    ("my boy's ' big ' day", "my boy's' big ' day"),  # the rule for possessives comes first
    ("I'm a ' big ' boy", "I'm a' big ' boy"),  # an apostrophe before shifts the pairs
    (" = Title = \n", " = Title =\n"),
    ("= = Two = =", "== Two =="),
    ("= = = Three = = =", "=== Three ==="),
    ("= = = = Four = = = =", "==== Four ===="),
    ("20 ° C", "20°C"),
    ("one \n two", "one\ntwo"),
    ("about N people", "about 1 people"),
    ("from N N to", "from 1 N to"),  # once
]
PTB = [
    ("the company 's plan", "the company's plan"),
    ("traders ' fears", "traders' fears"),
    ("it does n't", "it doesn't"),
    ("they 're and I 've", "they 're and I 've"),  # no rule
    ("one \n two", "one\ntwo"),
    ("1\\/2 and 3\\/4", "1/2 and 3/4"),
    ("a N N N N b", "a 1 1 1 1 b"),
    ("N years ago N", "N years ago N"),  # not at either end
    ("rose $ N a share", "rose $1 a share"),
    ("rule # N here", "rule #1 here"),
    ("the <unk> of <unk>", "the ? of ?"),
]
LM1B = [
    ("see http : / / x.org", "see http://x.org"),
    ("see https : / / x.org", "see https://x.org"),
    ("it 's what they 'll do", "it's what they'll do"),
    ("he left . She stayed .", "he left. She stayed."),
    ("he left ( now ) .", "he left (now) ."),  # after a bracket it stays apart
    ("no . No . No . ", "no . No. No . "),  # not first; and matches do not overlap
    ("why ? Who ? What ?", "why? Who? What?"),
    ("no ! Go !", "no! Go!"),
    ("a , b : c ; d / e", "a, b: c; d/e"),
    ('he said " go away " twice', 'he said "go away" twice'),
    ("he said ' go away ' twice", "he said 'go away' twice"),
    ("one ( two ) three [ four ]", "one (two) three [four]"),
    ("for $ 5 or £ 6", "for $5 or £6"),
]
LAMBADA = [
    ("“ Go , ” she said .", '\n" Go , " she said .'),
    ("  both ends \n\n", "\nboth ends"),
    ("\u2028 odd spaces \u00a0", "\nodd spaces"),
    ("inside \n\n stays", "\ninside \n\n stays"),
    ("it \u2019s", "\nit \u2019s"),  # single curly quotes stay
    (" \n ", "\n"),
    ("", "\n"),
]
PAPERS = [
    ("a @-@ b ( c ) . \n we ' ll", "a-b (c).\nwe ' ll"),
    ("it costs $ 5 , they 'd say .", "it costs $5, they'd say."),
    # WikiText's rules first: the heading, the ends of lines; LM1B's after that.
    ("= = Two = = \n is it ? \n no / yes", "== Two ==\nis it?\nno/yes"),
]
CASES = {
    "none": [(" a @-@ b ' c \n", " a @-@ b ' c \n"), ("", "")],
    "wikitext": WIKITEXT,
    "ptb": PTB,
    "lm1b": LM1B,
    "lambada": LAMBADA,
    "scientific_papers": PAPERS,
}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [(name, *case) for name, cases in CASES.items() for case in cases],
)
def test_each_rule(name: str, text: str, expected: str) -> None:
    assert detokenize(name, text) == expected


@pytest.mark.parametrize("name", ["wikitext", "ptb", "lm1b", "lambada"])
def test_every_step_is_tried_by_a_case(name: DetokenizerName) -> None:
    cases = CASES[name]
    for step in DETOKENIZERS[name]:
        if step == Rule("= = = =", "===="):
            continue  # the two shorter ones do the same; it is there because the original has it
        others = [other for other in DETOKENIZERS[name] if other is not step]

        def without(text: str, others: Any = others) -> str:
            for other in others:
                text = other.apply(text)
            return text

        assert any(without(text) != detokenize(name, text) for text, _ in cases), step


def test_the_names() -> None:
    assert set(get_args(DetokenizerName)) == set(DETOKENIZERS) == set(CASES)


def test_a_corpus_keeps_its_documents_but_not_its_fingerprint(listed: Any) -> None:
    corpus = listed(train=["a , b", "c ."], test=["d ?"])
    assert detokenized(corpus, "none") is corpus
    wrapped = detokenized(corpus, "lm1b")
    assert list(wrapped.documents("train")) == ["a, b", "c ."]
    assert wrapped.describe("train") == {
        "source": "a list",
        "split": "train",
        "detokenizer": "lm1b",
    }
    other = detokenized(corpus, "ptb")
    known = {c.fingerprint(s) for c in (corpus, wrapped, other) for s in ("train", "test")}
    assert len(known) == 6


def test_another_version_is_another_corpus(listed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = Detokenized(corpus=listed(), detokenizer="ptb")
    before = wrapped.fingerprint("train")
    monkeypatch.setattr("mdmkit.data.detokenizers.VERSION", 0)
    assert wrapped.fingerprint("train") != before


def test_an_unknown_name(listed: Any) -> None:
    with pytest.raises(DataError, match=r'no detokenizer "wikitxt"; did you mean "wikitext"\?'):
        detokenized(listed(), "wikitxt")


def test_blocks_and_a_trained_tokenizer_see_the_detokenized_text(table: Any, corpus: Any) -> None:
    spaced = [text.replace(" fox ", " fox , ").replace(".", " .") for text in corpus.train]
    before = table(length=16, corpus=type(corpus)(train=spaced, version="spaced"))
    data = table(length=16, corpus=before.corpus, detokenizer="lm1b")
    tokenizer = build_tokenizer(data)
    assert tokenizer.fingerprint != build_tokenizer(before).fingerprint
    blocks = open_blocks(data, "train", tokenizer=tokenizer)
    assert blocks.provenance["detokenizer"] == "lm1b"
    assert blocks.provenance["corpus"] == {"source": "a list", "split": "train"}
    text = tokenizer.decode(blocks.batch(torch.arange(len(blocks))).tokens.ravel().tolist())
    assert " fox, " in text
    assert " ," not in text
    raw = open_blocks(before, "train", tokenizer=tokenizer)
    assert raw.provenance["corpus_fingerprint"] != blocks.provenance["corpus_fingerprint"]


@pytest.mark.skipif(
    "MDMKIT_SHARED_DATA" not in os.environ, reason="needs WikiText-103: MDMKIT_SHARED_DATA"
)
def test_wikitext_103() -> None:
    path = Path(os.environ["MDMKIT_SHARED_DATA"]) / "zeroshot" / "wikitext103.valid.tokens.txt"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)  # a row each, on the hub
    text, clean = "".join(lines), "".join(detokenize("wikitext", line) for line in lines)
    for gone in (" @-@ ", " @,@ ", " @.@ ", " , ", " ; ", " : ", " \n", "= =", " ° ", " 's"):
        assert gone in text
        assert gone not in clean, gone
    assert "Homarus gammarus, known as the European lobster or common lobster, is a" in clean
    assert "60 cm (24 in)" in clean
    assert 'becoming "lobster red" on cooking' in clean
    # Compass points become numbers; otherwise only spaces, and the @ of the marks, go.
    assert "10 ° 00 \u2032 N 110 ° 00 \u2032 E" in text
    assert "10°00 \u2032 1 110°00 \u2032 E" in clean
    strip = str.maketrans("N", "1", "@ \n")
    assert clean.translate(strip) == text.translate(strip)
