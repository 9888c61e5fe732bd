from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mdmkit.builtin.denoisers import Transformer
from mdmkit.testing import randomize
from mdmkit.values import Attention, Vocabulary

VOCAB = Vocabulary(size=11, mask_id=10)
SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, "mlp_multiple": 8}


def fresh(seed: int = 0, vocab: Vocabulary = VOCAB, **options: Any) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return Transformer(**{**SMALL, **options}).build(vocab).eval()


def network(**options: Any) -> Any:
    built = fresh(**options)
    randomize(built)
    return built


def tokens(rows: int, length: int) -> Tensor:
    return torch.randint(0, 11, (rows, length), generator=torch.Generator().manual_seed(0))


def logits(net: Any, text: Tensor, **attention: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = net.unembed(net(text, attention=Attention(**attention)))
    return found


# --- options


def test_a_head_has_a_whole_even_number_of_features() -> None:
    with pytest.raises(ValueError, match="whole, even number"):
        Transformer(width=18, heads=2, depth=1)


@pytest.mark.parametrize(
    ("options", "hidden"),
    [
        ({"width": 768, "heads": 12}, 2048),  # ⅔·4·768
        ({"width": 1024, "heads": 16}, 2752),  # 2730.7 up to a multiple of 64
        ({"width": 1024, "heads": 16, "mlp_multiple": 256}, 2816),
        ({"width": 768, "heads": 12, "mlp": "relu2"}, 3072),
        ({"width": 96, "heads": 3, "mlp_ratio": 2.5, "mlp": "relu2"}, 256),
    ],
)
def test_the_hidden_width_is_a_multiple(options: dict[str, Any], hidden: int) -> None:
    assert Transformer(**options).hidden == hidden


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("options", "matrices", "hidden"),
    [
        ({"width": 768, "depth": 12, "heads": 12}, 3, 2048),
        ({"width": 768, "depth": 12, "heads": 12, "mlp": "relu2"}, 2, 3072),
        ({"width": 2048, "depth": 18, "heads": 16}, 3, 5504),
        ({"width": 16, "depth": 1, "heads": 2, "vocab_multiple": 1}, 3, 64),
    ],
)
@pytest.mark.parametrize("vocabulary", [50258, 50304])
def test_parameter_counts(
    options: dict[str, Any], matrices: int, hidden: int, tied: bool, vocabulary: int
) -> None:
    width, depth, heads = options["width"], options["depth"], options["heads"]
    rows = vocabulary if "vocab_multiple" in options else 50304  # 393 · 128
    expected = rows * width * (1 if tied else 2) + 2 * width
    expected += depth * (4 * width**2 + matrices * width * hidden + 2 * width + 2 * width // heads)
    with torch.device("meta"):
        built = Transformer(**options, tied=tied).build(Vocabulary(size=vocabulary, mask_id=0))
    assert sum(p.numel() for p in built.parameters()) == expected


def test_the_parameter_count_of_the_defaults_is_the_documented_one() -> None:
    with torch.device("meta"):
        built = Transformer().build(Vocabulary(size=50258, mask_id=0))
    assert sum(p.numel() for p in built.parameters()) == 123_589_632
    assert "123.6\n    million" in (Transformer.__doc__ or "")


# --- at the start


def test_an_untrained_untied_network_predicts_uniformly() -> None:
    assert (logits(fresh(tied=False), tokens(2, 5)) == 0).all()


@pytest.mark.parametrize("size", [11, 5000])
def test_an_untrained_tied_network_predicts_nearly_uniformly(size: int) -> None:
    vocab = Vocabulary(size=size, mask_id=size - 1)
    net = fresh(vocab=vocab, width=128)
    text = torch.full((1, 8), vocab.mask_id)
    log_p = logits(net, text)[..., :-1].log_softmax(-1)
    assert float(-log_p.mean()) == pytest.approx(math.log(size - 1), abs=0.1)


def test_blocks_start_as_the_identity() -> None:
    net, text = fresh(), tokens(2, 5)
    with torch.no_grad():
        x = net.embed_norm(torch.nn.functional.embedding(text, net.embed.weight))
        torch.testing.assert_close(net(text), net.final_norm(x))


def test_matrices_into_a_branch_keep_the_variance() -> None:
    net = fresh(width=256, depth=1, heads=4)
    block = net.blocks[0]
    for matrix in (block.attn_qkv, block.mlp_in):
        out = matrix(torch.randn(64, 256, generator=torch.Generator().manual_seed(0)))
        assert float(out.detach().std()) == pytest.approx(1, abs=0.02)
    assert (block.attn_out.weight == 0).all()
    assert (block.mlp_out.weight == 0).all()


# --- the spare rows of the tables


@pytest.mark.parametrize("tied", [True, False])
def test_spare_rows_are_never_used(tied: bool) -> None:
    net, text = network(tied=tied), tokens(2, 6)
    tables = [net.embed] if tied else [net.embed, net.head]
    assert [len(table.weight) for table in tables] == [128] * len(tables)
    h = net(text)
    assert net.unembed(h).shape == (2, 6, 11)
    assert net.unembed(h[0, 0]).shape == (11,)
    before = logits(net, text)
    net.unembed(h).square().sum().backward()
    for table in tables:
        assert (table.weight.grad[11:] == 0).all()
        assert (table.weight.grad[:11] != 0).any()
        with torch.no_grad():
            table.weight[11:] = 1e4
    assert torch.equal(logits(net, text), before)


# --- the whole


def reference(net: Any, text: Tensor, causal: bool, gated: bool) -> Tensor:
    """The network as the docstrings have it, in float64, position by position."""
    w = {name: value.double() for name, value in net.state_dict().items()}
    heads = SMALL["heads"]

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean() + 1e-6).sqrt() * w[name + ".weight"]

    def turn(x: Tensor, m: int) -> Tensor:
        half, out = len(x) // 2, x.clone()
        for i in range(half):
            angle = m * 10_000 ** (-2 * i / len(x))
            out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
            out[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
        return out

    def mlp(x: Tensor, p: str) -> Tensor:
        inner = w[p + "mlp_in.weight"] @ x
        if gated:
            gate, value = inner.chunk(2)
            inner = gate / (1 + (-gate).exp()) * value
        else:
            inner = inner.clamp(min=0) ** 2
        return w[p + "mlp_out.weight"] @ inner

    xs = [norm(w["embed.weight"][token], "embed_norm") for token in text.tolist()]
    for b in range(SMALL["depth"]):
        p = f"blocks.{b}."
        qkv = [w[p + "attn_qkv.weight"] @ norm(x, p + "attn_norm") for x in xs]
        qs, ks, vs = ([row.chunk(3)[j].chunk(heads) for row in qkv] for j in range(3))
        for i, x in enumerate(list(xs)):
            mixed = []
            for head in range(heads):
                seen = range(i + 1) if causal else range(len(xs))
                q = turn(norm(qs[i][head], p + "q_norm"), i)
                keys = [turn(norm(ks[j][head], p + "k_norm"), j) for j in seen]
                chances = torch.stack([q @ key / len(q) ** 0.5 for key in keys]).softmax(0)
                mixed.append(sum(c * vs[j][head] for c, j in zip(chances, seen, strict=True)))
            x = x + w[p + "attn_out.weight"] @ torch.cat(mixed)  # type: ignore[arg-type]
            xs[i] = x + mlp(norm(x, p + "mlp_norm"), p)
    table = w["head.weight"] if "head.weight" in w else w["embed.weight"]
    return torch.stack([(table @ norm(x, "final_norm"))[:11] for x in xs])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("mlp", ["swiglu", "relu2"])
def test_the_network_is_the_one_written_out(mlp: str, tied: bool, causal: bool) -> None:
    net, text = network(mlp=mlp, tied=tied), tokens(2, 5)
    expected = torch.stack([reference(net, row, causal, mlp == "swiglu") for row in text])
    assert expected.std() > 0.1
    found = logits(net, text, causal=causal).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_dropout_acts_in_training_alone() -> None:
    net, text = network(dropout=0.5), tokens(2, 6)
    assert torch.equal(logits(net, text), logits(network(), text))
    net.train()
    assert not torch.allclose(logits(net, text), logits(net, text))


def test_the_lengths_of_queries_and_keys_do_not_count() -> None:
    net, text = network(), tokens(2, 6)
    before = logits(net, text)
    with torch.no_grad():
        for block in net.blocks:
            block.attn_qkv.weight[: 2 * SMALL["width"]].mul_(1e3)
    torch.testing.assert_close(logits(net, text), before, rtol=1e-3, atol=1e-3)
