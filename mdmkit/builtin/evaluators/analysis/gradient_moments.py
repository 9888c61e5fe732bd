"""Moments of gradients of independent batches, from their inner products alone.

R batches, J bins of t, and a gradient g_rj for the part of the loss of batch r whose t is in bin j.
Products of *different* batches have the expectation <G_j, G_l> of the true gradients: noise, being
independent, drops out of them, and does not make a norm too large (McCandlish et al.,
arXiv 1812.06162, appendix A.1, with two batches).
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor


@frozen(kw_only=True, eq=False)
class Moments:
    """The inner products of one method, for some of the parameters.

    Attributes:
        gram: ``[R, J, R, J]`` float64.
        rows: ``[R, J]`` float64, sequences of each batch in each bin.
    """

    gram: Tensor
    rows: Tensor

    @classmethod
    def of(cls, gradients: Tensor, rows: Tensor) -> Moments:
        """From ``gradients [R, J, P]`` float32."""
        flat = gradients.flatten(0, 1)
        shape = (*gradients.shape[:2], *gradients.shape[:2])
        return cls(gram=(flat @ flat.T).double().view(shape), rows=rows)

    def __add__(self, other: Moments) -> Moments:
        """Those of the parameters of both."""
        return Moments(gram=self.gram + other.gram, rows=self.rows)

    @property
    def whole_batches(self) -> Tensor:
        """The inner products of batches, all bins together: ``[R, R]``."""
        return self.gram.sum((1, 3))

    def inner(self, kept: Tensor) -> Tensor:
        """<G_j, G_l> ``[J, J]`` from the batches ``kept [n]``: the mean over different batches."""
        gram, count = self.gram[kept][:, :, kept], len(kept)
        return (gram.sum((0, 2)) - self._same(kept)) / (count * (count - 1))

    def _same(self, kept: Tensor) -> Tensor:
        """Σ_r <g_rj, g_rl>: ``[J, J]``."""
        return torch.einsum("rjrl->jl", self.gram[kept][:, :, kept])

    def signal(self, kept: Tensor) -> Tensor:
        """|G|², all bins together: scalar."""
        return self.inner(kept).sum()

    def signal_share(self, kept: Tensor) -> Tensor:
        """<G_j, G>/|G|² ``[J]``: their sum is 1; what pulls against the others is below 0."""
        inner = self.inner(kept)
        return inner.sum(-1) / inner.sum()

    def noise_by_bin(self, kept: Tensor) -> Tensor:
        """The variance of g_rj, summed over parameters: ``[J]``."""
        return (self._same(kept) / len(kept) - self.inner(kept)).diagonal()

    def noise_share(self, kept: Tensor) -> Tensor:
        """`noise_by_bin` as shares, ``[J]``."""
        noise = self.noise_by_bin(kept)
        return noise / noise.sum()

    def ratio(self, kept: Tensor) -> Tensor:
        """|G|²/tr(S), with S the covariance of the gradient of one sequence: scalar."""
        noise = (self._same(kept) / len(kept) - self.inner(kept)).sum()
        return _ratio(self.signal(kept), noise, self.rows[kept].sum(-1).mean())

    def ratio_by_bin(self, kept: Tensor) -> Tensor:
        """The same of the sequences of each bin by themselves: ``[J]``."""
        signal = self.inner(kept).diagonal()
        return _ratio(signal, self.noise_by_bin(kept), self.rows[kept].mean(0))


def _ratio(signal: Tensor, noise: Tensor, rows: Tensor) -> Tensor:
    """A batch of so many sequences has 1/rows of the noise of one; 0 where there is no noise."""
    return torch.where(noise > 0, signal / (rows * noise).clamp(min=1e-300), 0.0)


def cosine(first: Tensor, second: Tensor, cross: Tensor, kept: Tensor, others: Tensor) -> Tensor:
    """The cosine between the true gradients of two methods; NaN where a norm comes out below 0.

    Args:
        first, second: ``[R, R]`` and ``[S, S]``, the inner products within each, of whole batches.
        cross: ``[R, S]``, those of the one with the other; independent.
        kept, others: the batches of each that are looked at.
    """
    norms = between(first, kept) * between(second, others)
    return cross[kept][:, others].mean() / norms.sqrt()


def between(gram: Tensor, kept: Tensor) -> Tensor:
    """The squared norm of the true gradient, from ``gram [R, R]``: the mean over different batches.

    Args:
        gram: inner products.
        kept: ``[n]``, the batches that are looked at.
    """
    some, count = gram[kept][:, kept], len(kept)
    return (some.sum() - some.diagonal().sum()) / (count * (count - 1))
