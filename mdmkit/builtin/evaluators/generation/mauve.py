"""MAUVE: how alike generated and real text are to a judge's eyes."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from statistics import fmean, variance
from typing import Any, ClassVar

import torch
from attrs import field, frozen
from torch import Tensor

from mdmkit.builtin.evaluators.generation.judge import LiveJudge, filled, retokenized
from mdmkit.builtin.evaluators.generation.mauve_curve import combined_error, sampling_variance
from mdmkit.builtin.evaluators.generation.options import Generating, TextMaker
from mdmkit.errors import MissingPackageError
from mdmkit.options import option
from mdmkit.protocols import EvaluationContext
from mdmkit.values import Measurement


@frozen(kw_only=True)
class Mauve(Generating):
    """MAUVE (Pillutla et al. 2021, arXiv 2102.01454): 1 where text is as real text is, else less.

    A text is a point, the judge's last hidden state behind it. Generated and real points are
    clustered together by k-means, and their shares of the clusters compared. The package
    ``mauve-text`` does it: ``pip install 'mdmkit[mauve]'``. The value depends on ``n``, on the
    length and on the judge: compare like with like, and with thousands of texts.
    """

    chief: ClassVar[tuple[str, ...]] = ("mauve",)

    n: int = option(1000, ge=20, doc="texts that are generated, and real ones at most")
    seeds: int = option(5, ge=1, doc="clusterings that MAUVE is the mean of")
    buckets: int = option(0, ge=0, doc="clusters; 0: a tenth of the texts of a kind")

    def build(self, context: EvaluationContext) -> LiveMauve:
        """Open the split and the judge.

        Raises:
            MissingPackageError: without the package ``mauve-text``.
            RecipeError: for options that do not fit, and where no judge can be made of them.
            DataError: where the split has fewer than two texts, or a model cannot be had.
            CheckpointError: where the run that judges cannot be read.
        """
        if find_spec("mauve") is None:
            raise MissingPackageError("mauve", "mauve-text", extra="mauve")
        texts = TextMaker.of(self, context, name="mauve")
        return LiveMauve(options=self, texts=texts, judge=self.judge.open(context))


@frozen(kw_only=True, eq=False)
class LiveMauve:
    """`Mauve` on one network, made by its ``build``.

    Attributes:
        generated, real: features so far, ``[B, D]`` each.
        empty: how many generated texts had no token.
    """

    options: Mauve
    texts: TextMaker
    judge: LiveJudge
    generated: list[Tensor] = field(factory=list)
    real: list[Tensor] = field(factory=list)
    empty: list[int] = field(factory=list)

    def __len__(self) -> int:
        """Batches of generated and of real texts."""
        return len(self.texts)

    def update(self, index: int) -> None:
        """Make a batch of texts, and their points."""
        texts, calls = self.texts.batch(index)
        most = None if self.judge.context is None else self.judge.context - 1
        rows = [row[:most] for row in retokenized(self.judge, texts)]
        counts = torch.tensor([len(row) for row in rows])
        points = self.judge.features(filled(rows, self.judge.fill_id), counts)
        (self.real if calls is None else self.generated).append(points)
        if calls is not None:
            self.empty.append(int((counts == 0).sum()))

    def compute(self) -> dict[str, Measurement]:
        """The mean over the seeds of k-means."""
        from mauve import compute_mauve  # brings faiss and scikit-learn

        real, generated = torch.cat(self.real), torch.cat(self.generated)
        counts = (len(real), len(generated))
        values, within = [], []
        for number in range(self.options.seeds):
            found = compute_mauve(
                p_features=real.numpy(),
                q_features=generated.numpy(),
                num_buckets=self.buckets,
                seed=self.texts.context.seed + number,
                verbose=False,
            )
            values.append(float(found.mauve))
            p, q = torch.from_numpy(found.p_hist), torch.from_numpy(found.q_hist)
            within.append(sampling_variance(p, q, counts, number))
        between = variance(values) if len(values) > 1 else 0.0
        error, drawn = combined_error(between, fmean(within), len(values))
        return {"mauve": Measurement(value=fmean(values), stderr=error, draws_stderr=drawn)}

    @property
    def buckets(self) -> int:
        """Clusters: as the package has it by itself, a tenth of the fewer texts."""
        fewer = min(self.options.n, len(self.texts.starts))
        return self.options.buckets or max(2, round(fewer / 10))

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Who judged what, and what the errors are."""
        return {
            **self.texts.provenance,
            "judge": dict(self.judge.provenance),
            "features": "the judge's last hidden state after the last token, its start token in "
            "front; a text that is longer than its context is cut",
            "empty_texts": sum(self.empty),
            "buckets": self.buckets,
            "seeds": self.options.seeds,
            "stderr": "over texts, by a bootstrap of the histograms with the clusters fixed, and "
            "over seeds of k-means; MAUVE is biased downwards by few texts, which no error shows",
            "draws_stderr": "over seeds of k-means",
        }
