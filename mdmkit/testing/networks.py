"""The contract of denoisers, by what changes in the output when something changes in the input."""

from __future__ import annotations

from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from mdmkit.protocols import DenoiserOptions
from mdmkit.testing.errors import Contract
from mdmkit.testing.facts import VOCAB
from mdmkit.values import Attention, Vocabulary

FEATURES = frozenset({"causal", "document_ids", "padding", "positions", "cache", "t"})
"""What a denoiser's ``supports`` may name."""
_CLOSE = 1e-4
"""Logits are of order 1; float32 sums in another order differ by less than this."""
_ROUGH = 0.1
"""bfloat16 has 8 bits; its logits are off by a few hundredths of the largest."""


def randomize(network: nn.Module, seed: int = 0) -> None:
    """Move every parameter away from where it was: zeros and ones would hide errors."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter.shape[-1] if parameter.ndim > 1 else 4
            noise = torch.randn(parameter.shape, generator=draw)
            parameter.add_((noise / fan_in**0.5).to(parameter))


@frozen(kw_only=True)
class _Subject:
    """A denoiser with random weights, and what to feed it."""

    contract: Contract
    network: Any
    supports: frozenset[str]
    vocab: Vocabulary
    tokens: Tensor

    def logits(self, tokens: Tensor | None = None, **attention: Any) -> Tensor:
        """``[B, L, V]`` in eval mode, t = 0.5 where t is understood."""
        tokens = self.tokens if tokens is None else tokens
        t = torch.full((len(tokens),), 0.5) if "t" in self.supports else None
        with torch.no_grad():
            h = self.network(tokens, t=t, attention=Attention(**attention))
            logits: Tensor = self.network.unembed(h)
        return logits

    def changed(self, where: Tensor) -> Tensor:
        """The tokens with another id at ``where [B, L]``."""
        return torch.where(where, (self.tokens + 1) % self.vocab.size, self.tokens)

    def require_same(
        self, clause: str, one: Tensor, two: Tensor, where: Tensor | None = None
    ) -> None:
        """The logits are equal (at the positions ``where [B, L]``)."""
        gap = (one - two).abs().amax(-1)
        gap = gap if where is None else gap * where

        def found() -> str:
            row, place = divmod(int(gap.argmax()), gap.shape[-1])
            return f"logits differ by {float(gap.max()):.3g} at row {row}, position {place}"

        self.contract.require(float(gap.max()) <= _CLOSE, clause, found)


def check_denoiser(
    options: DenoiserOptions | Any,
    *,
    vocab: Vocabulary = VOCAB,
    length: int = 8,
    seed: int = 0,
) -> None:
    """Build the network, give it random weights, and check what it may depend on.

    Use a small configuration: the network is called some dozens of times.

    Args:
        options: the denoiser's options.
        vocab: token ids.
        length: L, rounded up to ``length_multiple``.
        seed: of the weights.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    contract = Contract.of("denoiser", options)
    options = _resolved(contract, options)
    supports, multiple = options.supports, options.length_multiple
    known = isinstance(supports, frozenset) and supports <= FEATURES
    contract.require(known, f"supports is a frozenset out of {sorted(FEATURES)}", repr(supports))
    whole = isinstance(multiple, int) and multiple >= 1
    contract.require(whole, "length_multiple is a whole number >= 1", repr(multiple))
    length = -(-length // multiple) * multiple
    network = _build(contract, options, vocab, seed)
    randomize(network, seed)
    draw = torch.Generator().manual_seed(seed)
    subject = _Subject(
        contract=contract,
        network=network.eval(),
        supports=supports,
        vocab=vocab,
        tokens=torch.randint(0, vocab.size, (3, length), generator=draw),
    )
    _check_shapes(subject)
    _check_rows(subject)
    _check_memory(subject)
    for feature, check in _CHECKS_BY_FEATURE.items():
        if feature in supports:
            check(subject)
    _check_time(subject)
    _check_training(subject)


def _resolved(contract: Contract, options: Any) -> Any:
    """The options as a loaded recipe has them."""
    if not hasattr(options, "resolved"):
        return options
    once = options.resolved()
    same = type(once) is type(options)
    contract.require(same, "resolved gives options of the same class", lambda: repr(once))
    twice = once.resolved()
    contract.require(twice == once, "what is resolved is left as it is", lambda: repr(twice))
    return once


def _build(contract: Contract, options: Any, vocab: Vocabulary, seed: int) -> nn.Module:
    """Build twice under one seed: the weights come from torch's global generator alone."""
    built = []
    with torch.random.fork_rng([]):
        for _ in range(2):
            torch.manual_seed(seed)
            built.append(options.build(vocab))
    network, twin = built
    contract.require(isinstance(network, nn.Module), "build returns a module", repr(type(network)))
    ours, theirs = network.state_dict(), twin.state_dict()
    same = ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    contract.require(same, "one seed gives one set of initial weights", "two builds differ")
    inside = {id(module) for module in network.modules()}
    blocks = list(network.blocks)
    contract.require(
        all(isinstance(block, nn.Module) and id(block) in inside for block in blocks),
        "blocks lists layers that are part of the network",
        lambda: f"{[type(block).__name__ for block in blocks]}",
    )
    return network  # type: ignore[no-any-return]


def _check_shapes(subject: _Subject) -> None:
    contract, tokens = subject.contract, subject.tokens
    logits = subject.logits()
    contract.require(
        logits.shape == (*tokens.shape, subject.vocab.size),
        "forward and unembed give logits [B, L, V]",
        lambda: f"{list(logits.shape)} for tokens {list(tokens.shape)}, V = {subject.vocab.size}",
    )
    contract.require(logits.isfinite().all(), "logits are finite", "some are not")
    contract.require(
        torch.equal(subject.logits(), logits), "the network is a function in eval mode", "it is not"
    )
    t = torch.full((len(tokens),), 0.5)
    with torch.no_grad():
        h = subject.network(tokens, t=t, attention=Attention())
        alone = torch.stack([subject.network.unembed(h[:, i]) for i in range(h.shape[1])], 1)
        some = subject.network.unembed(h[:, ::2].reshape(-1, h.shape[-1]))
    clause = "predictions factorise over positions: unembed of one does not look at the others"
    subject.require_same(clause, alone, logits)
    subject.require_same(
        "unembed works on [N, D] as on [B, L, D]",
        some.view(len(tokens), -1, subject.vocab.size),
        logits[:, ::2],
    )


def _check_rows(subject: _Subject) -> None:
    clause = "rows do not influence each other"
    logits, tokens = subject.logits(), subject.tokens
    first = torch.zeros_like(tokens, dtype=torch.bool)
    first[0] = True
    subject.require_same(clause, subject.logits(subject.changed(first)), logits, ~first)
    subject.require_same(clause, subject.logits(tokens[:1]), logits[:1])


def _check_memory(subject: _Subject) -> None:
    """Having been shown the clean text, the network says the same of the masked one as before."""
    hidden = torch.arange(subject.tokens.shape[1]).expand_as(subject.tokens) % 2 == 0
    clean = (subject.tokens + 3) % (subject.vocab.size - 1)  # a text that it has not seen yet
    clean = clean + (clean >= subject.vocab.mask_id)
    xt = torch.where(hidden, subject.vocab.mask_id, clean)
    before = subject.logits(xt)
    subject.logits(clean)
    clause = "a prediction depends on xt (and t) alone, not on text that was seen before"
    subject.require_same(clause, subject.logits(xt), before)


def _check_causal(subject: _Subject) -> None:
    clause = "with attention.causal, position i sees positions <= i only"
    logits = subject.logits(causal=True)
    place = torch.arange(subject.tokens.shape[1]).expand_as(subject.tokens)
    for i in range(subject.tokens.shape[1] - 1):
        other = subject.logits(subject.changed(place > i), causal=True)
        subject.require_same(clause, other, logits, place <= i)


def _check_documents(subject: _Subject) -> None:
    tokens, length = subject.tokens, subject.tokens.shape[1]
    place = torch.arange(length).expand_as(tokens)
    ids = (place >= torch.tensor([[length // 2], [length // 3], [length - 1]])).long()
    for causal in {False, "causal" in subject.supports}:
        logits = subject.logits(document_ids=ids, causal=causal)
        for document in (0, 1):
            other = subject.logits(
                subject.changed(ids == document), document_ids=ids, causal=causal
            )
            clause = f"documents do not see each other (causal = {causal})"
            subject.require_same(clause, other, logits, ids != document)
        same = subject.logits(document_ids=torch.zeros_like(ids), causal=causal)
        clause = "one document is as good as no document ids"
        subject.require_same(clause, same, subject.logits(causal=causal))


def _check_padding(subject: _Subject) -> None:
    tokens, length = subject.tokens, subject.tokens.shape[1]
    real = torch.arange(length).expand_as(tokens) < torch.tensor([[length], [length // 2], [1]])
    for causal in {False, "causal" in subject.supports}:
        logits = subject.logits(padding=real, causal=causal)
        subject.contract.require(
            logits.isfinite().all(), "logits are finite with padding, too", "some are not"
        )
        other = subject.logits(subject.changed(~real), padding=real, causal=causal)
        clause = f"nobody sees padding (causal = {causal})"
        subject.require_same(clause, other, logits, real)
    same = subject.logits(padding=torch.ones_like(real))
    subject.require_same("no padding is as good as all real", same, subject.logits())


def _check_positions(subject: _Subject) -> None:
    place = torch.arange(subject.tokens.shape[1]).expand_as(subject.tokens)
    same = subject.logits(positions=place)
    subject.require_same("positions are 0..L−1 where none are given", same, subject.logits())


def _check_cache(subject: _Subject) -> None:
    """Token by token and several at a time, a cache gives what the whole text gives."""
    contract, tokens = subject.contract, subject.tokens
    contract.require(
        "causal" in subject.supports,
        "a cache is for causal attention",
        f"supports is {sorted(subject.supports)}",
    )
    contract.require(
        callable(getattr(subject.network, "new_cache", None)),
        'with "cache" in supports the network has new_cache(rows, length)',
        "it has not",
    )
    rows, length = tokens.shape
    whole = subject.logits(causal=True)
    for cuts in (range(1, length + 1), (length - 1, length), (2, length - 2, length)):
        cache, start, parts = subject.network.new_cache(rows, length), 0, []
        for stop in cuts:
            parts.append(subject.logits(tokens[:, start:stop], causal=True, cache=cache))
            start = stop
        clause = "with a cache the logits are those of the whole text"
        subject.require_same(clause, torch.cat(parts, dim=1), whole)
    with torch.autocast("cpu", torch.bfloat16):
        cache = subject.network.new_cache(rows, length)
        parts = [
            subject.logits(tokens[:, i : i + 1], causal=True, cache=cache) for i in range(length)
        ]
    rough = torch.cat(parts, dim=1).float()
    contract.require(rough.isfinite().all(), "with a cache bf16 logits are finite", "not all")
    gap = float((rough - whole).abs().max())
    contract.require(
        gap <= _ROUGH * float(whole.abs().max().clamp(min=1)),
        "with a cache bf16 logits are near those of the whole text",
        f"they differ by {gap:.3g}",
    )


_CHECKS_BY_FEATURE = {
    "causal": _check_causal,
    "document_ids": _check_documents,
    "padding": _check_padding,
    "positions": _check_positions,
    "cache": _check_cache,
}


def _check_time(subject: _Subject) -> None:
    """t is taken by everybody and looked at only by those that say so; rows have their own."""
    tokens = subject.tokens
    times = torch.tensor([0.1, 0.5, 0.9])
    with torch.no_grad():
        mixed = subject.network.unembed(subject.network(tokens, t=times, attention=Attention()))
    if "t" in subject.supports:
        middle = torch.zeros_like(tokens, dtype=torch.bool)
        middle[1] = True
        subject.require_same("each row has its own t", mixed, subject.logits(), middle)
        subject.contract.require(
            float((mixed - subject.logits())[0].abs().max()) > _CLOSE,
            '"t" in supports: t is looked at',
            "the same logits at t = 0.1 and t = 0.5",
        )
    else:
        clause = 'without "t" in supports, t changes nothing'
        subject.require_same(clause, mixed, subject.logits())


def _check_training(subject: _Subject) -> None:
    """Gradients are finite, and so are the logits under bf16 autocast."""
    contract, network = subject.contract, subject.network
    t = torch.full((len(subject.tokens),), 0.5)
    h = network(subject.tokens, t=t, attention=Attention())
    network.unembed(h).square().mean().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    contract.require(gradients, "gradients reach the parameters", "none did")
    contract.require(
        all(bool(gradient.isfinite().all()) for gradient in gradients),
        "gradients are finite",
        "some are not",
    )
    network.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16):
        logits = subject.logits()
    contract.require(logits.isfinite().all(), "logits are finite under bf16 autocast", "not all")
