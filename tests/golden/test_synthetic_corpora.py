"""Made-up text against enumeration: every text of a few symbols, every set of masks."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mdmkit import load_recipe
from mdmkit.builtin.corpora import MarkovText, TopicText
from mdmkit.data.blocks import build_tokenizer, open_blocks
from mdmkit.errors import RecipeError

LENGTH = 5
MARKOV = MarkovText(symbols=3, sharpness=2.0, seed=4)
TOPICS = TopicText(topics=3, group=1, purity=0.7)
PAIRS = TopicText(topics=2, group=2, purity=0.2)


def chain(corpus: MarkovText) -> NDArray[np.float64]:
    """p of every text, ``[K, …, K]``, by its steps."""
    moves, first = corpus.transitions(), corpus.stationary()
    chances = np.empty((corpus.symbols,) * LENGTH)
    for text in itertools.product(range(corpus.symbols), repeat=LENGTH):
        steps = [moves[a, b] for a, b in itertools.pairwise(text)]
        chances[text] = first[text[0]] * math.prod(steps)
    return chances


def mixture(corpus: TopicText) -> NDArray[np.float64]:
    """The same, a mean over topics."""
    symbols = corpus.topics * corpus.group
    chances = np.zeros((symbols,) * LENGTH)
    for topic in range(corpus.topics):
        other = (1 - corpus.purity) / (corpus.topics - 1)
        letter = [corpus.purity if s // corpus.group == topic else other for s in range(symbols)]
        for text in itertools.product(range(symbols), repeat=LENGTH):
            one = math.prod(letter[s] / corpus.group for s in text)
            chances[text] += one / corpus.topics
    return chances


TABLES = {MARKOV: chain(MARKOV), TOPICS: mixture(TOPICS), PAIRS: mixture(PAIRS)}


def entropy(chances: NDArray[np.float64]) -> float:
    return -float((chances * np.log(chances)).sum())


def enumerated(chances: NDArray[np.float64], masked: int) -> float:
    """The mean of H(X_i and the visible) − H(the visible) over all sets and all hidden i."""
    found = []
    for hidden in itertools.combinations(range(LENGTH), masked):
        seen = entropy(chances.sum(axis=hidden))
        for place in hidden:
            rest = tuple(other for other in hidden if other != place)
            found.append(entropy(chances.sum(axis=rest)) - seen)
    return sum(found) / len(found)


@pytest.mark.parametrize("corpus", TABLES, ids=["markov", "topics", "pairs"])
@pytest.mark.parametrize("masked", range(1, LENGTH + 1))
def test_the_masked_entropy_is_that_of_all_texts_and_masks(corpus: Any, masked: int) -> None:
    expected = enumerated(TABLES[corpus], masked)
    assert corpus.masked_entropy(masked, LENGTH) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("corpus", TABLES, ids=["markov", "topics", "pairs"])
def test_they_sum_to_the_entropy_of_a_block(corpus: Any) -> None:
    total = sum(corpus.masked_entropy(k, LENGTH) for k in range(1, LENGTH + 1))
    assert total == pytest.approx(entropy(TABLES[corpus]), abs=1e-12)


def test_the_ends_and_the_sum_of_a_long_block_of_the_chain() -> None:
    corpus, length = MarkovText(), 80
    near, far = corpus.entropies(2)
    alone = corpus.masked_entropy(length, length)
    assert alone == pytest.approx(entropy(corpus.stationary()), abs=1e-12)
    one = ((length - 2) * (2 * near - far) + 2 * near) / length
    assert corpus.masked_entropy(1, length) == pytest.approx(one, abs=1e-12)
    total = sum(corpus.masked_entropy(k, length) for k in range(1, length + 1))
    assert total == pytest.approx(alone + (length - 1) * near, rel=1e-12)


def test_with_all_visible_a_long_document_tells_its_topic() -> None:
    corpus = TopicText(purity=0.6)
    known = corpus.describe("test")["nats_per_symbol"]["given_the_topic"]
    assert corpus.masked_entropy(1, 128) == pytest.approx(known, abs=1e-4)
    assert corpus.masked_entropy(128, 128) == pytest.approx(math.log(16), abs=1e-12)


def test_the_chain_is_drawn_from_its_transitions() -> None:
    corpus = MarkovText(symbols=3, train=60_000, piece=7_000)
    text = "".join(corpus.documents("train"))
    assert len(text) == 60_000
    pairs = Counter(itertools.pairwise(text))
    moves = corpus.transitions()
    for i, j in itertools.product(range(3), repeat=2):
        row = sum(pairs["abc"[i], letter] for letter in "abc")
        error = math.sqrt(moves[i, j] * (1 - moves[i, j]) / row)
        assert abs(pairs["abc"[i], "abc"[j]] / row - moves[i, j]) < 4 * error


def test_the_topics_are_as_likely_and_as_pure_as_said() -> None:
    corpus = TopicText(topics=3, group=2, purity=0.8, train=900, document_length=30)
    letters = {"ab": 0, "cd": 1, "ef": 2}
    groups = {letter: group for pair, group in letters.items() for letter in pair}
    counts = [Counter(groups[letter] for letter in text) for text in corpus.documents("train")]
    topics = Counter(count.most_common(1)[0][0] for count in counts)
    assert all(abs(topics[topic] - 300) < 4 * math.sqrt(200) for topic in range(3))
    pure = sum(count.most_common(1)[0][1] for count in counts) / (900 * 30)
    assert abs(pure - 0.8) < 4 * math.sqrt(0.16 / 27_000)


def test_a_block_of_real_length_has_its_curve_at_once() -> None:
    corpus = MarkovText(symbols=4)
    h = [corpus.masked_entropy(k, 1024) for k in range(1, 1025)]
    assert sum(h) == pytest.approx(h[-1] + 1023 * corpus.entropies(1)[0], rel=1e-9)


def recipe(corpus: str, *, tokenizer: str = "text8", eos: str = "false", packing: str = "") -> Any:
    tables = {"corpus": corpus, "tokenizer": f'{{ use = "{tokenizer}" }}', "length": "8"}
    tables["packing"] = packing or f'{{ use = "packed", eos = {eos} }}'
    return load_recipe(
        "quickstart_uniform", [f"data.{key}={value}" for key, value in tables.items()]
    )


TOPIC_TABLE = '{ use = "topic_text", document_length = 16, held_out = 5 }'


@pytest.mark.parametrize("tokenizer", ["text8", "bytes"])
def test_a_block_holds_symbols_of_one_document_alone(tmp_path: Path, tokenizer: str) -> None:
    data = recipe(TOPIC_TABLE, tokenizer=tokenizer).data
    made = build_tokenizer(data, cache_dir=tmp_path)
    blocks = open_blocks(data, "test", tokenizer=made, cache_dir=tmp_path)
    rows = [made.decode(row) for row in blocks.batch(torch.arange(len(blocks))).tokens.tolist()]
    texts = list(data.corpus.documents("test"))
    assert rows == [text[place : place + 8] for text in texts for place in (0, 8)]


@pytest.mark.parametrize(
    ("corpus", "others", "said"),
    [
        ('{ use = "markov_text" }', {"tokenizer": "bpe"}, "each must be a token"),
        ('{ use = "markov_text" }', {"tokenizer": "bytes", "eos": "true"}, "without BOS and EOS"),
        ('{ use = "topic_text", document_length = 12 }', {}, "a block must be in one document"),
        (
            '{ use = "markov_text" }',
            {"packing": '{ use = "rearranged", of = { use = "packed", eos = true } }'},
            "without BOS and EOS",
        ),
    ],
)
def test_other_tokens_and_blocks_are_refused(
    corpus: str, others: dict[str, str], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(corpus, **others)
