from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mdmkit.builtin.denoisers import Dit
from mdmkit.builtin.denoisers.layers import LayerNorm, Rotary
from mdmkit.testing import randomize
from mdmkit.values import Attention, Vocabulary

VOCAB = Vocabulary(size=11, mask_id=10)
SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, "conditioning_width": 8}


def network(**options: Any) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        built = Dit(**{**SMALL, **options}).build(VOCAB).eval()
    randomize(built)
    return built


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCAB.size, (rows, length), generator=draw)


def logits(net: Any, text: Tensor, t: Tensor | None = None, **attention: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = net.unembed(net(text, t=t, attention=Attention(**attention)))
    return found


# --- options


@pytest.mark.parametrize(("width", "heads"), [(16, 3), (16, 16), (6, 2)])
def test_a_head_has_a_whole_even_number_of_features(width: int, heads: int) -> None:
    with pytest.raises(ValueError, match="whole, even number"):
        Dit(width=width, heads=heads)


def test_time_conditioning_needs_adaln() -> None:
    with pytest.raises(ValueError, match="needs adaln"):
        Dit(time_conditioning=True, adaln=False)


def test_t_is_supported_with_time_conditioning_only() -> None:
    assert "t" in Dit(time_conditioning=True).supports
    assert "t" not in Dit().supports


def test_a_time_conditioned_network_needs_t() -> None:
    with pytest.raises(ValueError, match="needs t"):
        network(time_conditioning=True)(tokens(1, 4))


# --- at the start


def fresh(**options: Any) -> Any:
    return Dit(**{**SMALL, **options}).build(VOCAB)


@pytest.mark.parametrize("adaln", [True, False])
def test_an_untrained_network_predicts_uniformly(adaln: bool) -> None:
    assert (logits(fresh(adaln=adaln), tokens(2, 5)) == 0).all()


def test_with_adaln_blocks_start_as_the_identity() -> None:
    net, text = fresh(), tokens(2, 5)
    with torch.no_grad():
        expected = net.output_layer.norm_final(net.vocab_embed(text))
        torch.testing.assert_close(net(text), expected)


def test_tied_weights_are_one_parameter() -> None:
    tied, untied = fresh(tied=True), fresh()
    assert tied.output_layer.linear.weight is tied.vocab_embed.embedding
    count = sum(p.numel() for p in tied.parameters())
    assert count == sum(p.numel() for p in untied.parameters()) - VOCAB.size * SMALL["width"]


def test_parameters_are_named_as_in_mdlm() -> None:
    block = ("norm1.weight", "attn_qkv.weight", "attn_out.weight", "norm2.weight")
    block += ("mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias")
    block += ("adaLN_modulation.weight", "adaLN_modulation.bias")
    expected = {"vocab_embed.embedding", "output_layer.norm_final.weight"}
    expected |= {f"sigma_map.mlp.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    expected |= {f"blocks.{i}.{name}" for i in range(2) for name in block}
    expected |= {f"output_layer.linear.{kind}" for kind in ("weight", "bias")}
    expected |= {f"output_layer.adaLN_modulation.{kind}" for kind in ("weight", "bias")}
    assert set(fresh().state_dict()) == expected


# --- layers


def test_rotary_scores_depend_on_relative_positions_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=draw)
    rotary = Rotary(8)

    def score(m: int, n: int) -> float:
        at = [rotary(1, torch.tensor([[place]])) for place in (m, n)]
        return float((Rotary.turn(q, at[0]) * Rotary.turn(k, at[1])).sum())

    for distance in (-7, 0, 3):
        scores = [score(m, m + distance) for m in (10, 11, 100, 500)]
        assert scores == pytest.approx([scores[0]] * 4, abs=1e-4)
    assert abs(score(10, 13) - score(10, 14)) > 1e-2
    assert score(0, 0) == pytest.approx(float((q * k).sum()), abs=1e-5)


def test_rotary_turns_pairs_by_their_own_frequency() -> None:
    # RoFormer, arXiv 2104.09864, eq. 15: features i and i + d/2 turn by m·10000^(−2i/d)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    turned = Rotary.turn(x, Rotary(4)(1, torch.tensor([[5]])))[0, 0, 0].tolist()
    expected = []
    for i in range(2):
        angle, (a, b) = 5 * 10_000 ** (-2 * i / 4), (x[..., i].item(), x[..., i + 2].item())
        expected.append(a * math.cos(angle) - b * math.sin(angle))
    for i in range(2):
        angle, (a, b) = 5 * 10_000 ** (-2 * i / 4), (x[..., i].item(), x[..., i + 2].item())
        expected.append(b * math.cos(angle) + a * math.sin(angle))
    assert turned == pytest.approx(expected, rel=1e-5)


def test_norms_are_computed_in_float32() -> None:
    draw = torch.Generator().manual_seed(0)
    norm = LayerNorm(64)
    with torch.no_grad():
        norm.weight.add_(torch.randn(64, generator=draw))  # not representable in bfloat16
    x = (10 + torch.randn(4, 64, generator=draw)).bfloat16()
    with torch.no_grad():
        found = norm(x)
    assert found.dtype == torch.bfloat16
    exact = x.double()
    exact = exact - exact.mean(-1, keepdim=True)
    exact = exact / (exact.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight.detach()
    # rounded once, at the end: half a unit in the last of eight binary digits
    torch.testing.assert_close(found.double(), exact, rtol=2.0**-8 * 1.01, atol=1e-5)


# --- the whole


@pytest.mark.parametrize("causal", [False, True])
def test_packed_documents_are_read_as_if_alone(causal: bool) -> None:
    net, text = network(), tokens(1, 9)
    ids = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 2, 2]])
    packed = logits(net, text, document_ids=ids, causal=causal)
    for start, stop in ((0, 4), (4, 6), (6, 9)):
        alone = logits(net, text[:, start:stop], causal=causal)
        torch.testing.assert_close(packed[:, start:stop], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_padded_rows_are_read_as_if_cut(causal: bool) -> None:
    net, text = network(), tokens(3, 8)
    real = torch.arange(8) < torch.tensor([[8], [5], [1]])
    padded = logits(net, text, padding=real, causal=causal)
    assert padded.isfinite().all()
    for row, length in enumerate((8, 5, 1)):
        alone = logits(net, text[row : row + 1, :length], causal=causal)
        torch.testing.assert_close(padded[row : row + 1, :length], alone, rtol=1e-4, atol=1e-4)


def test_only_relative_positions_matter_and_they_do() -> None:
    net, text = network(), tokens(2, 6)
    place = torch.arange(6).expand(2, -1)
    usual = logits(net, text)
    torch.testing.assert_close(logits(net, text, positions=place + 40), usual, rtol=1e-3, atol=1e-3)
    assert (logits(net, text, positions=place * 2) - usual).abs().max() > 1e-2


def test_dropout_works_in_training_only() -> None:
    net, text = network(dropout=0.5), tokens(2, 6)
    assert torch.equal(logits(net, text), logits(net, text))
    net.train()
    assert not torch.equal(logits(net, text), logits(net, text))


# --- the same network written out once more, position by position


def reference(net: Any, text: Tensor, sigma: float, causal: bool) -> Tensor:
    """MDLM's forward for one row ``[L]``, from the weights by name, in float64 and in loops."""
    w = {name: value.detach().double() for name, value in net.state_dict().items()}
    heads = SMALL["heads"]
    adaln = "sigma_map.mlp.0.weight" in w
    c = None
    if adaln:
        angles = torch.tensor([sigma * 10_000 ** (-i / 128) for i in range(128)]).double()
        c = torch.cat([angles.cos(), angles.sin()])
        c = w["sigma_map.mlp.0.weight"] @ c + w["sigma_map.mlp.0.bias"]
        c = w["sigma_map.mlp.2.weight"] @ (c * c.sigmoid()) + w["sigma_map.mlp.2.bias"]
        c = c * c.sigmoid()

    def modulation(name: str, parts: int) -> list[Tensor | float]:
        if c is None:
            return [0.0, 0.0, 1.0] * (parts // 3) if parts > 2 else [0.0, 0.0]
        return list((w[f"{name}.weight"] @ c + w[f"{name}.bias"]).chunk(parts))

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean()
        return centred / (centred.square().mean() + 1e-5).sqrt() * w[name]

    def turn(x: Tensor, place: int) -> Tensor:
        half = len(x) // 2
        out = x.clone()
        for i in range(half):
            angle = place * 10_000 ** (-i / half)
            out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
            out[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
        return out

    xs = [w["vocab_embed.embedding"][token] for token in text.tolist()]
    for b in range(SMALL["depth"]):
        p = f"blocks.{b}."
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation(p + "adaLN_modulation", 6)
        qkv = [
            w[p + "attn_qkv.weight"] @ (norm(x, p + "norm1.weight") * (1 + scale1) + shift1)
            for x in xs
        ]
        qs, ks, vs = ([row.chunk(3)[j].chunk(heads) for row in qkv] for j in range(3))
        for i, x in enumerate(list(xs)):
            mixed = []
            for head in range(heads):
                seen = range(i + 1) if causal else range(len(xs))
                q = turn(qs[i][head], i)
                scores = torch.stack([q @ turn(ks[j][head], j) / len(q) ** 0.5 for j in seen])
                chances = scores.softmax(0)
                mixed.append(sum(chance * vs[j][head] for chance, j in zip(chances, seen)))  # noqa: B905
            x = x + gate1 * (w[p + "attn_out.weight"] @ torch.cat(mixed))  # type: ignore[arg-type]
            hidden = norm(x, p + "norm2.weight") * (1 + scale2) + shift2
            hidden = w[p + "mlp.0.weight"] @ hidden + w[p + "mlp.0.bias"]
            inner = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
            hidden = 0.5 * hidden * (1 + inner.tanh())  # GELU, tanh approximation
            xs[i] = x + gate2 * (w[p + "mlp.2.weight"] @ hidden + w[p + "mlp.2.bias"])
    shift, scale = modulation("output_layer.adaLN_modulation", 2)
    out = [norm(x, "output_layer.norm_final.weight") * (1 + scale) + shift for x in xs]
    return torch.stack(
        [w["output_layer.linear.weight"] @ x + w["output_layer.linear.bias"] for x in out]
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("options", "t", "sigma"),
    [
        ({}, None, 0.0),
        ({"adaln": False}, None, 0.0),
        ({"tied": True}, None, 0.0),
        ({"time_conditioning": True}, 0.5, 0.6921476),  # −ln(1 − 0.999·0.5)
    ],
)
def test_the_network_is_the_one_written_out(
    options: dict[str, Any], t: float | None, sigma: float, causal: bool
) -> None:
    net, text = network(**options), tokens(2, 5)
    time = None if t is None else torch.full((2,), t)
    found = logits(net, text, t=time, causal=causal)
    expected = torch.stack([reference(net, row, sigma, causal) for row in text])
    assert expected.std() > 0.1
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
