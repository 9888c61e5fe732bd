from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask
from torch.utils._python_dispatch import TorchDispatchMode

from mdmkit.builtin.denoisers import Dit, Transformer, attention
from mdmkit.builtin.denoisers.attention import (
    attend,
    block_mask,
    dense_mask,
    visible_groups,
    who_sees_whom,
)
from mdmkit.testing import randomize
from mdmkit.values import Attention, Vocabulary

L = 300  # two blocks of 128, and a third that is not full
IDS = torch.stack(
    [(torch.arange(L) >= 40).long() + (torch.arange(L) >= 256), torch.zeros(L).long()]
)
REAL = torch.arange(L) < torch.tensor([[L], [150]])
COMBINATIONS = [which for which in product([False, True], repeat=3) if which[1] or which[2]]
"""Of causality, documents and padding: those that need a mask."""


def asked(causal: bool, documents: bool, padded: bool) -> Attention:
    return Attention(
        causal=causal,
        document_ids=IDS if documents else None,
        padding=REAL if padded else None,
    )


# --- who sees whom


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_who_sees_whom(causal: bool, documents: bool, padded: bool) -> None:
    ids = torch.tensor([[0, 0, 1, 1, 1], [-2, -1, -5, -5, 0]])
    real = torch.tensor([[True, True, True, True, False], [True, False, True, True, False]])
    mask = who_sees_whom(
        Attention(
            causal=causal,
            document_ids=ids if documents else None,
            padding=real if padded else None,
        ),
        torch.zeros(2, 5),
        head_width=64,
    )
    if not documents and not padded:
        assert mask is None  # SDPA's own causality will do
        return
    assert isinstance(mask, Tensor)
    for row, i, j in product(range(2), range(5), range(5)):
        allowed = (
            (not causal or j <= i)
            and (not documents or bool(ids[row, i] == ids[row, j]))
            and (not padded or bool(real[row, i] and real[row, j]))
        ) or i == j  # who sees nobody else sees itself
        assert bool(mask[row, 0, i, j]) is allowed, (row, i, j)


@pytest.mark.parametrize(
    ("device", "length", "head_width", "blocks"),
    [
        ("cuda", L, 64, True),
        ("cuda", L, 8, False),  # narrower than flex attention takes
        ("cuda", L - 1, 64, False),
        ("cpu", L, 64, False),
        ("meta", L, 64, False),
    ],
)
def test_long_masks_on_cuda_are_made_of_blocks(
    device: str, length: int, head_width: int, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "FLEX_LENGTH", L)
    tokens: Any = SimpleNamespace(shape=(2, length), device=torch.device(device))
    found = who_sees_whom(Attention(document_ids=IDS[:, :length]), tokens, head_width)
    assert isinstance(found, BlockMask if blocks else Tensor)
    assert who_sees_whom(Attention(causal=True), tokens, head_width) is None


class NoWaiting(TorchDispatchMode):
    """Fails where a value is read from the device, or a shape depends on one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket._qualified_op_name not in (
            "aten::_local_scalar_dense",
            "aten::nonzero",
            "aten::masked_select",
            "aten::unique_consecutive",
        )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("causal", "documents", "padded"), COMBINATIONS)
def test_a_mask_is_made_without_waiting_for_the_device(
    causal: bool, documents: bool, padded: bool
) -> None:
    with NoWaiting():
        groups = visible_groups(asked(causal, documents, padded), L)
        assert groups is not None
        block_mask(groups, causal=causal)
        dense_mask(groups, causal=causal)
        with pytest.raises(AssertionError):
            bool(groups.sum() > 0)


def test_blocks_that_nobody_sees_are_left_out() -> None:
    ids = (torch.arange(512) // 128)[None]
    found = block_mask(ids, causal=False)
    assert found.full_kv_num_blocks is not None
    assert found.full_kv_num_blocks.tolist() == [[[1, 1, 1, 1]]]  # its own block, and all of it
    assert found.kv_num_blocks.tolist() == [[[0, 0, 0, 0]]]
    assert found.sparsity() == pytest.approx(75)


# --- the ways to compute it


def queries_keys_values(dtype: torch.dtype = torch.float32, length: int = L) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    made = torch.randn(3, 2, 2, length, 16, generator=draw).to(dtype)  # 3 × [B, H, L, d]
    return [part.requires_grad_() for part in made]


def with_gradients(qkv: list[Tensor], **options: Any) -> list[Tensor]:
    found = attend(*qkv, **options)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(found)
    return [found, *torch.autograd.grad(found, qkv, upstream)]


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Flex attention in plain operations, which have a gradient on the CPU, too."""
    from torch.nn.attention import flex_attention as module

    monkeypatch.setattr(module, "_validate_device", lambda *_: None)
    monkeypatch.setattr(module, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(attention, "_compiled_flex", lambda: module.flex_attention)
    return


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(("causal", "documents", "padded"), COMBINATIONS)
def test_flex_attention_is_dense_attention(causal: bool, documents: bool, padded: bool) -> None:
    groups = visible_groups(asked(causal, documents, padded), L)
    assert groups is not None
    qkv = queries_keys_values()
    dense = with_gradients(qkv, mask=dense_mask(groups, causal=causal), causal=causal)
    flex = with_gradients(qkv, mask=block_mask(groups, causal=causal), causal=causal)
    for one, two in zip(flex, dense, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["all", "causal", "mask", "causal mask"])
def test_the_plain_formula_is_torchs_op(kind: str) -> None:
    causal, length = "causal" in kind, attention.SHORT
    mask = dense_mask(IDS[:, :length], causal=causal) if "mask" in kind else None
    qkv = queries_keys_values(length=length)
    plain = with_gradients(qkv, mask=mask, causal=causal)
    fused = functional.scaled_dot_product_attention(
        *qkv, attn_mask=mask, is_causal=causal and mask is None
    )
    torch.testing.assert_close(plain[0], fused, rtol=1e-5, atol=1e-5)
    assert with_gradients(qkv, mask=mask, causal=causal)[1].isfinite().all()


# --- compiled

VOCAB = Vocabulary(size=64, mask_id=63)
NETWORKS: dict[str, Any] = {
    "dit": Dit(width=32, depth=1, heads=2, conditioning_width=8),
    "transformer": Transformer(width=32, depth=1, heads=2, mlp_multiple=16),
}
COMPILES = pytest.mark.filterwarnings(
    # torch's own compiler brings both about (torch 2.13)
    "ignore:.*torch.jit.script_method:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
)


def run(network: Any, seed: int, asks: Attention) -> list[Tensor]:
    """Features and gradients of a batch."""
    assert asks.document_ids is not None
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 64, asks.document_ids.shape, generator=draw)
    h = network(tokens, attention=asks)
    return [h, *torch.autograd.grad(h.square().mean(), list(network.blocks.parameters()))]


def compile_blocks(network: Any, **options: Any) -> None:
    for block in network.blocks:
        block.compile(fullgraph=True, **options)


@pytest.mark.slow
@COMPILES
@pytest.mark.parametrize(("name", "length"), [("dit", L), ("transformer", 128)])
def test_a_block_compiles_to_one_graph_once(name: str, length: int) -> None:
    torch._dynamo.reset()
    network = NETWORKS[name].build(VOCAB)
    randomize(network)
    asks = [Attention(document_ids=ids[:, -length:]) for ids in (IDS, IDS.flip(1))]
    expected = [run(network, seed, ask) for seed, ask in enumerate(asks)]
    compile_blocks(network, dynamic=False)
    one_process = torch._inductor.config.patch(compile_threads=1)
    with torch._dynamo.config.patch(error_on_recompile=True), one_process:
        found = [run(network, seed, ask) for seed, ask in enumerate(asks)]
    for one, two in zip(found, expected, strict=True):
        for ours, theirs in zip(one, two, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@COMPILES
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", NETWORKS)
def test_block_masks_do_not_make_it_compile_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    network = NETWORKS[name].build(VOCAB)
    randomize(network)
    asks = [asked(True, True, True), evolved(asked(True, True, True))]
    expected = [run(network, seed, ask) for seed, ask in enumerate(asks)]
    monkeypatch.setattr(attention, "dense_mask", block_mask)  # as on CUDA
    compile_blocks(network, dynamic=False, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = [run(network, seed, ask) for seed, ask in enumerate(asks)]
    for one, two in zip(found, expected, strict=True):
        for ours, theirs in zip(one, two, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def evolved(asks: Attention) -> Attention:
    """Other documents and other padding of the same shapes."""
    assert asks.document_ids is not None
    assert asks.padding is not None
    return Attention(causal=True, document_ids=asks.document_ids.flip(1), padding=REAL.flip(0))
