"""Large networks are made on the meta device, sharded there, and only then given weights."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch

from mdmkit.builtin.denoisers import Dit, Transformer
from mdmkit.values import Attention, Vocabulary

VOCAB = Vocabulary(size=11, mask_id=10)
SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2}
NETWORKS = [
    Dit(**SMALL, conditioning_width=8),
    Dit(**SMALL, conditioning_width=8, tied=True, time_conditioning=True),
    Dit(**SMALL, adaln=False),
    Transformer(**SMALL),
    Transformer(**SMALL, tied=False, mlp="relu2"),
]
NAMES = ["dit", "dit-tied-t", "dit-plain", "transformer", "transformer-untied-relu2"]


def built(options: Any, seed: int = 3) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return options.build(VOCAB)


def made_late(options: Any, seed: int = 3) -> Any:
    """Built on the meta device, given memory full of nonsense, then weights."""
    with torch.device("meta"):
        network = options.build(VOCAB)
    assert all(p.is_meta for p in (*network.parameters(), *network.buffers()))
    network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.fill_(torch.nan)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network.init_weights()
    return network


@pytest.mark.parametrize("options", NETWORKS, ids=NAMES)
def test_weights_given_late_are_those_given_at_once(options: Any) -> None:
    early, late = built(options), made_late(options)
    assert [name for name, _ in early.named_parameters()] == [
        name for name, _ in late.named_parameters()
    ]  # tied weights are one again
    for (name, ours), theirs in zip(
        (*early.named_parameters(), *early.named_buffers()),
        (*late.parameters(), *late.buffers()),
        strict=True,
    ):
        assert torch.equal(ours, theirs), name
    text = torch.arange(6)[None]
    t = torch.tensor([0.5])
    with torch.no_grad():
        assert torch.equal(early(text, t=t), late(text, t=t))


@pytest.mark.parametrize("options", NETWORKS, ids=NAMES)
def test_every_layer_with_weights_of_its_own_can_reset_them(options: Any) -> None:
    for name, module in built(options).named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        assert not own or hasattr(module, "reset_parameters"), name


@pytest.mark.parametrize("options", NETWORKS, ids=NAMES)
def test_a_forward_on_the_meta_device_has_shapes_alone(options: Any) -> None:
    with torch.device("meta"):
        network = options.build(VOCAB)
        text = torch.zeros(2, 600, dtype=torch.int64)
        ids = torch.zeros_like(text)
        logits = network.unembed(
            network(text, t=torch.zeros(2), attention=Attention(document_ids=ids, causal=True))
        )
    assert logits.is_meta
    assert logits.shape == (2, 600, 11)


def test_the_first_weights_of_dit_are_those_of_earlier_versions() -> None:
    """A run's curve is a function of its recipe: the draws keep their order and number."""
    digests = []
    for options in NETWORKS[:3]:
        found = hashlib.sha256()
        for name, value in built(options).state_dict().items():
            found.update(name.encode() + value.numpy().tobytes())
        digests.append(found.hexdigest()[:16])
    assert digests == ["d110cda42faf4465", "624047ea8a27febe", "9de7d97bf36cb841"]
