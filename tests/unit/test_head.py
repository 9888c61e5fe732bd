"""The head at the positions that count: what all logits at once would give, chunk by chunk."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn
from torch.nn import functional

from mdmkit import head
from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.diffusion import masked_nll
from mdmkit.head import chunk_rows, cross_entropies, cross_entropy_and_gradient, weighted_loss
from mdmkit.values import Attention, Noised, Vocabulary

V, B, L, D, MASK = 300, 5, 16, 16, 7
CPU = torch.device("cpu")


class Small(nn.Module):
    """Embedding and head, tied or not, with a second layer in the head and one unused parameter."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.middle = nn.Linear(D, D)
        self.out = nn.Linear(D, V, bias=kind != "tied")
        if kind == "tied":
            self.out.weight = self.embed.weight
        self.cap = 3.0 if kind == "capped" else None
        self.frozen = kind == "frozen"
        self.out.weight.requires_grad_(not self.frozen)

    def forward(self, tokens: Tensor, *, t: Any = None, attention: Any = None) -> Tensor:
        return functional.gelu(self.embed(tokens))

    def unembed(self, h: Tensor) -> Tensor:
        logits = self.out(torch.tanh(self.middle(h)))
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


def noised(share: float = 0.5, seed: int = 0) -> Noised:
    source = torch.Generator().manual_seed(seed)
    targets = torch.randint(8, V, (B, L), generator=source)
    in_loss = torch.rand(B, L, generator=source) < share
    return Noised(
        inputs=torch.where(in_loss, MASK, targets),
        targets=targets,
        in_loss=in_loss,
        # what is not in the loss may have any weight
        weights=(torch.rand(B, L, generator=source) + 0.1).where(in_loss, torch.inf),
        t=None,
        attention=Attention(),
        denominator=torch.tensor(1.0),
    )


def plain(denoiser: Any, sample: Noised) -> tuple[Tensor, Tensor]:
    """All logits, of every position, at once: the total and the rows' sums."""
    nll = masked_nll(
        denoiser.unembed(denoiser(sample.inputs)).flatten(0, 1), sample.targets.flatten(), MASK
    )
    kept = nll.view(B, L).where(sample.in_loss, 0.0)
    return (kept * sample.weights.where(sample.in_loss, 0.0)).sum(), kept.detach().sum(-1)


def gradients(denoiser: nn.Module, total: Tensor) -> dict[str, Tensor]:
    denoiser.zero_grad()
    (total / 3.7).backward()
    return {n: p.grad.clone() for n, p in denoiser.named_parameters() if p.grad is not None}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 4 positions, so that there are several and the last is not full."""
    monkeypatch.setattr(head, "_MULTIPLE", 4)
    monkeypatch.setitem(head.LOGITS_AT_ONCE, "cpu", 4 * V)


def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_compiled", lambda: cross_entropy_and_gradient)


@pytest.mark.parametrize("fill", [1, 4])
@pytest.mark.parametrize("share", [0.5, 0.0, 1.0])
@pytest.mark.parametrize("kind", ["untied", "tied", "capped", "frozen"])
@pytest.mark.usefixtures("small_chunks")
def test_loss_and_gradients_are_those_of_all_logits_at_once(
    monkeypatch: pytest.MonkeyPatch, kind: str, share: float, fill: int
) -> None:
    uncompiled(monkeypatch)
    torch.manual_seed(1)
    denoiser = Small(kind).double() if share == 0.5 else Small(kind)
    sample = noised(share)
    assert share != 0.5 or sample.in_loss.sum() % 4 != 0
    loss = weighted_loss(denoiser, sample.placed(fill), MASK)
    total, rows = plain(denoiser, sample)
    torch.testing.assert_close(loss.total, total, check_dtype=False)
    torch.testing.assert_close(loss.nll, rows.float(), check_dtype=False)
    assert torch.equal(loss.tokens, sample.in_loss.sum(-1))
    ours, theirs = gradients(denoiser, loss.total), gradients(denoiser, total)
    assert ours.keys() == theirs.keys()
    assert ("out.weight" in ours) == (kind in ("untied", "capped"))
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fill", [1, 4])
@pytest.mark.usefixtures("small_chunks")
def test_under_autocast_it_is_right_to_the_rounding_of_bfloat16(
    monkeypatch: pytest.MonkeyPatch, fill: int
) -> None:
    uncompiled(monkeypatch)
    torch.manual_seed(1)
    denoiser, sample = Small("tied"), noised()
    exact = plain(denoiser, sample)[0]
    wanted = gradients(denoiser, exact)
    with torch.autocast("cpu", torch.bfloat16):
        loss = weighted_loss(denoiser, sample.placed(fill), MASK)
    found = gradients(denoiser, loss.total)
    assert loss.total.item() == pytest.approx(exact.item(), rel=5e-3)
    for name, gradient in wanted.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - gradient).norm() < 0.02 * gradient.norm(), name


def test_no_tensor_of_all_logits_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_MULTIPLE", 4)
    monkeypatch.setitem(head.LOGITS_AT_ONCE, "cpu", 4 * V)
    seen: list[int] = []
    denoiser, sample = Small("untied"), noised()
    unembed = denoiser.unembed

    def counted(h: Tensor) -> Tensor:
        seen.append(len(h))
        return unembed(h)

    monkeypatch.setattr(denoiser, "unembed", counted)
    weighted_loss(denoiser, sample, MASK).total.backward()
    assert max(seen) == 4
    assert sum(seen) == sample.in_loss.sum()  # a position that does not count has none
    seen.clear()
    with torch.no_grad():
        weighted_loss(denoiser, sample, MASK)
    assert max(seen) == 4
    assert sum(seen) == sample.in_loss.sum()


def test_more_places_than_ever_before_are_all_there() -> None:
    """A micro-batch that needs another chunk gets it: shapes stay, nothing is left out."""
    for share in (0.1, 0.5, 0.9, 1.0):
        sample = noised(share)
        placed = sample.placed(8)
        assert placed.places is not None
        assert placed.valid is not None
        assert len(placed.places) % 8 == 0
        assert len(placed.places) - sample.in_loss.sum() < 8
        kept = placed.places[placed.valid]
        assert torch.equal(kept, sample.in_loss.flatten().nonzero()[:, 0])
        assert placed.placed(16) is placed


def test_what_fills_up_counts_nothing_even_where_it_is_not_finite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uncompiled(monkeypatch)
    denoiser = Small("untied")
    sample = noised(0.0)
    sample = evolve(
        sample, in_loss=torch.zeros(B, L, dtype=torch.bool).index_fill(1, torch.tensor([3]), True)
    )
    sample = evolve(sample, weights=torch.full((B, L), torch.inf).where(~sample.in_loss, 1.0))
    assert sample.weights.flatten()[0] == torch.inf  # place 0 fills up
    loss = weighted_loss(denoiser, sample.placed(128), MASK)
    assert loss.total.isfinite()
    torch.testing.assert_close(loss.total, plain(denoiser, sample)[0])
    assert all(g.isfinite().all() for g in gradients(denoiser, loss.total).values())


def test_the_mask_may_be_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    uncompiled(monkeypatch)
    denoiser, sample = Small("untied"), noised()
    found = [weighted_loss(denoiser, sample.placed(fill), 0).total for fill in (1, 128)]
    torch.testing.assert_close(*found)
    assert found[0].isfinite()


def test_the_gradient_of_the_kernel_is_autograds() -> None:
    torch.manual_seed(0)
    logits = torch.randn(9, 11, dtype=torch.float64, requires_grad=True)
    targets, weights = torch.tensor([0, 1, 2, 4, 5, 6, 8, 9, 10]), torch.rand(9).double()
    nll, gradient = cross_entropy_and_gradient(logits.detach(), targets, weights, 3)
    wanted = masked_nll(logits, targets, 3)
    torch.testing.assert_close(nll, wanted)
    (wanted * weights).sum().backward()
    torch.testing.assert_close(gradient, logits.grad)
    assert (gradient[:, 3] == 0).all()


@pytest.mark.usefixtures("small_chunks")
def test_measuring_takes_chunks_too() -> None:
    denoiser, sample = Small("untied"), noised()
    h = denoiser(sample.inputs)[sample.in_loss]
    found = cross_entropies(denoiser, h, sample.targets[sample.in_loss], MASK)
    torch.testing.assert_close(
        found, masked_nll(denoiser.unembed(h), sample.targets[sample.in_loss], MASK)
    )
    assert cross_entropies(denoiser, h[:0], sample.targets[sample.in_loss][:0], MASK).shape == (0,)


def test_a_second_backward_pass_is_refused() -> None:
    loss = weighted_loss(Small("untied"), noised(), MASK)
    loss.total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.total.backward()


@pytest.mark.parametrize(
    ("vocab", "most", "rows"),
    [
        (512, None, 32768),
        (50258, None, 256),
        (10**9, None, 128),
        (50258, 1024, 256),
        (512, 1000, 256),
    ],
)
def test_chunks_are_whole_multiples(vocab: int, most: int | None, rows: int) -> None:
    assert chunk_rows(vocab, CPU, most) == rows


@pytest.mark.slow
def test_compiled_it_is_the_same_and_compiles_once() -> None:
    """Two micro-batches with another number of places, of one shape where it matters."""
    torch._dynamo.reset()
    head._compiled.cache_clear()
    denoiser = Dit(width=16, depth=1, heads=2, adaln=False).build(Vocabulary(size=V, mask_id=MASK))
    fill = chunk_rows(V, CPU, B * L)
    torch._dynamo.utils.counters.clear()
    for seed, share in enumerate((0.3, 0.6, 0.9)):
        sample = noised(share, seed)
        found, wanted = (weighted_loss(denoiser, sample.placed(k), MASK) for k in (fill, 1))
        torch.testing.assert_close(found.total, wanted.total)
        torch.testing.assert_close(found.nll, wanted.nll)
        one, other = gradients(denoiser, found.total), gradients(denoiser, wanted.total)
        for name, gradient in other.items():
            torch.testing.assert_close(one[name], gradient, rtol=1e-4, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
