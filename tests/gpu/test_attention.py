"""Flash and flex attention on a CUDA device against the dense mask; skipped where there is none."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask

from mdmkit.builtin.denoisers import Dit, Transformer
from mdmkit.builtin.denoisers.attention import (
    FLEX_LENGTH,
    attend,
    dense_mask,
    visible_groups,
    who_sees_whom,
)
from mdmkit.testing import randomize
from mdmkit.values import Attention, Vocabulary

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # torch's own compiler brings both about (torch 2.13)
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]

L = FLEX_LENGTH + 60  # its last block of 128 is not full


def asked(causal: bool, documents: bool, padded: bool) -> Attention:
    place = torch.arange(L, device="cuda")
    ids = torch.stack([(place >= 100).long() + (place >= 256), place // 50])
    real = place < torch.tensor([[L], [300]], device="cuda")
    return Attention(
        causal=causal,
        document_ids=ids if documents else None,
        padding=real if padded else None,
    )


def queries_keys_values(dtype: torch.dtype) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    made = torch.randn(3, 2, 4, L, 64, generator=draw).to("cuda", dtype)
    return [part.requires_grad_() for part in made]


def with_gradients(qkv: list[Tensor], **options: Any) -> list[Tensor]:
    found = attend(*qkv, **options)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(found)
    return [found, *torch.autograd.grad(found, qkv, upstream)]


def exact(qkv: list[Tensor], mask: Tensor | None, causal: bool) -> list[Tensor]:
    """The plain operations in float64."""
    wide = [part.detach().double().requires_grad_() for part in qkv]
    with sdpa_kernel(SDPBackend.MATH):
        return with_gradients(wide, mask=mask, causal=causal)


def require_close(found: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    # float32 products may be rounded to TF32 (ten bits); bfloat16 has eight
    most = 2e-2 if dtype == torch.bfloat16 else 5e-3
    for one, two in zip(found, expected, strict=True):
        one, two = one.detach().double(), two.detach()
        assert one.isfinite().all()
        assert float((one - two).norm() / two.norm()) < most


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "asks", [which for which in product([False, True], repeat=3) if which[1] or which[2]]
)
def test_flex_attention_is_dense_attention(
    asks: tuple[bool, bool, bool], dtype: torch.dtype
) -> None:
    attention = asked(*asks)
    mask = who_sees_whom(attention, torch.zeros(2, L, device="cuda"), head_width=64)
    assert isinstance(mask, BlockMask)
    groups = visible_groups(attention, L)
    assert groups is not None
    qkv = queries_keys_values(dtype)
    found = with_gradients(qkv, mask=mask, causal=asks[0])
    require_close(found, exact(qkv, dense_mask(groups, causal=asks[0]), asks[0]), dtype)


@pytest.mark.parametrize("causal", [False, True])
def test_flash_attention_is_plain_attention(causal: bool) -> None:
    qkv = queries_keys_values(torch.bfloat16)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION]):  # or it fails
        found = with_gradients(qkv, mask=None, causal=causal)
    require_close(found, exact(qkv, None, causal), torch.bfloat16)


def test_a_mask_is_made_without_waiting_for_the_device() -> None:
    attention = asked(True, True, True)
    tokens = torch.zeros(2, L, device="cuda")
    who_sees_whom(attention, tokens, head_width=64)
    torch.cuda.set_sync_debug_mode("error")
    try:
        who_sees_whom(attention, tokens, head_width=64)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "options", [Dit(width=128, depth=2, heads=2), Transformer(width=128, depth=2, heads=2)]
)
def test_a_network_with_compiled_blocks_is_the_one_without(options: Any) -> None:
    torch._dynamo.reset()
    network = options.build(Vocabulary(size=64, mask_id=63))
    randomize(network)
    network.to("cuda")
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 64, (2, L), generator=draw).to("cuda")

    def run(asks: Attention) -> list[Tensor]:
        with torch.autocast("cuda", torch.bfloat16):
            h = network(tokens, attention=asks)
        return [
            h,
            *torch.autograd.grad(h.float().square().mean(), [network.blocks[0].attn_qkv.weight]),
        ]

    expected = [part.double() for part in run(asked(False, True, True))]
    for block in network.blocks:
        block.compile(fullgraph=True, dynamic=False)
    require_close(run(asked(False, True, True)), expected, torch.bfloat16)
    with torch._dynamo.config.patch(error_on_recompile=True):
        run(asked(False, True, True))
