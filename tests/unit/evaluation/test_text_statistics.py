from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from mdmkit.builtin.evaluators.generation.statistics import (
    distinct,
    ngrams,
    repetition,
    unigram_entropy,
)
from mdmkit.builtin.evaluators.generation.texts import text_of
from mdmkit.builtin.evaluators.generation.windows import windows
from mdmkit.data.text_tokenizer import SpecialTokens, wrap
from mdmkit.values import Vocabulary

BOS, EOS, PAD, MASK = 0, 1, 2, 9


class Digits:
    """Ids as digits; as BERT has it, with BOS and EOS of their own."""

    def __init__(self, **special: int | None) -> None:
        ids = {"bos_id": BOS, "eos_id": EOS, "pad_id": PAD, **special}
        self.vocab = Vocabulary(size=10, mask_id=MASK, **ids)
        self.fingerprint = "0" * 64

    def encode_batch(self, texts):
        return [[int(letter) for letter in text] for text in texts]

    def decode(self, ids):
        return "".join(map(str, ids))


def test_entropy_is_that_of_the_frequencies():
    assert unigram_entropy([5, 5, 6, 7]) == pytest.approx(1.5 * math.log(2))
    assert unigram_entropy(range(8)) == pytest.approx(math.log(8))
    assert unigram_entropy([4, 4, 4]) == unigram_entropy([]) == 0.0


def test_repetition_counts_n_grams_that_were_there_before():
    text = [1, 2, 1, 2, 1]  # 12 21 12 21 · 121 212 121 · 1212 2121
    assert [repetition(text, n) for n in (2, 3, 4)] == pytest.approx([1 / 2, 1 / 3, 0.0])
    assert repetition(text, 6) == 0.0
    assert ngrams(text, 4) == [(1, 2, 1, 2), (2, 1, 2, 1)]


def test_distinct_is_over_all_texts_with_a_jackknife_by_hand():
    # 1-grams: {1, 2, 3} of 5; without the first text 2 of 2, without the second 2 of 3
    assert distinct([[1, 2, 1], [2, 3]], 1) == pytest.approx((3 / 5, 1 / 6))
    assert distinct([[1, 2, 1], [2, 3]], 2) == pytest.approx((1.0, 0.0))
    assert distinct([[1, 2, 3], [4]], 2) == pytest.approx((1.0, 0.0))
    assert distinct([[1], []], 2) == (0.0, 0.0)


def test_the_jackknife_is_the_one_that_leaves_each_text_out():
    source = random.Random(3)
    texts = [[source.randrange(6) for _ in range(source.randrange(2, 9))] for _ in range(12)]
    for n in (1, 2):
        left = [distinct([t for j, t in enumerate(texts) if j != i], n)[0] for i in range(12)]
        mean = sum(left) / 12
        expected = math.sqrt(11 / 12 * sum((value - mean) ** 2 for value in left))
        assert distinct(texts, n)[1] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ids", "parts"),
    [
        ([3, 4, EOS, 5], ("34", "5")),
        ([3, EOS], ("3", "")),  # the end of a document is scored, wherever it is
        ([BOS, 3, 4], ("34",)),  # but in front of everything
        ([EOS, 3, EOS, BOS, 4, PAD, PAD], ("3", "4")),  # EOS and BOS are one cut
        ([EOS, EOS, 3], ("", "3")),
        ([EOS, BOS, 3], ("3",)),
        ([3, BOS, 4], ("3", "4")),
        ([BOS], ("",)),
        ([], ("",)),
    ],
)
def test_the_ends_of_documents_cut_a_text(ids, parts):
    text = text_of(ids, Digits())
    assert text.parts == parts
    assert text.ids == tuple(i for i in ids if i != PAD)
    assert text.utf8_bytes == sum(map(len, parts))


def test_one_token_may_be_bos_eos_and_padding():
    gpt2 = Digits(bos_id=EOS, pad_id=EOS)
    assert text_of([EOS, 3, EOS, EOS, 4], gpt2).parts == ("3", "", "4")
    assert text_of([0, 3], Digits(bos_id=None, eos_id=None, pad_id=None)).parts == ("03",)


def test_a_text_ends_at_its_first_eos_where_it_is_said_to():
    assert text_of([3, EOS, 4], Digits(), ends_at_eos=True).ids == (3,)
    assert text_of([EOS, 4], Digits(), ends_at_eos=True).parts == ("",)
    assert text_of([3, 4], Digits(), ends_at_eos=True).parts == ("34",)


def test_bytes_that_are_no_text_are_noticed_and_count_as_one_each():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<mask>"])
    tokenizer = wrap(backend, SpecialTokens(mask="<mask>"), where="here")
    (ids,) = tokenizer.encode_batch(["aü\ufffd"])
    whole = text_of(ids, tokenizer)
    assert (whole.parts, whole.utf8_bytes, whole.damaged) == (("aü\ufffd",), 6, False)
    broken = text_of([*ids, ids[1], ids[1]], tokenizer)  # the first byte of ü, twice
    assert broken.parts == ("aü\ufffd\ufffd\ufffd",)
    assert (broken.utf8_bytes, broken.lost, broken.damaged) == (8, 2, True)
    assert not text_of([3], Digits()).damaged


@pytest.mark.parametrize("context", [1, 2, 3, 4, 7])
def test_windows_score_every_token_once_with_half_a_context_before_it(context):
    for count in range(30):
        found = list(windows(count, context))
        scored = [place for w in found for place in range(w.scored, w.stop)]
        assert scored == list(range(count))
        assert all(w.stop - w.start <= context for w in found)
        for before, w in pairwise(found):
            assert w.scored == before.stop
            assert w.scored - w.start >= context // 2
    assert [(w.start, w.scored, w.stop) for w in windows(5, None)] == [(0, 0, 5)]
