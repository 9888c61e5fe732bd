"""Requests turned into rows, and states turned into what is given out; no network."""

from __future__ import annotations

from typing import ClassVar

import attrs
import pytest
import torch

from mdmkit.builtin.samplers import Ancestral, AutoregressiveSampler, SemiAutoregressive
from mdmkit.data.cache import ignore
from mdmkit.errors import RecipeError
from mdmkit.evaluation.generate import generate_samples
from mdmkit.evaluation.infilling.gap_lengths import Candidate
from mdmkit.evaluation.infilling.templates import parse_template
from mdmkit.evaluation.recording import Recorder
from mdmkit.evaluation.sample_states import Showing, pieces_of
from mdmkit.evaluation.samples import end_of_text, filled_gaps
from mdmkit.evaluation.session import Session
from mdmkit.evaluation.wanted import Asked, check_eos, in_batches, wanted_texts
from mdmkit.recipe import recipe_from_dict
from mdmkit.values import Generation

from .test_templates import Letters

EOS, MASK = 256, 259
BASE = {
    "run": {"name": "r"},
    "data": {
        "length": 8,
        "corpus": {"use": "text", "train": "t"},
        "tokenizer": {"use": "bytes"},
    },
    "denoiser": {"use": "dit", "width": 8, "depth": 1, "heads": 2},
    "train": {"steps": 1, "global_batch_size": 4},
    "learning_rate": {"warmup_steps": 0},
}
LETTERS = Letters(eos_id=EOS)


def recipe(**changes):
    return recipe_from_dict({**BASE, **changes})


MASKED = recipe()
NEXT = recipe(objective={"use": "autoregressive"}, sampler={"use": "autoregressive"})


class Far(Ancestral):
    any_length: ClassVar[bool] = True


class Numbers:
    """Writes into each row its noise's number, two steps a batch."""

    def __init__(self) -> None:
        self.batches = []

    def __call__(self, sampler, start, *, rows, seed):
        self.batches.append((tuple(start.shape), tuple(rows), seed))
        hidden = start == MASK
        half = start.masked_fill(hidden & (torch.arange(start.shape[1]) % 2 == 0), ord("x"))
        full = torch.where(hidden, 48 + torch.tensor(list(rows))[:, None], start)
        full = torch.where(half == ord("x"), half, full)
        log_p = torch.where(hidden, -0.5, 0.0).double()
        yield Generation(tokens=half, step=1, network_evaluations=1, log_p=log_p)
        yield Generation(tokens=full, step=2, network_evaluations=2, log_p=log_p)


def session(asked, recipe=MASKED, generate=None, choose=None, notify=ignore):
    return Session(
        wanted=wanted_texts(asked, recipe, LETTERS, choose, notify),
        recipe=recipe,
        generate=generate or Numbers(),
        tokenizer=LETTERS,
        asked=asked,
        facts={"run": "r"},
    )


def samples(asked, **changes):
    return session(asked, **changes).samples(watch=None, progress=None)


def test_rows_are_numbered_within_a_template_and_batched_by_length():
    generate, seen = Numbers(), []
    asked = Asked(n=3, seed=5, templates=["a[MASK:3]", "[MASK:6]", "b[MASK:3]"], batch_size=4)
    found = session(asked, generate=generate).samples(
        watch=None, progress=lambda *counts: seen.append(counts)
    )
    assert [(one.template_id, one.row) for one in found] == [
        (template, row) for template in range(3) for row in range(3)
    ]
    assert [one.text for one in found] == [
        "a0x0", "a1x1", "a2x2", "x0x0x0", "x1x1x1", "x2x2x2", "b0x0", "b1x1", "b2x2",
    ]  # fmt: skip
    assert generate.batches == [
        ((4, 4), (0, 1, 2, 0), 5), ((2, 4), (1, 2), 5), ((3, 6), (0, 1, 2), 5),
    ]  # fmt: skip
    assert seen == [(4, 9), (6, 9), (9, 9)]
    alone = samples(Asked(n=3, seed=5, templates=["b[MASK:3]"]))
    assert [one.ids for one in alone] == [one.ids for one in found[6:]]


def test_a_prompt_and_the_template_of_it_are_the_same_text():
    (prompt,) = samples(Asked(n=1, prompt="ab", length=6))
    (template,) = samples(Asked(templates=["ab[MASK:4]"]))
    assert prompt.ids == template.ids
    assert prompt.gaps == template.gaps
    assert (prompt.prompt, prompt.template) == ("ab", None)


def test_what_is_known_of_a_text():
    (one,) = samples(Asked(templates=["a[MASK:2]bc[MASK]"]))
    assert (one.text, one.network_evaluations) == ("a0xbc0", 2)
    assert (one.template, one.template_id) == ("a[MASK:2]bc[MASK]", 0)
    assert one.token_log_p == (0.0, -0.5, -0.5, 0.0, 0.0, -0.5)
    assert one.log_p == -1.5
    assert [(gap.text, gap.start, gap.stop) for gap in one.gaps] == [("0x", 1, 3), ("0", 5, 6)]
    assert [one.text[gap.text_start : gap.text_stop] for gap in one.gaps] == ["0x", "0"]
    assert one.provenance["sampler"]["use"] == "ancestral"
    assert one.provenance["run"] == "r"
    assert "gap_lengths" not in one.provenance


def test_a_sampler_that_does_not_tell_has_no_log_p():
    def mute(*arguments, **named):
        yield from (attrs.evolve(state, log_p=None) for state in Numbers()(*arguments, **named))

    (one,) = samples(Asked(n=1), generate=mute)
    assert one.log_p is None
    assert one.token_log_p is None


def test_open_lengths_are_those_that_were_chosen():
    tried = (
        Candidate(lengths=(1,), nelbo=5.0, nelbo_stderr=0.1, behind=1.0, behind_stderr=0.6),
        Candidate(lengths=(2,), nelbo=4.0, nelbo_stderr=0.2, chosen=True),
        Candidate(lengths=(3,), nelbo=9.0, nelbo_stderr=0.1, behind=5.0, behind_stderr=0.6),
    )
    said = []
    found = samples(
        Asked(n=2, templates=["a[MASK:1-3]b"], draws=9),
        choose=lambda _: tried,
        notify=said.append,
    )
    assert [one.text for one in found] == ["a0xb", "a1xb"]
    assert [(one.nelbo, one.nelbo_stderr) for one in found] == [(4.0, 0.2)] * 2
    assert found[0].candidates == tried
    assert found[0].provenance["gap_lengths"]["draws"] == 9
    (line,) = said
    assert "2 tokens fit best, but 1 of 2 other lengths are within two standard errors" in line


def test_a_text_ends_before_the_first_eos_that_was_generated():
    def ends(sampler, start, *, rows, seed):
        tokens = start.clone()
        tokens[start == MASK] = ord("x")
        tokens[0, 3] = EOS
        log_p = torch.where(start == MASK, -1.0, 0.0).double()
        yield Generation(tokens=tokens, step=1, network_evaluations=1, log_p=log_p)

    stop = recipe(sampler={"use": "ancestral", "eos": "stop"})
    asked = Asked(templates=["[EOS]a[MASK:3]b[MASK]"])
    (cut,) = samples(asked, recipe=stop, generate=ends)
    assert cut.text == "\u0100ax"
    assert cut.ids == (EOS, ord("a"), ord("x"), EOS, ord("x"), ord("b"), ord("x"))
    assert [gap.text for gap in cut.gaps] == ["x"]
    (kept,) = samples(asked, generate=ends)
    assert kept.text == "\u0100ax\u0100xbx"
    assert (cut.log_p, kept.log_p) == (-2, -4)  # up to and with EOS; all of it
    assert cut.token_log_p == kept.token_log_p == (0, 0, -1, -1, -1, 0, -1)
    assert end_of_text([1, EOS], [(0, 1)], EOS) == 2
    assert filled_gaps([1, 2], [(2, 4)], LETTERS) == ()


def test_states_say_what_is_given_masked_new_and_generated():
    states = list(session(Asked(n=2, templates=["a[MASK:3]b"], batch_size=1)).states())
    assert [(state.step, state.network_evaluations) for state in states] == [(1, 1), (2, 2)] * 2
    assert [text.place for state in states for text in state.texts] == [0, 0, 1, 1]
    first, last = states[0].texts[0], states[1].texts[0]
    assert [(piece.text, piece.kind) for piece in first.pieces] == [
        ("a", "given"), ("░", "masked"), ("x", "new"), ("░", "masked"), ("b", "given"),
    ]  # fmt: skip
    assert (first.text, first.masks) == ("a░x░b", 2)
    assert [(piece.text, piece.kind) for piece in last.pieces] == [
        ("a", "given"), ("0", "new"), ("x", "generated"), ("0", "new"), ("b", "given"),
    ]  # fmt: skip


def test_to_record_states_each_token_is_decoded_once():
    class Counting(Letters):
        decoded: ClassVar[list[list[int]]] = []

        def decode(self, ids):
            self.decoded.append(list(ids))
            return super().decode(ids)

    tokenizer = Counting(eos_id=EOS)
    record = Recorder(tokenizer)
    made = generate_samples(MASKED, Numbers(), tokenizer, n=2, record=record)
    x, zero, one = map(ord, "x01")
    assert tokenizer.decoded[:4] == [[x], [zero], [one], list(made[0].ids)]
    first, _ = record.logged(dict(enumerate(made)))
    assert (first.text, first.network_evaluations) == ("x0x0x0x0", (1, 2))
    assert first.states == (
        ((0, "x"), (2, "x"), (4, "x"), (6, "x")), ((1, "0"), (3, "0"), (5, "0"), (7, "0")),
    )  # fmt: skip


def test_a_mask_may_come_back():
    (wanted,) = wanted_texts(Asked(n=1, length=2), MASKED, LETTERS, None, ignore)
    show = Showing([wanted], LETTERS)
    kinds = [
        [piece.kind for piece in show(state).texts[0].pieces]
        for state in (
            Generation(tokens=torch.tensor([row]), step=1, network_evaluations=1)
            for row in ([97, 98], [MASK, 98], [99, 98])
        )
    ]
    assert kinds == [["new"], ["masked", "generated"], ["new", "generated"]]


def test_pieces_keep_the_spaces_between_words():
    class Words(Letters):
        def decode(self, ids):
            return " ".join(map(chr, ids))

    pieces = pieces_of([97, 98, MASK, 99], ["given", "new", "masked", "given"], Words())
    assert [piece.text for piece in pieces] == ["a", " b", "░", " c"]


def test_batches_hold_rows_of_one_length():
    wanted = wanted_texts(
        Asked(n=2, templates=["[MASK:2]", "[MASK:3]"]), MASKED, LETTERS, None, ignore
    )
    assert [[one.place for one in batch] for batch in in_batches(wanted, 64)] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("asked", "words", "run"),
    [
        ({"n": 0}, "n: expected at least 1", MASKED),
        ({"length": 9}, r"length: expected 1 to 8 tokens \(the run was trained on", MASKED),
        ({"length": -1}, "length: expected 1 to 8", MASKED),
        ({"batch_size": 0}, "batch_size: expected at least 1", MASKED),
        ({"prompt": "abcdefgh"}, "8 tokens and leaves nothing", MASKED),
        ({"draws": 3}, "draws: for templates with a gap whose length is open", MASKED),
        ({"draws": 3, "templates": ["[MASK:2]"]}, "draws: no template leaves", MASKED),
        ({"draws": 1, "templates": ["a[MASK:1-2]"]}, "draws: expected at least 2", MASKED),
        ({"templates": ["[MASK]"], "prompt": "a"}, "leave out prompt", MASKED),
        ({"templates": ["[MASK]"], "length": 0}, "leave out length", MASKED),
        ({"templates": ["[MASK:9]"]}, 'template "[^"]*": expected 1 to 8 tokens', MASKED),
        ({"templates": ["abcdefgh[MASK]"]}, "got 9", MASKED),
        ({"templates": ["[MASK:99999999]"]}, "got 99999999", MASKED),
        ({"templates": ["a[MASK:1-9]"]}, r"10 tokens.*scored; fix them.*does$", MASKED),
        ({"templates": ["[MASK:2-3]"]}, "there is none", MASKED),
        ({"templates": ["[MASK]a"]}, "without a look at what follows", NEXT),
        ({"templates": ["[MASK]a[MASK]"]}, "expected one gap, at the end", NEXT),
        ({"templates": ["a[MASK:2-3]"]}, "nothing says how long the last gap", NEXT),
    ],
)  # fmt: skip
def test_what_cannot_be_generated(asked, words, run):
    with pytest.raises(RecipeError, match=words):
        wanted_texts(Asked(**asked), run, LETTERS, None, ignore)


def test_gaps_that_can_be_sized_in_too_many_ways():
    text = "a[MASK:1-3]" * 4
    long = attrs.evolve(MASKED, data=attrs.evolve(MASKED.data, length=99))
    with pytest.raises(RecipeError, match="sized in 81 ways, and each is tried; expected at most"):
        wanted_texts(Asked(templates=[text]), long, LETTERS, None, ignore)


def test_an_end_that_no_token_makes_is_refused_where_it_was_said():
    inner = Ancestral(eos="stop")
    for sampler, place in (
        (inner, "sampler.eos"),
        (SemiAutoregressive(sampler=inner), "sampler.sampler.eos"),
        (SemiAutoregressive(sampler=SemiAutoregressive(sampler=inner)), "sampler.sampler.sampler"),
    ):
        check_eos(sampler, LETTERS.vocab)
        with pytest.raises(RecipeError, match=f"no such token; expected --set {place}"):
            check_eos(sampler, Letters().vocab)
    check_eos(Ancestral(), Letters().vocab)


def test_ids_are_used_once():
    for ids in (("x", "x"), (1, None)):
        templates = [parse_template("[MASK]", id=id, where=f"line {i}") for i, id in enumerate(ids)]
        with pytest.raises(RecipeError, match=r"line 1: the id .* is that of another one"):
            wanted_texts(Asked(templates=templates), MASKED, LETTERS, None, ignore)


def test_some_samplers_go_beyond_the_length_of_training():
    far = attrs.evolve(MASKED, sampler=Far(steps=2))
    assert len(wanted_texts(Asked(n=1, length=20), far, LETTERS, None, ignore)[0].start.ids) == 20
    with pytest.raises(RecipeError, match="lengths cannot be scored; fix them"):
        wanted_texts(Asked(templates=["a[MASK:7-8]"]), far, LETTERS, None, ignore)
    with pytest.raises(RecipeError, match="length: expected 1 to 1048576 tokens"):
        wanted_texts(Asked(n=1, length=2**30), far, LETTERS, None, ignore)


def test_lengths_must_suit_the_denoiser():
    class Pairs:
        length_multiple = 2

    odd = attrs.evolve(MASKED, denoiser=Pairs())
    with pytest.raises(RecipeError, match=r"length: this denoiser needs a multiple of 2 .*got 5"):
        wanted_texts(Asked(n=1, length=5), odd, LETTERS, None, ignore)
    with pytest.raises(RecipeError, match="none of its lengths is a multiple of 2 tokens"):
        wanted_texts(Asked(templates=["a[MASK:2-3]"]), odd, LETTERS, lambda _: (), ignore)


def test_a_recipe_made_in_python_is_held_to_its_network():
    wrong = attrs.evolve(MASKED, sampler=AutoregressiveSampler())
    with pytest.raises(RecipeError, match="choose another with --use: ancestral"):
        generate_samples(wrong, Numbers(), LETTERS)
