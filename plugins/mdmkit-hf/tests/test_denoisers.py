"""Networks of ``transformers`` as denoisers: what they see, say, and begin from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import mdmkit
from mdmkit.testing import check_all, check_denoiser
from mdmkit.values import Attention, Vocabulary

plugin = pytest.importorskip("mdmkit_hf", reason="not installed: pip install -e plugins/mdmkit-hf")
transformers = pytest.importorskip(
    "transformers", reason="not installed: pip install 'transformers>=5.17'"
)
Transformers = plugin.Transformers

OLD = {"weight": "gamma", "bias": "beta"}
VOCAB = Vocabulary(size=11, mask_id=10, eos_id=0)
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
WIDE = {**SMALL, "intermediate_size": 32}
LLAMA = {**WIDE, "num_key_value_heads": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": WIDE,
    "modernbert": {**WIDE, "local_attention": 6},
    "gpt2": SMALL,
    "llama": LLAMA,
    "qwen2": {**LLAMA, "tie_word_embeddings": True},
    "qwen3": {**LLAMA, "head_dim": 8},
}
OTHERS: dict[str, dict[str, Any]] = {
    "roberta": {**WIDE, "pad_token_id": 1},  # counts its positions from behind that token's
    "mistral": {**LLAMA, "sliding_window": 4},
}


def built(options: Any, seed: int = 3, vocab: Vocabulary = VOCAB) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return options.build(vocab).eval()


def text(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 10, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def said(network: Any, tokens: Tensor, **attention: Any) -> Tensor:
    found: Tensor = network.unembed(network(tokens, attention=Attention(**attention)))
    return found


def saved(folder: Path, architecture: str, config: Mapping[str, Any], rows: int = 9) -> Any:
    """A model of ``transformers`` with random weights, and its folder."""
    auto = transformers.AutoModelForCausalLM
    if "bert" in architecture:
        auto = transformers.AutoModelForMaskedLM
    made = transformers.AutoConfig.for_model(
        architecture, **{"vocab_size": rows, "pad_token_id": None, **config}
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        model = auto.from_config(made, attn_implementation="eager").eval()
        for parameter in model.parameters():  # zeros and ones would hide errors
            parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    model.save_pretrained(folder)
    return model


def begun(folder: Path, vocab: Vocabulary = VOCAB, **options: Any) -> Any:
    made = Transformers(pretrained=str(folder), **options).resolved()
    network = built(made, vocab=vocab)
    made.initialize(network)
    return network


# --- the contract --------------------------------------------------------------------------


def test_everything_keeps_its_contract() -> None:
    """What ``pytest --mdmkit-contract mdmkit-hf`` tests, for a bare ``pytest``."""
    check_all(plugin)


@pytest.mark.parametrize("architecture", OTHERS)
def test_other_families_do_too(architecture: str) -> None:
    check_denoiser(Transformers(architecture=architecture, config=OTHERS[architecture]))


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_attention_is_open_unless_it_is_asked_to_be_causal(architecture: str, shift: bool) -> None:
    options = Transformers(architecture=architecture, config=FAMILIES[architecture], shift=shift)
    network = built(options)
    tokens = text(1, 6)
    later = tokens.clone()
    later[0, 5] = (later[0, 5] + 1) % 10
    change = (said(network, later) - said(network, tokens)).abs().amax(-1)[0]
    assert change[:5].min() > 1e-6
    causal = (said(network, later, causal=True) - said(network, tokens, causal=True)).abs()
    assert causal[0, :5].max() == 0


def test_padding_and_documents_leave_what_is_there_alone_by_itself() -> None:
    for architecture, config in FAMILIES.items():
        network = built(Transformers(architecture=architecture, config=config))
        tokens = text(1, 8)
        alone = said(network, tokens[:, :5])
        padded = said(network, tokens, padding=torch.arange(8)[None] < 5)
        assert torch.allclose(padded[:, :5], alone, atol=1e-5)
        ids = (torch.arange(8)[None] >= 5).long()
        assert torch.allclose(said(network, tokens, document_ids=ids)[:, :5], alone, atol=1e-5)


# --- the numbers are those of transformers -------------------------------------------------


@pytest.mark.parametrize("architecture", [*FAMILIES, *OTHERS])
def test_logits_are_those_of_the_model_itself(architecture: str, tmp_path: Path) -> None:
    """With eager attention and masks of its own making: an encoder's open, a decoder's causal."""
    model = saved(tmp_path, architecture, {**FAMILIES, **OTHERS}[architecture])
    network = begun(tmp_path)
    tokens = text(2, 12) % 7 + 2  # none is RoBERTa's padding
    with torch.no_grad():
        theirs = model(tokens).logits
    found = said(network, tokens, causal=network.autoregressive)
    assert found.shape == (2, 12, 11)
    assert torch.allclose(found[..., :9], theirs, atol=1e-5)
    assert theirs.abs().max() > 0.5


def test_opened_decoders_are_those_of_transformers_with_open_attention(tmp_path: Path) -> None:
    model = saved(tmp_path, "llama", LLAMA)
    tokens = text(2, 12) % 9
    with torch.no_grad():
        theirs = model(tokens, is_causal=False).logits
    assert torch.allclose(said(begun(tmp_path), tokens)[..., :9], theirs, atol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen3"])
def test_shifted_and_causal_it_is_the_autoregressive_model(
    architecture: str, tmp_path: Path
) -> None:
    model = saved(tmp_path, architecture, FAMILIES[architecture])
    tokens = text(2, 12) % 9
    with torch.no_grad():
        theirs = model(tokens).logits
    found = said(begun(tmp_path, shift=True), tokens, causal=True)
    assert torch.allclose(found[:, 1:, :9], theirs[:, :-1], atol=1e-5)
    assert torch.allclose(found[:, 0, :9], theirs[:, 0], atol=1e-5)  # read at itself


def test_the_first_token_of_a_document_is_read_at_itself() -> None:
    options = Transformers(architecture="llama", config=LLAMA)
    straight = built(options)
    shifted = built(Transformers(architecture="llama", config=LLAMA, shift=True))
    ids = torch.tensor([[0, 0, 0, 1, 1]])
    tokens = text(1, 5)
    expected = said(straight, tokens, document_ids=ids)[:, [0, 0, 1, 3, 3]]
    assert torch.allclose(said(shifted, tokens, document_ids=ids), expected, atol=1e-6)


# --- weights that come late, and are kept --------------------------------------------------


@pytest.mark.parametrize("architecture", FAMILIES)
def test_weights_given_late_are_those_given_at_once(architecture: str) -> None:
    options = Transformers(architecture=architecture, config=FAMILIES[architecture])
    early = built(options)
    with torch.device("meta"):
        late = options.build(VOCAB)
        logits = late.unembed(late(torch.zeros(2, 60, dtype=torch.int64)))
    assert (logits.is_meta, logits.shape) == (True, (2, 60, 11))
    late.to_empty(device="cpu")
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        late.init_weights()
    assert [n for n, _ in early.named_parameters()] == [n for n, _ in late.named_parameters()]
    for (name, ours), theirs in zip(
        (*early.named_parameters(), *early.named_buffers()),
        (*late.parameters(), *late.buffers()),
        strict=True,
    ):
        assert torch.equal(ours, theirs), name


def test_a_weight_that_nobody_draws_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformers.LlamaForCausalLM
    monkeypatch.setattr(model, "_init_weights", lambda *_: None)
    with pytest.raises(mdmkit.PluginError, match=r"leaves lm_head\.weight without"):
        built(Transformers(architecture="llama", config=LLAMA))


def test_tied_weights_are_saved_once_and_loaded_everywhere() -> None:
    options = Transformers(architecture="qwen2", config=FAMILIES["qwen2"])
    network, other = built(options), built(options, seed=4)
    state = network.state_dict()
    assert "inner.model.embed_tokens.weight" in state
    assert "inner.lm_head.weight" not in state
    other.load_state_dict(state)
    assert torch.equal(said(other, text(2, 6)), said(network, text(2, 6)))
    assert other.inner.lm_head.weight is other.inner.model.embed_tokens.weight


def test_blocks_are_the_repeated_layers() -> None:
    for architecture, config in FAMILIES.items():
        network = built(Transformers(architecture=architecture, config=config))
        assert len(network.blocks) == 2
        assert all(
            "Layer" in type(b).__name__ or "Block" in type(b).__name__ for b in network.blocks
        )


# --- the options ---------------------------------------------------------------------------


def test_dropout_is_off_unless_it_is_asked_for() -> None:
    for architecture, config in FAMILIES.items():
        network = built(Transformers(architecture=architecture, config=config)).train()
        assert torch.equal(said(network, text(1, 6)), said(network, text(1, 6)))
    some = Transformers(architecture="gpt2", config={**SMALL, "resid_pdrop": 0.5})
    network = built(some).train()
    assert not torch.equal(said(network, text(1, 6)), said(network, text(1, 6)))


def test_tables_are_rounded_up_and_every_row_is_text() -> None:
    network = built(Transformers(architecture="bert", config=WIDE))
    table = network.inner.get_input_embeddings()
    assert table.weight.shape == (128, 16)
    assert table.weight[0].abs().max() > 0  # BERT's padding token is 0
    network.unembed(network(torch.zeros(1, 4, dtype=torch.int64))).square().sum().backward()
    assert table.weight.grad[0].abs().max() > 0
    exact = Transformers(architecture="bert", config=WIDE, vocab_multiple=1)
    assert built(exact).inner.config.vocab_size == 11


RECIPE = """
[run]
name = "hf"
[data]
length = 16
corpus = { use = "state_of_the_union" }
tokenizer = { use = "bpe", vocab_size = 512 }
[train]
steps = 2
global_batch_size = 4
[learning_rate]
warmup_steps = 1
[denoiser]
use = "transformers"
"""


def toml(config: Mapping[str, Any]) -> str:
    return f"{{ {', '.join(f'{key} = {json.dumps(value)}' for key, value in config.items())} }}"


def problems(tmp_path: Path, denoiser: str, more: str = "") -> list[str]:
    path = tmp_path / "recipe.toml"
    path.write_text(f"{RECIPE}{denoiser}\n{more}")
    with pytest.raises(mdmkit.MdmkitError) as raised:
        mdmkit.load_recipe(path)
    return [line.removeprefix(f"{path}: ") for line in str(raised.value).splitlines()]


@pytest.mark.parametrize(
    ("denoiser", "expected"),
    [
        ("shift = true", "[denoiser] architecture: expected a model_type of transformers, or"),
        ('architecture = "lama"', 'has no architecture "lama"; did you mean "llama"?'),
        ('architecture = "vit"', '"vit" is neither a masked nor a causal language model'),
        (
            'architecture = "llama"\nconfig = { hiden_size = 16 }',
            '[denoiser] config: "llama" has no hiden_size; did you mean "hidden_size"?',
        ),
        ('architecture = "llama"\nconfig = { hidden_size = "x" }', 'config: refused by "llama"'),
        (
            'architecture = "llama"\nconfig = { max_position_embeddings = 8 }',
            "[denoiser] config: the network has 8 positions, and data.length is 16",
        ),
        (
            'architecture = "llama"\nconfig = { num_key_value_heads = 3 }',
            "[denoiser] config: 32 attention heads do not share 3 heads of keys and values",
        ),
        (
            f'architecture = "roberta"\nconfig = {toml({**WIDE, "max_position_embeddings": 17})}',
            "the network has 15 positions, and data.length is 16",  # 0 and 1 are of its padding
        ),
        (
            f'architecture = "mixtral"\nconfig = {toml(LLAMA)}',
            '[denoiser] architecture: a network of "mixtral" with this config cannot be a denoiser',
        ),
        (
            f'architecture = "opt"\nconfig = {toml({**SMALL, "ffn_dim": 32})}',
            "AttributeError: '_Given' object has no attribute 'decoder'); choose another",
        ),
        (
            f'architecture = "llama"\nconfig = {toml({**LLAMA, "hidden_act": "nope"})}',
            'no network of "llama" can be made of it (KeyError: ',
        ),
        (
            'architecture = "llama"\nconfig = { num_hidden_layers = 1000000000 }',
            "config: num_hidden_layers is 1000000000; expected 1 to 1024",
        ),
        (
            'architecture = "gpt2"\nconfig = { n_layer = 0 }',
            "config: num_hidden_layers is 0; expected 1 to 1024",
        ),
        (
            'architecture = "llama"\nconfig = { vocab_size = 1000000000000 }',
            "config: vocab_size is 1000000000000; expected 1 to 16777216",
        ),
        (
            'architecture = "mistral"\nconfig = { sliding_window = 4 }\n'
            'config_none = ["sliding_window"]',
            "config_none: sliding_window has a value in config; leave one of the two out",
        ),
        ('architecture = "bert"\nrevision = "main"', "revision: expected pretrained, too"),
        ('pretrained = "./nowhere"', 'denoiser.pretrained: there is no folder "./nowhere"; expec'),
        (
            'architecture = "bert"\nshift = true\n[objective]\nuse = "autoregressive"\n'
            '[sampler]\nuse = "autoregressive"',
            "[denoiser] shift: the objective shows text that is shifted already",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, denoiser: str, expected: str) -> None:
    (line,) = problems(tmp_path, denoiser)
    assert expected in line


def test_attention_that_takes_no_mask_is_refused() -> None:
    with pytest.raises(mdmkit.RecipeError, match=r'"mamba" has attention of its own|layers of'):
        built(Transformers(architecture="mamba", config={"hidden_size": 16}))


def test_what_a_plugin_is_loaded_for_is_light() -> None:
    """``mdmkit plugins`` loads the module, ``mdmkit --help`` that of the commands."""
    code = (
        "import sys, mdmkit_hf, mdmkit_hf.commands\n"
        "assert not {'transformers', 'huggingface_hub', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- pretrained ----------------------------------------------------------------------------


def test_a_recipe_takes_its_config_from_the_folder_and_stands_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    saved(folder, "gpt2", {**SMALL, "resid_pdrop": 0.1, "layer_norm_epsilon": 1e-3})
    path = tmp_path / "recipe.toml"
    path.write_text(f'{RECIPE}pretrained = "{folder}"\nconfig = {{ activation_function = "relu" }}')
    found = mdmkit.load_recipe(path).denoiser
    assert found.architecture == "gpt2"
    assert found.config["n_embd" if "n_embd" in found.config else "hidden_size"] == 16
    assert found.config["layer_norm_epsilon"] == 1e-3
    assert found.config["activation_function"] == "relu"  # the recipe's wins
    assert not {"resid_pdrop", "architectures", "transformers_version"} & set(found.config)
    for file in folder.iterdir():
        file.unlink()
    assert found.resolved() == found
    assert built(found).inner.transformer.h[0].ln_1.eps == 1e-3


def test_what_is_null_in_a_config_stays_none(tmp_path: Path) -> None:
    """The class itself has a window of 4096; the recipe, as TOML, has no null."""
    folder = tmp_path / "model"
    saved(folder, "mistral", {**LLAMA, "sliding_window": None})
    path = tmp_path / "recipe.toml"
    path.write_text(f'{RECIPE}pretrained = "{folder}"')
    recipe = mdmkit.load_recipe(path)
    assert recipe.denoiser.config_none == ("sliding_window",)
    assert built(recipe.denoiser).inner.config.sliding_window is None
    path.write_text(f'{RECIPE}pretrained = "{folder}"\nconfig = {{ sliding_window = 4 }}')
    given = mdmkit.load_recipe(path).denoiser
    assert (given.config_none, given.config["sliding_window"]) == ((), 4)
    both = f'pretrained = "{folder}"\nconfig = {{ sliding_window = 4 }}'
    (line,) = problems(tmp_path, f'{both}\nconfig_none = ["sliding_window"]')
    assert "config_none: sliding_window has a value in config" in line


def test_older_words_of_a_config_are_understood(tmp_path: Path) -> None:
    """Files from before transformers 5 have rope_theta where there is rope_parameters now."""
    rope = {"rope_type": "default", "rope_theta": 100.0}
    model = saved(tmp_path, "llama", {**LLAMA, "rope_parameters": rope})
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    assert values.pop("rope_parameters") == rope
    path.write_text(json.dumps({**values, "rope_theta": 100.0, "rope_scaling": None}))
    tokens = text(2, 12) % 9
    with torch.no_grad():
        theirs = model(tokens).logits
    network = begun(tmp_path)
    assert network.inner.config.rope_parameters["rope_theta"] == 100.0
    assert torch.allclose(said(network, tokens, causal=True)[..., :9], theirs, atol=1e-5)


def test_new_rows_are_the_mean_of_the_others(tmp_path: Path) -> None:
    model = saved(tmp_path, "llama", LLAMA, rows=9)
    network = begun(tmp_path)
    for ours, theirs in (
        (network.inner.model.embed_tokens.weight, model.model.embed_tokens.weight),
        (network.inner.lm_head.weight, model.lm_head.weight),
    ):
        assert torch.equal(ours[:9], theirs)
        assert torch.allclose(ours[9:], theirs.mean(0).expand(119, -1), atol=1e-7)


@pytest.mark.parametrize(
    ("architecture", "mask_row", "new"),
    [
        ("llama", "auto", True),  # an autoregressive model has never seen a mask
        ("bert", "auto", False),
        ("bert", "mean", True),
        ("llama", "keep", False),
    ],
)
def test_the_vector_of_the_mask(
    architecture: str, mask_row: str, new: bool, tmp_path: Path
) -> None:
    model = saved(tmp_path, architecture, FAMILIES[architecture], rows=12)
    table = begun(tmp_path, mask_row=mask_row).inner.get_input_embeddings().weight
    theirs = model.get_input_embeddings().weight
    assert torch.equal(table[:10], theirs[:10])
    expected = theirs.mean(0) if new else theirs[10]
    assert torch.allclose(table[10], expected, atol=1e-7)


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(mdmkit.DataError) as raised:
        begun(folder, **options)
    return str(raised.value)


def test_every_name_is_accounted_for(tmp_path: Path) -> None:
    saved(tmp_path, "llama", LLAMA)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    whole = dict(state)
    del state["model.norm.weight"]
    state["model.layers.0.extra.weight"] = torch.zeros(2)
    state["lm_head.weight"] = torch.zeros(9, 15)
    save_file(state, path)
    message = refusal(tmp_path)
    assert "  model.norm.weight: not in the file" in message
    assert "  model.layers.0.extra.weight: the network has no place for it" in message
    assert "  lm_head.weight: [9, 15] in the file, [128, 16] in the network" in message
    save_file({**whole, "model.layers.0.extra.weight": torch.zeros(2)}, path)
    begun(tmp_path, ignore=("*.extra.*",))
    save_file({**whole, "norm.weight": torch.zeros(16)}, path)
    assert "model.norm.weight: twice in the file, as model.norm.weight and as norm" in refusal(
        tmp_path
    )
    save_file({**whole, "model.norm.weight": torch.zeros(16, dtype=torch.int8)}, path)
    assert "model.norm.weight is of int8; expected floating-point weights" in refusal(tmp_path)


def test_tied_weights_bare_models_old_names_and_halves(tmp_path: Path) -> None:
    """What checkpoints of others look like: BERT's of 2018, GPT-2's without its head."""
    model = saved(tmp_path / "gpt2", "gpt2", SMALL)
    path = tmp_path / "gpt2" / "model.safetensors"
    state = {n.removeprefix("transformer."): v.bfloat16() for n, v in load_file(path).items()}
    assert "wte.weight" in state
    assert "lm_head.weight" not in state  # tied
    save_file(state, path)
    network = begun(tmp_path / "gpt2")
    save_file({**state, "lm_head.weight": state["wte.weight"] + 1}, path)
    assert "wte.weight: not lm_head.weight, to which the network ties it" in refusal(
        tmp_path / "gpt2"
    )
    save_file({**state, "lm_head.weight": state["wte.weight"].clone()}, path)
    half = model.transformer.wte.weight.bfloat16().float()
    assert network.inner.transformer.wte.weight.dtype == torch.float32
    assert torch.equal(network.inner.lm_head.weight[:9], half)

    model = saved(tmp_path / "bert", "bert", WIDE)
    path = tmp_path / "bert" / "model.safetensors"
    old = {
        re.sub(r"LayerNorm\.(weight|bias)", lambda m: f"LayerNorm.{OLD[m[1]]}", name): value
        for name, value in load_file(path).items()
    }
    assert "bert.embeddings.LayerNorm.gamma" in old
    save_file(old, path)
    tokens = text(1, 6) % 9
    with torch.no_grad():
        theirs = model(tokens).logits
    assert torch.allclose(said(begun(tmp_path / "bert"), tokens)[..., :9], theirs, atol=1e-5)


def test_weights_in_parts(tmp_path: Path) -> None:
    model = saved(tmp_path, "llama", LLAMA)
    whole = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    table = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(whole)}
    for file in set(table.values()):
        save_file({n: v for n, v in whole.items() if table[n] == file}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": table}))
    found = begun(tmp_path).inner.model.layers[1].mlp.up_proj.weight
    assert torch.equal(found, model.model.layers[1].mlp.up_proj.weight)
    index.write_text(json.dumps({"weight_map": {**table, "x": "../../other.safetensors"}}))
    assert "expected weight_map, an object of tensor names and .safetensors" in refusal(tmp_path)
    index.write_text(json.dumps({"weight_map": {**table, "x": 3}}))
    assert "expected weight_map, an object of tensor names and .safetensors" in refusal(tmp_path)
    index.write_text("[" * 100_000)
    assert "expected the index of sharded weights" in refusal(tmp_path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mdmkit.DataError, match=r"config\.json: cannot be read"):
        begun(tmp_path)
    (tmp_path / "config.json").write_text('{"hidden_size": 3}')
    with pytest.raises(mdmkit.DataError, match="expected a JSON object with model_type"):
        begun(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llava", "auto_map": {"x": "evil.py"}}')
    with pytest.raises(mdmkit.RecipeError, match="neither a masked nor a causal"):
        begun(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **LLAMA}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert "(pytorch_model.bin is a pickle, which is never read)" in refusal(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    assert "expected a whole .safetensors file" in refusal(tmp_path)


def test_a_model_on_the_hub_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = tmp_path / "snapshots" / "abc123"
    saved(commit, "llama", LLAMA)
    asked: list[tuple[Any, ...]] = []

    def snapshot(repo: str, *, revision: str | None, local_files_only: bool, **more: Any) -> str:
        asked.append((repo, revision, local_files_only, *more["allow_patterns"]))
        return str(commit)

    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    monkeypatch.setattr("mdmkit_hf.importing.hub.unreachable", lambda: None)
    options = Transformers(pretrained="owner/name").resolved()
    assert (options.architecture, options.revision) == ("llama", "abc123")
    options.initialize(built(options))
    assert asked == [
        ("owner/name", None, False, "config.json"),
        ("owner/name", "abc123", False, "config.json", "*.safetensors", "*.safetensors.index.json"),
    ]

    def refused(*_: Any, **__: Any) -> str:
        raise OSError("401 Client Error\nmore")

    monkeypatch.setattr(hub, "snapshot_download", refused)
    with pytest.raises(mdmkit.DataError) as raised:
        Transformers(pretrained="owner/other").resolved()
    message = str(raised.value)
    assert message.startswith("denoiser.pretrained: owner/other: there is no such path here, and")
    assert "the hub did not deliver: 401 Client Error more" in message


def test_without_a_network_that_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(mdmkit.DataError, match="HF_HUB_OFFLINE is set, and it was not fetched"):
        Transformers(pretrained="owner/nothing").resolved()
