"""Weights of the masked cross-entropies, and what their sum is divided by.

What a training loss with t ~ q then minimises, per token, with h(r) the mean cross-entropy of a
masked token at mask ratio r, and the linear schedule (t = r):

=============================  ================================================
``elbo``, tokens               ∫ h(t) dt: the NELBO, unbiased
``inverse_t``, tokens          ∫ q(t)·h(t) dt
``flat``, tokens               ∫ q(t)·t·h(t) dt
``flat``, masked               the same ÷ E_q[t] (a ratio estimator)
``flat``, sequence             ∫ q(t)·E[h_k | k ~ Bin(L, t)] dt
``power``, tokens              ∫ q(t)·t^(k + 1)·h(t) dt
``clipped``, tokens            ∫ t·clip(1/t, min, max)·h(t) dt
``sigmoid``, tokens            ∫ c·t/(1 − t + c·t)·h(t) dt, c = e^b
``annealed``, tokens           ∫ ((1 − a)·t·q_bell(t)/Z + a)·h(t) dt
=============================  ================================================

``locality`` weighs each token by its distance to what is visible: h(r) is then a mean weighted so.
"""

from __future__ import annotations

from collections.abc import Mapping

from mdmkit.builtin.weightings.annealed import Annealed
from mdmkit.builtin.weightings.locality import Locality
from mdmkit.builtin.weightings.plain import Elbo, Flat, InverseT
from mdmkit.builtin.weightings.shaped import Clipped, Power, Sigmoid
from mdmkit.hookspecs import hookimpl

__all__ = [
    "Annealed",
    "Clipped",
    "Elbo",
    "Flat",
    "InverseT",
    "Locality",
    "Power",
    "Sigmoid",
    "mdmkit_loss_weightings",
]


@hookimpl
def mdmkit_loss_weightings() -> Mapping[str, type]:
    """The loss weightings of this package."""
    return {
        "elbo": Elbo,
        "inverse_t": InverseT,
        "flat": Flat,
        "power": Power,
        "clipped": Clipped,
        "sigmoid": Sigmoid,
        "annealed": Annealed,
        "locality": Locality,
    }
