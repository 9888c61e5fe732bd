"""Is a method no worse than the baseline by more than a margin? A one-sided test.

The difference of two ratios Σ nats / Σ tokens on the same blocks. Its variance has a part over
clusters of blocks (documents), from the residuals of the difference, and a part over seeds, from
the seeds' own differences. Each part holds the variation of a single seed on a single document
once, so their sum counts that twice, which errs on the side of a larger variance. The sum has the
degrees of freedom of Satterthwaite (Biometrics Bulletin 2, 1946), and the bound is one of Student's
t; where two or three seeds decide, that is a little too low.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen

from mdmkit.comparison.comparable import Ground
from mdmkit.comparison.method_curves import pairing
from mdmkit.comparison.resampling import cluster_sums, one_sided_quantile
from mdmkit.comparison.runs import LoadedRun
from mdmkit.comparison.smoothing import Floats


@frozen(kw_only=True)
class Difference:
    """The final NELBO of a method less that of the baseline, in nats per token.

    Attributes:
        part: ``all`` blocks, or which mask ratios.
        value: negative where the method is better.
        stderr: over documents and seeds.
        document_stderr, seed_stderr: its two parts; the second is 0 where no method has two
            seeds, and then says nothing of them.
        degrees: of freedom of `stderr`.
        upper: one-sided 95% bound of the difference.
        shown: whether the bound is below the margin; None where there is no bound.
        paired: whether the seeds were compared one by one.
    """

    part: str
    value: float
    stderr: float
    document_stderr: float
    seed_stderr: float
    degrees: float
    upper: float | None
    shown: bool | None
    paired: bool


def differences(
    method: Sequence[LoadedRun],
    baseline: Sequence[LoadedRun],
    *,
    places: tuple[Sequence[int], Sequence[int]],
    ground: Ground,
    margin: float,
    bins: int,
) -> list[Difference]:
    """The difference over all blocks and, where both have masks, by mask ratio.

    Args:
        method, baseline: their runs, by rising seed.
        places: which validation of each run is compared.
        ground: the blocks and clusters that all runs share.
        margin: nats per token.
        bins: equal bins of the mask ratio.
    """
    sides = [
        [run.nats[place] for run, place in zip(runs, where, strict=True)]
        for runs, where in zip((method, baseline), places, strict=True)
    ]
    paired = len(method) > 1 and pairing(method) == pairing(baseline)
    tokens = ground.tokens[:, None]

    def one(part: str, use: Floats | None) -> Difference:
        own, other = (
            cluster_sums(
                np.stack([(run if use is None else run * use).mean(-1) for run in side]),
                ground.cluster,
                ground.clusters,
            )
            for side in sides
        )
        counted = tokens if use is None else (tokens * use).mean(-1, keepdims=True)
        scored = cluster_sums(counted.T, ground.cluster, ground.clusters)[0]
        return compare_sums(part, own, other, scored, paired=paired, margin=margin)

    found = [one("all", None)]
    if not any(run.exact for run in (*method, *baseline)):
        ratio = method[0].table.masked / method[0].table.tokens
        edges = np.linspace(0, 1, bins + 1)
        number = np.clip(np.ceil(ratio * bins).astype(int) - 1, 0, bins - 1)
        for index in range(bins):
            inside = (number == index).astype(np.float64)
            if inside.any():
                found.append(one(f"{edges[index]:.3g} to {edges[index + 1]:.3g}", inside))
    return found


def compare_sums(
    part: str, own: Floats, other: Floats, tokens: Floats, *, paired: bool, margin: float
) -> Difference:
    """The difference from sums by cluster.

    Args:
        part: which part of the validation this is.
        own, other: ``[S, D]`` nats of each seed and cluster; S may differ between the two.
        tokens: ``[D]``, of each cluster; those without any do not count.
        paired: whether seed i of the one belongs to seed i of the other.
        margin: nats per token.
    """
    there = tokens > 0
    own, other, tokens = own[:, there], other[:, there], tokens[there]
    total, clusters = tokens.sum(), len(tokens)
    by_seed, by_other = own.sum(-1) / total, other.sum(-1) / total
    value = float(by_seed.mean() - by_other.mean())
    residuals = own.mean(0) - other.mean(0) - value * tokens
    components: list[tuple[float, float]] = []  # variance, degrees of freedom
    if clusters > 1:
        of_documents = (residuals**2).sum() * clusters / (clusters - 1) / total**2
        components.append((float(of_documents), clusters - 1))
    samples = [by_seed - by_other] if paired else [by_seed, by_other]
    seeds = [(float(s.var(ddof=1)) / len(s), len(s) - 1) for s in samples if len(s) > 1]
    variance = sum(v for v, _ in (*components, *seeds))
    lumps = sum(v**2 / n for v, n in (*components, *seeds))
    degrees = max(variance**2 / lumps, 1.0) if lumps > 0 else float(max(clusters - 1, 1))
    upper = value + one_sided_quantile(degrees) * variance**0.5 if clusters > 1 else None
    return Difference(
        part=part,
        value=value,
        stderr=variance**0.5,
        document_stderr=sum(v for v, _ in components) ** 0.5,
        seed_stderr=sum(v for v, _ in seeds) ** 0.5,
        degrees=degrees,
        upper=upper,
        shown=None if upper is None else upper < margin,
        paired=paired,
    )
