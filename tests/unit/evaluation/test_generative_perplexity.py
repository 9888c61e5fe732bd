from __future__ import annotations

import gc
import math
import shutil
import socket
import weakref
from importlib.util import find_spec
from pathlib import Path

import attrs
import pytest
import torch

from mdmkit.builtin.evaluators import GenerativePerplexity, Nelbo
from mdmkit.builtin.evaluators.generation import Judge
from mdmkit.builtin.evaluators.generation.judge import nats_of, retokenized
from mdmkit.builtin.evaluators.generation.perplexity import Judged, numbers
from mdmkit.builtin.evaluators.generation.run_judge import RunJudge
from mdmkit.builtin.evaluators.generation.texts import Text
from mdmkit.builtin.evaluators.generation.windows import windows
from mdmkit.builtin.objectives import Autoregressive
from mdmkit.builtin.samplers import Ancestral, AutoregressiveSampler
from mdmkit.data.text_tokenizer import SpecialTokens, wrap
from mdmkit.errors import DataError, MdmkitError, MissingPackageError, RecipeError
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.evaluation.evaluate import evaluate
from mdmkit.network import InferenceCall, Root
from mdmkit.recipe import load_recipe
from mdmkit.testing import evaluation_context, objective_context
from mdmkit.testing.facts import VOCAB, HashDenoiser
from mdmkit.values import Generation

from .conftest import Blocks
from .runs import make_run

LENGTH = 12
RUN = Judge(run="judge")
needs_transformers = pytest.mark.skipif(
    find_spec("transformers") is None, reason="needs the extra judge"
)


class Letters:
    """Ids 3 to 9 as letters, there and back."""

    vocab = VOCAB
    fingerprint = "0" * 64

    def encode_batch(self, texts):
        return [[ord(letter) - ord("a") for letter in text] for text in texts]

    def decode(self, ids):
        return "".join(chr(ord("a") + i) for i in ids)


@pytest.fixture
def context():
    """A masked network, and whatever run it asks for one that predicts the next token."""
    made = evaluation_context()
    open_run = made.open_run

    def lettered(name):
        return attrs.evolve(open_run(name), tokenizer=Letters())

    tokens = torch.randint(3, 10, (9, LENGTH), generator=torch.Generator().manual_seed(1))
    tokens[::2, 5] = VOCAB.eos_id
    source = Blocks(tokens)
    return attrs.evolve(
        made, tokenizer=Letters(), open_run=lettered, blocks=lambda _: source, batch_size=4
    )


# --- what is measured


def test_real_text_of_a_next_token_run_costs_what_its_own_nll_says(context):
    denoiser = HashDenoiser(VOCAB.size, length=LENGTH)
    own = attrs.evolve(
        context,
        call=InferenceCall(Root(denoiser), context.device, "fp32"),
        objective=Autoregressive().build(attrs.evolve(objective_context(), length=LENGTH)),
        prediction="next_token",
        sampler=AutoregressiveSampler(),
    )
    found = run_evaluation(GenerativePerplexity(n=9, judge=RUN), own)
    nll = run_evaluation(Nelbo(split="test"), own).measurements["nelbo_per_token"]
    real = found.measurements["real_generative_nll"]
    assert real.value == pytest.approx(nll.value, rel=1e-6)
    assert found.provenance["real_tokens_scored"] == 9 * LENGTH


def test_every_number_has_its_twin_of_real_text(context):
    found = run_evaluation(GenerativePerplexity(n=6, judge=RUN), context)
    measured = found.measurements
    own = {name for name in measured if not name.startswith("real_")} - {"network_evaluations"}
    assert own == {
        "generative_perplexity", "generative_nll", "generative_bits_per_byte", "unigram_entropy",
        "rep_2", "rep_3", "rep_4", "distinct_1", "distinct_2", "distinct_3",
    }  # fmt: skip
    assert {f"real_{name}" for name in own} == {name for name in measured if "real_" in name}
    assert set(GenerativePerplexity.chief) <= set(measured)
    nll, ppl = measured["generative_nll"], measured["generative_perplexity"]
    assert (nll.unit, ppl.unit) == ("nats/token", "")
    assert ppl.value == pytest.approx(math.exp(nll.value))
    assert ppl.stderr == pytest.approx(ppl.value * nll.stderr)
    assert measured["network_evaluations"].value == 4  # of the sampler's four steps
    facts = found.provenance
    assert facts["sampler"]["class"] == "Ancestral"
    assert facts["sampler"]["steps"] == 4
    assert facts["judge"]["run"] == {"name": "judge"}
    assert (facts["n"], facts["length"], facts["real_texts"]) == (6, LENGTH, 6)
    assert facts["float32_draws"] is False


def test_the_numbers_of_two_texts_by_hand():
    texts = [
        Judged(text=Text(ids=(3, 3, 4, 4), parts=("äb", "")), nats=6.0, tokens=3),
        Judged(text=Text(ids=(3, 4), parts=("c",)), nats=1.0, tokens=1),
    ]
    found = numbers(texts, "generated")
    nll = found["generative_nll"]
    # residuals of 7/4 are 3/4 and −3/4: √(2·2·(3/4)²)/4
    assert (nll.value, nll.stderr) == pytest.approx((7 / 4, math.sqrt(2 * 2 * 9 / 16) / 4))
    assert found["generative_bits_per_byte"].value == pytest.approx(7 / math.log(2) / 4)
    assert found["unigram_entropy"].value == pytest.approx(math.log(2))
    assert found["rep_2"].value == 0.0
    assert found["distinct_1"].value == pytest.approx(2 / 6)
    assert found["distinct_2"].value == pytest.approx(3 / 4)


def test_batches_of_another_size_change_nothing(context):
    evaluator = GenerativePerplexity(n=7, judge=RUN)
    found = [
        run_evaluation(evaluator, attrs.evolve(context, batch_size=size)).measurements
        for size in (2, 100)
    ]
    for name, number in found[0].items():
        assert number.value == pytest.approx(found[1][name].value, rel=1e-6)


def test_what_is_shorter_and_longer_than_a_block(context):
    short = GenerativePerplexity(n=9, length=5, judge=RUN).build(context)
    texts, calls = short.texts.batch(len(short) - 1)
    assert calls is None
    assert [len(text.ids) for text in texts] == [5]

    @attrs.frozen(kw_only=True)
    class Long(Ancestral):
        any_length = True

    long = GenerativePerplexity(n=4, length=2 * LENGTH + 1, judge=RUN, sampler=Long())
    made = long.build(context).texts
    (real, _), blocks = made.batch(1), context.blocks("test").tokens
    assert [text.ids for text in real] == [
        tuple(blocks[i : i + 3].flatten()[: 2 * LENGTH + 1].tolist()) for i in (0, 3, 6)
    ]


def test_texts_that_end_at_once(context):
    def generate(sampler, start, *, rows, seed):
        tokens = torch.full_like(start, 4)
        tokens[::2, 0] = VOCAB.eos_id
        yield Generation(tokens=tokens, step=1, network_evaluations=1)

    ends = Ancestral(eos="stop")
    evaluator = GenerativePerplexity(n=4, judge=RUN, sampler=ends)
    found = run_evaluation(evaluator, attrs.evolve(context, generate=generate))
    assert found.provenance["empty_texts"] == 2
    assert found.provenance["tokens_scored"] == 2 * LENGTH
    assert found.measurements["unigram_entropy"].value == 0.0

    def nothing(sampler, start, *, rows, seed):
        yield Generation(tokens=torch.full_like(start, VOCAB.eos_id), step=1, network_evaluations=1)

    with pytest.raises(DataError, match="all of the 4 generated texts are empty"):
        run_evaluation(evaluator, attrs.evolve(context, generate=nothing))


def test_real_text_ends_where_generated_text_does(context):
    evaluator = GenerativePerplexity(n=9, judge=RUN, sampler=Ancestral(eos="stop"))
    made = evaluator.build(context).texts
    real = [text for index in range(3, 6) for text in made.batch(index)[0]]
    assert [len(text.ids) for text in real] == [5, LENGTH] * 4 + [5]


def test_a_run_on_disk_is_judged_by_another(tmp_path: Path):
    run = make_run(tmp_path, extra="", steps=(3,))
    other = '[objective]\nuse = "autoregressive"\n[sampler]\nuse = "autoregressive"\n'
    judge = make_run(tmp_path, extra=other, steps=(3,))
    table = (
        '{use="generative_perplexity", n=3, sampler={use="ancestral", steps=2}, judge={run="%s"}}'
    )
    found = evaluate(run, overrides=[f"evaluators.gen={table % judge.name}"], device="cpu")["gen"]
    facts = found.provenance["judge"]
    assert facts["run"]["name"] == "tiny"
    assert facts["run"]["recipe_hash"] == judge.name.partition("-")[2]
    assert len(facts["weights_sha256"]) == 64
    assert found.provenance["evaluator"]["sampler"]["steps"] == 2
    own = ['evaluators.nll={use="nelbo", split="test", blocks=3}']
    nll = evaluate(judge, overrides=own, device="cpu")["nll"].measurements["nelbo_per_token"]
    assert found.measurements["real_generative_nll"].value == pytest.approx(nll.value, rel=1e-6)

    newest = judge / "checkpoints" / "step-00000009"
    shutil.copytree(next((judge / "checkpoints").iterdir()), newest)
    for file in newest.iterdir():
        file.write_bytes(b"")
    said: list[str] = []
    evaluate(run, overrides=[f"evaluators.gen={table % judge.name}"], notify=said.append)
    assert [line for line in said if "passed over" in line and str(newest) in line]

    with pytest.raises(RecipeError, match=r"predicts \"masked\".*expected a run that predicts"):
        evaluate(run, overrides=[f"evaluators.gen={table % run.name}"], device="cpu")


# --- what is refused


def test_what_a_recipe_says_too_early_to_run():
    judge = ["evaluators.gen.use=generative_perplexity", "evaluators.gen.judge.run=x"]
    load_recipe("quickstart_bell", judge)
    for extra, words in (
        (["sampler.draws=float32"], r"\[evaluators.gen\] sampler: draws = \"float32\" lowers"),
        (["evaluators.gen.sampler.use=autoregressive"], 'network that predicts "next_token"'),
        (["evaluators.gen.length=5000"], "trained on rows of 128 tokens"),
        (["evaluators.gen.judge.model=x"], r"\[evaluators.gen.judge\].*either run or model"),
    ):
        with pytest.raises(RecipeError, match=words):
            load_recipe("quickstart_bell", [*judge, *extra])
    with pytest.raises(RecipeError, match=r"judge = \{ run.*judge = \{ model"):
        load_recipe("quickstart_bell", judge[:1])
    with pytest.raises(ValueError, match="expected model, too"):
        Judge(run="x", revision="main")


def test_blocks_that_are_longer_than_what_the_network_was_trained_on(context):
    @attrs.frozen(kw_only=True)
    class Long(Ancestral):
        any_length = True

    longer = attrs.evolve(context, trained_length=LENGTH - 2)
    words = f"rows of {LENGTH - 2} tokens, and this sampler makes none that are longer; got 12"
    with pytest.raises(RecipeError, match=words):
        GenerativePerplexity(n=4, judge=RUN).build(longer)
    GenerativePerplexity(n=4, judge=RUN, length=LENGTH - 2).build(longer)
    GenerativePerplexity(n=4, judge=RUN, sampler=Long()).build(longer)


def test_32_bit_draws_are_taken_where_that_is_said(context):
    sampler = Ancestral(steps=2, draws="float32")
    with pytest.raises(RecipeError, match="generative_perplexity: sampler: draws"):
        GenerativePerplexity(n=2, judge=RUN, sampler=sampler).build(context)
    evaluator = GenerativePerplexity(n=2, judge=RUN, sampler=sampler, allow_float32=True)
    assert run_evaluation(evaluator, context).provenance["float32_draws"] is True


def test_which_runs_a_sampler_applies_to():
    recipe = load_recipe("quickstart_bell")
    assert GenerativePerplexity(judge=RUN).applies(recipe)
    assert GenerativePerplexity(judge=RUN, sampler=Ancestral()).applies(recipe)
    assert not GenerativePerplexity(judge=RUN, sampler=AutoregressiveSampler()).applies(recipe)


def test_a_split_of_one_text_is_too_short(context):
    alone = attrs.evolve(context, blocks=lambda _: Blocks(torch.full((1, LENGTH), 5)))
    with pytest.raises(DataError, match=r"'test' has 1 blocks.*expected at least two texts"):
        GenerativePerplexity(n=2, judge=RUN).build(alone)


def test_a_judge_that_cannot_read_the_text(context):
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "m": 1, "e": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = wrap(backend, SpecialTokens(mask="m"), where="here")
    assert tokenizer.unknown_id == 0
    run = attrs.evolve(context.open_run("x"), tokenizer=tokenizer)
    judge = RunJudge(name='judge "x"', run=run, device=context.device)
    with pytest.raises(
        DataError, match=r"judge \"x\": its tokenizer does not know the character 'ß'"
    ):
        judge.encode(["em", "meß"])

    class Refuses(Letters):
        def encode_batch(self, texts):
            raise DataError("the tokenizer has no token for the character 'ß'")

    judge = attrs.evolve(judge, run=attrs.evolve(run, tokenizer=Refuses()))
    with pytest.raises(DataError, match=r"judge \"x\" cannot read the text: .*'ß'"):
        judge.encode(["ß"])


def test_a_judge_whose_weights_are_damaged(context):
    judge = RUN.open(context)
    broken = attrs.evolve(judge.run, call=lambda _: torch.full((1, LENGTH), torch.nan))
    with pytest.raises(MdmkitError, match='judge "judge": its cross-entropies are not finite'):
        nats_of(attrs.evolve(judge, run=broken), [[3, 4]], 8)


def test_a_judge_is_open_once_and_as_long_as_it_is_needed(context):
    one = RUN.open(context)
    assert RUN.open(attrs.evolve(context, batch_size=2)) is one
    assert Judge(run="another").open(context) is not one
    left = weakref.ref(one)
    del one
    gc.collect()
    assert left() is None


# --- published models


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A GPT-2 of bytes, with a context of eight, as it would come from the hub."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder, end = tmp_path_factory.mktemp("model"), "<|endoftext|>"
    letters = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(letters, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([end])
    tokens = {"bos_token": end, "eos_token": end, "unk_token": end}
    PreTrainedTokenizerFast(tokenizer_object=backend, **tokens).save_pretrained(folder)
    sizes = {"n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2, "initializer_range": 0.5}
    torch.manual_seed(0)
    network = GPT2LMHeadModel(
        GPT2Config(vocab_size=257, bos_token_id=256, eos_token_id=256, **sizes)
    )
    network.save_pretrained(folder)
    return folder


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@needs_transformers
def test_a_model_scores_as_by_hand_one_token_at_a_time(model, offline, context):
    judge = Judge(model=str(model)).open(context)
    text = Text(ids=(), parts=("in the beginning", "", "ü<|endoftext|>"))
    rows = retokenized(judge, [text, Text(ids=(), parts=("",)), Text(ids=(), parts=("ab",))])
    assert [len(row) for row in rows] == [16 + 1 + 1 + 2 + 13, 0, 2]  # its name is plain text
    assert rows[0].count(256) == 2  # two ends of documents
    expected = []
    for row in rows:
        nats = 0.0
        for window in windows(len(row), 8):
            for place in range(window.scored, window.stop):
                seen = torch.tensor([[256, *row[window.start : place]]])
                with torch.no_grad():
                    logits = judge.network(input_ids=seen).logits[0, -1].double()
                nats -= float(logits.log_softmax(-1)[row[place]])
        expected.append(nats)
    for batch_size in (1, 3, 100):
        assert nats_of(judge, rows, batch_size) == pytest.approx(expected, rel=1e-5)
    assert expected[0] > 100
    facts = judge.provenance
    assert facts["commit"] is None
    assert facts["context"] == 8
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(facts["files_sha256"])


@needs_transformers
def test_the_features_of_a_model_are_its_last_hidden_state(model, context):
    judge = Judge(model=str(model)).open(context)
    found = judge.features(torch.tensor([[5, 6, 7], [5, 256, 256]]), torch.tensor([3, 1]))
    for row, seen in zip(found, ([256, 5, 6, 7], [256, 5]), strict=True):
        with torch.no_grad():
            states = judge.network(input_ids=torch.tensor([seen]), output_hidden_states=True)
        assert torch.allclose(row, states.hidden_states[-1][0, -1], atol=1e-5)


@needs_transformers
def test_a_model_judges_from_its_folder(model, offline, context):
    found = run_evaluation(GenerativePerplexity(n=3, judge=Judge(model=str(model))), context)
    assert found.provenance["judge"]["kind"] == "model"
    assert found.measurements["generative_nll"].value > 0


@needs_transformers
def test_folders_that_hold_no_model(model, tmp_path, context, monkeypatch):
    def refusal(name: str | Path) -> str:
        with pytest.raises(DataError) as caught:
            Judge(model=str(name)).open(context)
        return str(caught.value)

    assert "has no config.json" not in refusal(tmp_path / "nowhere")
    assert "there is no folder" in refusal(tmp_path / "nowhere")
    assert "it has no config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin is a pickle, which is never read" in refusal(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "cannot be loaded as a causal language model" in refusal(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    message = refusal("nobody/nothing")
    assert "cannot be reached: HF_HUB_OFFLINE is set" in message
    assert "judge by a run of your own" in message


@needs_transformers
def test_weights_that_are_not_those_of_the_network(model, tmp_path, context):
    from safetensors.torch import load_file, save_file

    whole = load_file(model / "model.safetensors")
    wide = {"transformer.wpe.weight": torch.zeros(9, 8)}
    for number, (weights, words) in enumerate((
        ({f"_orig_mod.{k}": v for k, v in whole.items()}, r"lacks: .* more; has others: _orig_mod"),
        ({**whole, "adapter.weight": torch.ones(1)}, r"has others: adapter\.weight\)"),
        ({**whole, **wide}, r"misfits: transformer\.wpe\.weight\)"),
    )):  # fmt: skip
        folder = tmp_path / str(number)
        shutil.copytree(model, folder)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(DataError, match=words):
            Judge(model=str(folder)).open(context)


@needs_transformers
def test_a_model_that_looks_at_what_follows(model, tmp_path, context):
    from transformers import BertConfig, BertLMHeadModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    for is_decoder in (True, False):
        config = BertConfig(
            vocab_size=257, intermediate_size=8, initializer_range=0.5, is_decoder=is_decoder,
            **sizes,
        )  # fmt: skip
        folder = tmp_path / str(is_decoder)
        shutil.copytree(model, folder)
        torch.manual_seed(0)
        BertLMHeadModel(config).save_pretrained(folder)
        if is_decoder:
            Judge(model=str(folder)).open(context)
            continue
        with pytest.raises(DataError, match="for it looks at what follows"):
            Judge(model=str(folder)).open(context)


def test_a_model_without_the_package(context, monkeypatch):
    path = "mdmkit.builtin.evaluators.generation.model_judge.find_spec"
    monkeypatch.setattr(path, lambda _: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'mdmkit\[judge\]'"):
        Judge(model="gpt2").open(context)
