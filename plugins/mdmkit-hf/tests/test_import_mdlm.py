"""Official weights as a run: against MDLM's network and bound, written out here on their own."""

from __future__ import annotations

import json
import math
import pickle
import re
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor

import mdmkit
from mdmkit.cli import main
from mdmkit.data.tokenizers import Gpt2
from mdmkit.values import Vocabulary

pytest.importorskip("mdmkit_hf", reason="not installed: pip install -e plugins/mdmkit-hf")

from mdmkit_hf.importing.lightning import read_lightning
from mdmkit_hf.importing.mdlm import Architecture
from mdmkit_hf.importing.recipes import Origin, mdlm_recipe
from mdmkit_hf.importing.run import import_run

V, D, BLOCKS, HEADS, C, L = 259, 16, 2, 2, 8, 4
CONFIG = {
    "model_type": "mdlm",
    "vocab_size": V,
    "hidden_dim": D,
    "n_blocks": BLOCKS,
    "n_heads": HEADS,
    "cond_dim": C,
    "model_length": L,
    "dropout": 0.1,
    "time_conditioning": False,
    "auto_map": {"AutoConfig": "configuration_mdlm.MDLMConfig"},
}
BYTES = ["data.tokenizer.use=bytes"]


def official(seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the official names, in the order in which MDLM's modules come."""
    source = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source) * 0.3

    def linear(name: str, out: int, inputs: int, *, bias: bool = True) -> dict[str, Tensor]:
        found = {f"{name}.weight": draw(out, inputs)}
        return found | {f"{name}.bias": draw(out)} if bias else found

    frequencies = torch.tensor(
        [10_000.0 ** (-2 * i / (D // HEADS)) for i in range(D // HEADS // 2)]
    )
    weights = {"vocab_embed.embedding": draw(V, D) * 3}
    weights |= linear("sigma_map.mlp.0", C, 256) | linear("sigma_map.mlp.2", C, C)
    weights["rotary_emb.inv_freq"] = frequencies
    for number in range(BLOCKS):
        block = {"norm1.weight": 1 + draw(D)}
        block |= linear("attn_qkv", 3 * D, D, bias=False) | linear("attn_out", D, D, bias=False)
        block["norm2.weight"] = 1 + draw(D)
        block |= linear("mlp.0", 4 * D, D) | linear("mlp.2", D, 4 * D)
        block |= linear("adaLN_modulation", 6 * D, C)
        weights |= {f"blocks.{number}.{name}": tensor for name, tensor in block.items()}
    weights["output_layer.norm_final.weight"] = 1 + draw(D)
    weights |= linear("output_layer.linear", V, D)
    weights |= linear("output_layer.adaLN_modulation", 2 * D, C)
    return {f"backbone.{name}": tensor for name, tensor in weights.items()}


def mdlm_logits(weights: Mapping[str, Tensor], tokens: Tensor, sigma: float = 0.0) -> Tensor:
    """The published architecture in plain operations and float64: ``[B, L]`` to ``[B, L, V]``."""
    w = {name.removeprefix("backbone."): tensor.double() for name, tensor in weights.items()}
    d = D // HEADS

    def linear(x: Tensor, name: str) -> Tensor:
        y = x @ w[f"{name}.weight"].T
        return y + w[f"{name}.bias"] if f"{name}.bias" in w else y

    def silu(x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-x))

    def gelu(x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"]
        )

    def turn(x: Tensor) -> Tensor:
        """Features i and i + d/2 of ``[B, L, H, d]`` are a complex number, turned by its angle."""
        angles = torch.arange(tokens.shape[1])[:, None] * w["rotary_emb.inv_freq"]  # [L, d/2]
        z = torch.complex(x[..., : d // 2], x[..., d // 2 :])
        z = z * torch.exp(1j * angles)[None, :, None]
        return torch.cat([z.real, z.imag], -1)

    steps = torch.exp(-math.log(10_000) * torch.arange(128, dtype=torch.float64) / 128)
    embedded = torch.cat([torch.cos(sigma * steps), torch.sin(sigma * steps)])
    c = silu(linear(silu(linear(embedded, "sigma_map.mlp.0")), "sigma_map.mlp.2"))
    x = w["vocab_embed.embedding"][tokens]
    for number in range(BLOCKS):
        name = f"blocks.{number}"
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(c, f"{name}.adaLN_modulation").split(
            D
        )
        qkv = linear(norm(x, f"{name}.norm1") * (1 + scale1) + shift1, f"{name}.attn_qkv")
        q, k, v = (part.unflatten(-1, (HEADS, d)) for part in qkv.split(D, -1))  # [B, L, H, d]
        scores = torch.einsum("bqhd,bkhd->bhqk", turn(q), turn(k)) / math.sqrt(d)
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(-2)
        x = x + gate1 * linear(mixed, f"{name}.attn_out")
        hidden = gelu(linear(norm(x, f"{name}.norm2") * (1 + scale2) + shift2, f"{name}.mlp.0"))
        x = x + gate2 * linear(hidden, f"{name}.mlp.2")
    shift, scale = linear(c, "output_layer.adaLN_modulation").split(D)
    features = norm(x, "output_layer.norm_final") * (1 + scale) + shift
    return linear(features, "output_layer.linear")


def save_folder(folder: Path, weights: Mapping[str, Tensor], **config: Any) -> Path:
    """A folder in the layout of kuleshov-group/mdlm-owt."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    save_file(dict(weights), folder / "model.safetensors", {"format": "pt"})
    return folder


def logits_of(run: Path, tokens: Tensor, t: float = 0.0) -> Tensor:
    trained = mdmkit.open_run(run, device="cpu", precision="fp32")
    times = torch.full((len(tokens),), t)
    return trained.call(lambda network: network.unembed(network(tokens, t=times))).double()


TOKENS = torch.randint(0, V, (3, 11), generator=torch.Generator().manual_seed(5))


def test_a_published_folder_gives_the_logits_of_the_published_network(tmp_path: Path) -> None:
    weights = official()
    run = import_run(
        str(save_folder(tmp_path / "mdlm", weights)), tmp_path / "a run", overrides=BYTES
    )
    expected = mdlm_logits(weights, TOKENS)
    assert float(expected.std()) > 0.5  # it says something
    assert torch.allclose(logits_of(run, TOKENS), expected, rtol=0, atol=1e-5)
    source = json.loads((run / "imported.json").read_text())
    assert source["kind"] == "mdlm"
    assert set(source["sha256"]) == {"config.json", "model.safetensors"}
    recipe = mdmkit.open_run(run).recipe
    assert (recipe.run.name, recipe.data.length, recipe.denoiser.dropout) == ("a-run", L, 0.1)


def test_time_conditioning_is_kept(tmp_path: Path) -> None:
    weights = official()
    folder = save_folder(tmp_path / "mdlm", weights, time_conditioning=True)
    run = import_run(str(folder), tmp_path / "run", overrides=BYTES)
    sigma = -math.log1p(-(1 - 1e-3) * 0.7)  # log-linear (reference: MDLM, epsilon = 1e-3)
    expected = mdlm_logits(weights, TOKENS, sigma)
    assert not torch.allclose(expected, mdlm_logits(weights, TOKENS), atol=1e-2)
    assert torch.allclose(logits_of(run, TOKENS, 0.7), expected, rtol=0, atol=1e-5)


def test_sharded_and_pickled_weights_are_the_same(tmp_path: Path) -> None:
    weights = official()
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "config.json").write_text(json.dumps(CONFIG))
    names, index = list(weights), {}
    for number, part in enumerate((names[:7], names[7:])):
        file = f"model-{number + 1:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, shards / file)
        index |= dict.fromkeys(part, file)
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text(json.dumps(CONFIG))
    torch.save(OrderedDict(weights), pickled / "pytorch_model.bin")
    expected = mdlm_logits(weights, TOKENS)
    for folder in (shards, pickled):
        run = import_run(str(folder), tmp_path / f"of {folder.name}", overrides=BYTES)
        assert torch.allclose(logits_of(run, TOKENS), expected, rtol=0, atol=1e-5)


class Hostile:
    """Runs a command when a pickle of it is loaded as usual."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (self.command,)


def omegaconf(value: Any) -> Any:
    """As omegaconf pickles nested tables: objects of a class, with attributes _content or _val."""
    node = sys.modules["someones.dictconfig"].DictConfig()  # type: ignore[attr-defined]
    if isinstance(value, dict):
        node.__dict__ |= {"_content": {key: omegaconf(part) for key, part in value.items()}}
    else:
        node.__dict__ |= {"_val": value, "_metadata": node.__class__}
    return node


@pytest.fixture
def lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a checkpoint as Lightning does of MDLM's training, and a planted command in it."""

    def write(config: Mapping[str, Any] | None = None, **changes: Any) -> Path:
        weights = official()
        average = official(seed=1)
        parameters = [tensor for name, tensor in average.items() if "inv_freq" not in name]
        made = types.ModuleType("someones.dictconfig")
        made.DictConfig = type("DictConfig", (), {"__module__": made.__name__})  # type: ignore[attr-defined]
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "someones", types.ModuleType("someones"))
            patch.setitem(sys.modules, "someones.dictconfig", made)
            content = {
                "epoch": 0,
                "global_step": 7,
                "state_dict": OrderedDict(weights),
                "loops": {"fit_loop": {"state_dict": {}}},
                "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
                "hyper_parameters": {
                    "config": omegaconf(
                        config
                        or {
                            "backbone": "dit",
                            "parameterization": "subs",
                            "time_conditioning": False,
                            "model": {"length": 24},
                        }
                    ),
                    "tokenizer": Hostile(f"touch '{tmp_path / 'planted'}'"),
                },
                "ema": {"decay": 0.9999, "num_updates": 7, "shadow_params": parameters},
            }
            path = tmp_path / "last.ckpt"
            torch.save(content | changes, path)
        return path

    return write


def test_a_lightning_checkpoint_gives_its_average_and_its_raw_weights(
    tmp_path: Path, lightning: Callable[..., Path]
) -> None:
    path = lightning()
    averaged = import_run(str(path), tmp_path / "averaged", overrides=BYTES)
    raw = import_run(str(path), tmp_path / "raw", ema=False, overrides=BYTES)
    for run, seed in ((averaged, 1), (raw, 0)):
        expected = mdlm_logits(official(seed), TOKENS)
        assert torch.allclose(logits_of(run, TOKENS), expected, rtol=0, atol=1e-5)
        trained = mdmkit.open_run(run)
        assert (trained.step, trained.ema) == (7, seed == 1)
        assert trained.recipe.data.length == 24
    assert not (tmp_path / "planted").exists()
    with path.open("rb"), pytest.raises(ModuleNotFoundError, match="someones"):
        torch.load(path, weights_only=False)  # the stock reader looks names up


def test_the_configuration_of_omegaconf_itself(lightning: Callable[..., Path]) -> None:
    real = pytest.importorskip("omegaconf", reason="not installed; the other tests stand in for it")
    config = {"parameterization": "subs", "time_conditioning": True, "model": {"length": 99}}
    made = {"config": real.OmegaConf.create(config)}
    origin = read_lightning(lightning(hyper_parameters=made), ema=True)
    assert (origin.length, origin.time_conditioning) == (99, True)


def test_the_planted_command_is_a_real_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(f"touch '{tmp_path / 'planted'}'")))
    assert (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"state_dict": [1]}, "has no state_dict"),
        ({"state_dict": {"backbone.a": 3}}, "'backbone.a' is no tensor"),
        ({"state_dict": {"a": torch.ones(2)}}, "vocab_embed.embedding is missing"),
        ({"ema": None}, "keeps no average.*--no-ema"),
        ({"ema": {"shadow_params": [torch.ones(2)]}}, "the average has 1 tensors, the network 30"),
        ({"config": {"parameterization": "sedd"}}, "parameterization: 'sedd'; expected 'subs'"),
        ({"config": {"backbone": "dimamba"}}, "backbone: 'dimamba'; expected 'dit'"),
        ({"config": {"backbone": 10**5000}}, "backbone: a int; expected 'dit'"),
        ({"state_dict": dict.fromkeys("abcdefgh", torch.ones(10_000))}, "that share nothing"),
    ],
)
def test_other_checkpoints_are_refused(
    lightning: Callable[..., Path], changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(mdmkit.DataError, match=says):
        read_lightning(lightning(**changes), ema=True)


def test_an_average_in_another_order_is_refused(lightning: Callable[..., Path]) -> None:
    listed = [tensor for name, tensor in official(1).items() if "inv_freq" not in name]
    with pytest.raises(
        mdmkit.DataError, match=r"shadow_params.*\n.*vocab_embed.embedding \[32\], expected \[259"
    ):
        read_lightning(lightning(ema={"shadow_params": listed[-1:] + listed[:-1]}), ema=True)


TEXT = "ab\n\ncde\n\nmasks are lifted one by one\n\nso it is said\n"
EPS = 1e-3


def mdlm_nelbo(weights: Mapping[str, Tensor], block: Tensor, mask_id: int) -> float:
    """MDLM's loss of a block, nats per token, exactly: over all masks and over t in [eps, 1].

    A token is masked with probability (1 - eps)t, and a masked one counts 1/t (arXiv 2406.07524
    eq. 10 with its log-linear schedule). The integrand is a polynomial of t, so that eight Gauss
    points leave no error.
    """
    nodes, masses = (torch.from_numpy(part) for part in _gauss(8))
    t = EPS + (1 - EPS) * nodes
    rate = (1 - EPS) * t
    total = 0.0
    masks = torch.tensor([[(n >> i) & 1 for i in range(L)] for n in range(1, 2**L)]).bool()
    logits = mdlm_logits(weights, torch.where(masks, mask_id, block))
    logits[..., mask_id] = -torch.inf
    nll = -logits.log_softmax(-1)[:, torch.arange(L), block]
    for mask, of_all in zip(masks, nll, strict=True):
        k = int(mask.sum())
        weight = (masses * rate**k * (1 - rate) ** (L - k) / t).sum()
        total += float(weight * of_all[mask].sum())
    return total / L


def _gauss(points: int) -> Any:
    import numpy as np

    nodes, masses = np.polynomial.legendre.leggauss(points)
    return (nodes + 1) / 2, masses / 2  # from [-1, 1] to [0, 1]


def test_its_nelbo_is_what_mdlms_code_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path / "cache"))
    weights = official()
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    run = import_run(
        str(save_folder(tmp_path / "mdlm", weights)),
        tmp_path / "run",
        overrides=[
            *BYTES,
            "train.precision=fp32",
            "data.corpus.use=text",
            f"data.corpus.validation={text}",
            "data.corpus.document=blank_line",
            "evaluators.mdlm.draws=64",
        ],
    )
    trained = mdmkit.open_run(run)
    source = trained.blocks("validation")
    assert len(source) > 10
    batch = source.batch(torch.arange(len(source)))
    assert batch.tokens[0].tolist() == [256, ord("a"), ord("b"), 256]  # BOS, text, EOS
    exact = [mdlm_nelbo(weights, block, 258) for block in batch.tokens]
    found = mdmkit.evaluate(run, device="cpu")["mdlm"]
    number = found.measurements["nelbo_per_token"]
    assert number.value == pytest.approx(sum(exact) / len(exact), rel=0.02)
    assert abs(number.value - math.log(V - 1)) > 0.2  # it is not that of no weights
    assert found.provenance["sampling_eps"] == EPS
    (sample,) = mdmkit.sample(run, n=1, length=L, steps=2, device="cpu")
    assert "<|mask|>" not in sample.text


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    owt = Architecture(vocab_size=50258, width=768, depth=12, heads=12, conditioning_width=128)
    assert sum(math.prod(shape) for shape in owt.parameters().values()) == 169_627_218
    origin = Origin(
        weights={}, architecture=owt, length=1024, time_conditioning=False, files=(), where="there"
    )
    recipe = mdlm_recipe(origin, name="mdlm-owt", tokenizer=None, overrides=())
    assert recipe.data.tokenizer == Gpt2()
    with torch.device("meta"):
        network = recipe.denoiser.build(Vocabulary(size=50258, mask_id=50257))
    ours = {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
    assert list(ours.items()) == list(owt.parameters().items())  # the order, too


def gpt2_files(folder: Path, pieces: int) -> Path:
    """A made-up tokenizer of GPT-2's kind with so many pieces, the end of text among them."""
    alphabet = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    alphabet += [chr(256 + n) for n in range(256 - len(alphabet))]
    merges = [f"{a} {b}" for a in "abcdefghijklmnopqrst" for b in "abcdefghijklmnopqrst"]
    merges = merges[: pieces - 257]
    vocab = [*alphabet, *(pair.replace(" ", "") for pair in merges), "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return folder


def test_gpt2s_tokenizer_from_a_folder_has_the_mask_last(tmp_path: Path) -> None:
    weights = official()
    folder = save_folder(tmp_path / "mdlm", weights)
    files = gpt2_files(tmp_path / "gpt2", V - 1)
    run = import_run(str(folder), tmp_path / "run", tokenizer=files)
    vocab = mdmkit.open_run(run).tokenizer.vocab
    assert (vocab.size, vocab.mask_id, vocab.eos_id) == (V, V - 1, V - 2)
    with pytest.raises(mdmkit.DataError, match="the network has 259 ids, the tokenizer 271"):
        import_run(str(folder), tmp_path / "other", tokenizer=gpt2_files(tmp_path / "more", V + 11))
    assert not (tmp_path / "other").exists()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with the repository some/mdlm in it, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--some--mdlm"
    save_folder(repo / "snapshots" / commit, official())
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    return repo


def test_a_repository_that_was_fetched_before_needs_no_network(tmp_path: Path, hub: Path) -> None:
    run = import_run("some/mdlm", tmp_path / "run", overrides=BYTES)
    source = json.loads((run / "imported.json").read_text())
    assert source["commit"] == (hub / "refs" / "main").read_text()
    expected = mdlm_logits(official(), TOKENS)
    assert torch.allclose(logits_of(run, TOKENS), expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("hub")
def test_one_that_was_not_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["import", "other/mdlm", "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "HF_HUB_OFFLINE is set, and it was not fetched before" in capsys.readouterr().err
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(arguments) == 2
    assert "no connection to 127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def without(name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in official().items() if not key.endswith(name)}


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: cannot be read"),
    "config is no JSON": (
        lambda f: (f / "config.json").write_text("{"),
        "config.json: not JSON",
    ),
    "another model": (
        lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
        "model_type is 'bert'; expected 'mdlm'",
    ),
    "no width": (
        lambda f: (f / "config.json").write_text(json.dumps(CONFIG | {"hidden_dim": "16"})),
        "hidden_dim is '16'; expected a whole number",
    ),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        "has neither model.safetensors nor pytorch_model.bin",
    ),
    "truncated": (
        lambda f: (f / "model.safetensors").write_bytes(
            (f / "model.safetensors").read_bytes()[:-100]
        ),
        "model.safetensors: cannot be read",
    ),
    "a name too few": (
        lambda f: save_file(without("norm_final.weight"), f / "model.safetensors"),
        "missing: backbone.output_layer.norm_final.weight",
    ),
    "a name too many": (
        lambda f: save_file(
            official() | {"backbone.extra": torch.ones(1)}, f / "model.safetensors"
        ),
        "not known: backbone.extra",
    ),
    "more blocks than said": (
        lambda f: (f / "config.json").write_text(json.dumps(CONFIG | {"n_blocks": 1})),
        "not known: backbone.blocks.1.adaLN_modulation.bias.* and 5 more",
    ),
    "far fewer blocks than said": (
        lambda f: (f / "config.json").write_text(json.dumps(CONFIG | {"n_blocks": 1000})),
        "31 tensors; expected those of a network of 1000 blocks",
    ),
    "another shape": (
        lambda f: (f / "config.json").write_text(json.dumps(CONFIG | {"cond_dim": 9})),
        r"of another shape: backbone.sigma_map.mlp.0.weight \[8, 256\], expected \[9, 256\]",
    ),
    "another rotation": (
        lambda f: save_file(
            official() | {"backbone.rotary_emb.inv_freq": torch.ones(D // HEADS // 2)},
            f / "model.safetensors",
        ),
        "not the frequencies of rotary positions of base 10000",
    ),
    "an index that leads out": (
        lambda f: (
            (f / "model.safetensors").rename(f.parent / "model.safetensors"),
            (f / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": dict.fromkeys(official(), "../model.safetensors")})
            ),
        ),
        "safetensors files beside it",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_are_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    spoil, says = BAD[case]
    folder = save_folder(tmp_path / "mdlm", official())
    spoil(folder)
    out = tmp_path / "run"
    assert main(["import", str(folder), "--out", str(out), "--set", BYTES[0]]) == 2
    said = capsys.readouterr().err
    assert re.search(says, said)
    assert "Traceback" not in said
    assert not out.exists()


def test_what_else_is_refused(tmp_path: Path) -> None:
    folder = str(save_folder(tmp_path / "mdlm", official()))
    out = tmp_path / "run"
    (tmp_path / "weights.pt").write_bytes(b"")
    for arguments, says in (
        ({"source": folder}, "the network has 259 ids, and only of 50258 and 30522"),
        ({"source": folder, "ema": False}, "one set of weights; leave out --no-ema"),
        ({"source": folder, "revision": "main"}, "is local; leave it out"),
        ({"source": folder, "tokenizer": tmp_path}, "expected one of vocab.json"),
        ({"source": folder, "out": tmp_path}, "is there already"),
        ({"source": str(tmp_path / "none")}, "there is nothing at"),
        ({"source": str(tmp_path / "weights.pt")}, "whose name ends in .ckpt"),
    ):
        with pytest.raises(mdmkit.DataError, match=says):
            import_run(**({"out": out} | arguments))  # type: ignore[arg-type]
    with pytest.raises(mdmkit.RecipeError, match=r"denoiser.*width"):
        import_run(folder, out, overrides=[*BYTES, "denoiser.widht=3"])
    assert not out.exists()
