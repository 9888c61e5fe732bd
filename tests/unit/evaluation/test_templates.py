"""Templates: what is read, and what is refused in which words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdmkit.errors import DataError, MdmkitError, RecipeError
from mdmkit.evaluation.infilling.frames import Frame, frame_of_prompt, frame_of_template
from mdmkit.evaluation.infilling.template_file import read_templates
from mdmkit.evaluation.infilling.templates import Gap, Special, parse_template
from mdmkit.values import Vocabulary

ONE = Gap(shortest=1, longest=1)


class Letters:
    """A tokenizer of one id a character."""

    def __init__(self, **special: int) -> None:
        self.vocab = Vocabulary(size=260, mask_id=259, **special)

    def encode_batch(self, texts):
        if any("@" in text for text in texts):
            raise DataError("no token for '@'")
        return [[ord(letter) for letter in text] for text in texts]

    def decode(self, ids):
        return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[MASK]", (ONE,)),
        ("a[MASK:12]b", ("a", Gap(shortest=12, longest=12), "b")),
        ("[MASK:3-8][MASK:3-3]", (Gap(shortest=3, longest=8), Gap(shortest=3, longest=3))),
        ("[BOS]a[MASK][EOS]", (Special(role="bos"), "a", ONE, Special(role="eos"))),
        (r"\[MASK] \[MAKS:3\] [MASK]", ("[MASK] [MAKS:3] ", ONE)),
        (r"\\[MASK]", ("\\", ONE)),
        (r"\alpha \\beta [MASK]", ("\\alpha \\beta ", ONE)),
        ("[sic] [T]he [1] [] [ [MASK]", ("[sic] [T]he [1] [] [ ", ONE)),
        ("line\n[MASK] 雪\\", ("line\n", ONE, " 雪\\")),
    ],
)
def test_the_grammar(text, parts):
    template = parse_template(text)
    assert template.parts == parts
    assert template.text == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no gap"),
        (r"only \[MASK]", "no gap, so there is nothing to generate; expected [MASK:n]"),
        ("ab[MAKS:3] c", 'character 3: [MAKS:3] is not understood; did you mean "MASK"?'),
        ("[MAKS:3]", "for the text itself write \\[MAKS:3]"),
        ("[mask:3]", "did you mean"),
        ("[MASK:]", "expected [MASK], [MASK:n], [MASK:a-b] (tokens), [BOS] or [EOS]"),
        ("[MASK:-3]", "[MASK:-3] is not understood; expected"),
        ("[MASK: 3]", "not understood"),
        ("[MASK:٣]", "not understood"),
        ("[MASK:1234567890]", "not understood"),
        ("a [MASK:3", "character 3: [MASK:3 is not understood"),
        ("[EOS:2]", "not understood"),
        ("[PAD]x[MASK]", "[PAD] is not understood; expected"),
        ("x[MASK:0]", "character 2: [MASK:0]: a gap has at least 1 token"),
        ("[MASK:0-3]", "at least 1 token"),
        ("[MASK:8-3]", "the range goes down; expected [MASK:3-8]"),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(RecipeError) as caught:
        parse_template(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_names_a_long_template_by_its_beginning():
    with pytest.raises(RecipeError, match=r'^template "x{39}…": it has no gap'):
        parse_template("x" * 99)


def test_a_template_in_tokens():
    frame = frame_of_template(parse_template("ab[MASK:1-2]c[MASK:2][EOS]"), Letters(eos_id=256))
    assert (frame.given, frame.longest, frame.combinations) == (4, 8, 2)
    assert list(frame.lengths()) == [(1, 2), (2, 2)]
    start = frame.start((2, 2), 259)
    assert start.ids == (97, 98, 259, 259, 99, 259, 259, 256)
    assert start.gaps == ((2, 4), (5, 7))
    assert start.given == (0, 1, 4, 7)


def test_a_prompt_is_a_template():
    prompt, template = parse_template("ab[MASK:3]"), frame_of_prompt("ab", 5, Letters())
    assert template.pieces == frame_of_template(prompt, Letters()).pieces
    assert isinstance(template, Frame)
    with pytest.raises(RecipeError, match="5 tokens and leaves nothing"):
        frame_of_prompt("abcde", 5, Letters())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[BOS][MASK]", r"\[BOS\]: the tokenizer of this run has no such token"),
        ("[MASK][EOS]", r"\[EOS\]: the tokenizer of this run has no such token"),
        ("a@[MASK]", 'template "a@.*": no token for'),
    ],
)
def test_what_a_tokenizer_has_no_tokens_for(text, words):
    with pytest.raises(MdmkitError, match=words):
        frame_of_template(parse_template(text), Letters())


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_files_of_templates(tmp_path):
    plain = read_templates(write(tmp_path, "t.txt", "a[MASK]\r\n\n  \u2028[MASK:2]b\n"))
    assert [template.text for template in plain] == ["a[MASK]", "  \u2028[MASK:2]b"]
    assert [template.id for template in plain] == [None, None]
    lines = [{"template": "a\n[MASK]", "id": "x"}, {"template": "[MASK]", "id": 7}]
    text = "\n".join(json.dumps(line) for line in lines)
    assert [(t.text, t.id) for t in read_templates(write(tmp_path, "t.jsonl", text))] == [
        ("a\n[MASK]", "x"),
        ("[MASK]", 7),
    ]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.txt", " \n\n", "t.txt: it is empty; expected a template a line"),
        ("t.jsonl", "", "it is empty"),
        ("t.csv", "[MASK]", "ends in .txt or .jsonl"),
        ("t.txt", "[MASK]\nplain", "t.txt, line 2: it has no gap"),
        ("t.jsonl", '{"template": "[MASK]"}\n{"template"', "t.jsonl, line 2: not JSON"),
        ("t.jsonl", "[" * 10**5, "line 1: not JSON"),
        ("t.jsonl", '"[MASK]"', 'line 1: expected {"template": "…"}, got the string'),
        ("t.jsonl", "{}", "line 1: template: missing"),
        ("t.jsonl", '{"template": 3}', "template: expected a string, got the integer 3"),
        ("t.jsonl", '{"template": "[MASK]", "id": true}', "or an integer, got the boolean true"),
        ("t.jsonl", r'{"template": "[MASK]", "id": "a\n"}', "id: expected a string on one line"),
        ("t.jsonl", '{"templte": "[MASK]"}', 'unknown key "templte"; did you mean "template"?'),
        ("t.jsonl", '\n{"template": "[MAKS]"}', 'line 2: character 1: [MAKS] is not'),
    ],
)  # fmt: skip
def test_bad_files_are_named_with_the_line(tmp_path, name, text, words):
    with pytest.raises(RecipeError) as caught:
        read_templates(write(tmp_path, name, text))
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="expected a file of templates"):
        read_templates(tmp_path / "none.txt")
    (tmp_path / "t.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        read_templates(tmp_path / "t.txt")
