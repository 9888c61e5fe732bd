"""What a block keeps of its forward changes no number, no name and no draw of dropout."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.errors import RecipeError
from mdmkit.network import Root
from mdmkit.recipe import Parallel
from mdmkit.training.distributed import World
from mdmkit.training.parallel import blocks_of, prepare
from mdmkit.values import Vocabulary

KINDS = ("none", "selective", "full")
WORLD = World(device=torch.device("cpu"))
VOCAB = Vocabulary(size=40, mask_id=39)


class Counting(TorchDispatchMode):
    """How often each operation is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def network(kind: str) -> Root:
    torch.manual_seed(0)
    root = Root(Dit(width=16, depth=3, heads=2, dropout=0.3).build(VOCAB))
    for parameter in root.parameters():
        nn.init.normal_(parameter, std=0.2)  # no gate is left at zero
    prepare(root, Parallel(activation_checkpointing=kind), WORLD)
    return root


def gradients(kind: str) -> tuple[Tensor, dict[str, Tensor], Counter[str]]:
    """The loss, the gradients by name, and what the backward called."""
    root = network(kind)
    torch.manual_seed(1)
    tokens = torch.randint(39, (4, 8))
    loss = root(lambda denoiser: denoiser.unembed(denoiser(tokens)).square().sum())
    with Counting() as counting:
        loss.backward()
    found = {name: parameter.grad for name, parameter in root.named_parameters()}
    assert all(gradient is not None for gradient in found.values())
    return loss.detach(), found, counting.calls


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return {kind: gradients(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS[1:])
def test_loss_and_gradients_are_bitwise_the_same(found: dict[str, Any], kind: str) -> None:
    (loss, plain, _), (other_loss, other, _) = found["none"], found[kind]
    assert other_loss.equal(loss)
    assert other.keys() == plain.keys()  # in named_parameters
    for name, gradient in plain.items():
        assert other[name].equal(gradient), name


def test_selective_repeats_everything_but_matrix_products(found: dict[str, Any]) -> None:
    none, selective, full = (found[kind][2] for kind in KINDS)
    products = {kind: found[kind][2]["mm"] + found[kind][2]["addmm"] for kind in KINDS}
    assert products["selective"] == products["none"]
    assert products["full"] >= products["none"] + 3 * 3  # at least those of each block but its last
    for name in ("native_layer_norm", "gelu", "bmm"):
        assert selective[name] == full[name] > none[name], name


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_state_has_the_same_names(kind: str) -> None:
    assert network(kind).state_dict().keys() == network("none").state_dict().keys()


def test_nothing_is_repeated_without_gradients() -> None:
    root = network("full")
    root.eval()
    with torch.no_grad(), Counting() as counting:
        root(lambda denoiser: denoiser(torch.zeros(2, 8, dtype=torch.int64)))
    assert counting.calls["gelu"] == 3


class NoBlocks(nn.Module):
    blocks = ()


def test_a_denoiser_without_blocks_is_refused_where_it_matters() -> None:
    prepare(Root(NoBlocks()), Parallel(), WORLD)
    for options in (Parallel(activation_checkpointing="full"), Parallel(compile=True)):
        with pytest.raises(RecipeError, match="lists no blocks"):
            prepare(Root(NoBlocks()), options, WORLD)


def test_a_block_that_is_used_twice_is_one() -> None:
    shared, other = nn.Linear(1, 1), nn.Linear(1, 1)
    denoiser = NoBlocks()
    denoiser.blocks = [shared, other, shared]
    assert blocks_of(denoiser) == [shared, other]
