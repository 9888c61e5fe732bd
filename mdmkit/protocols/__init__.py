"""The contracts of every extension point, as types.

A hook returns *options classes*: frozen, keyword-only attrs classes whose fields are what a
recipe may set. A stateless component *is* its options object (schedule, time sampler without
memory, mask pattern, weighting, corpus). A component that has state, or needs facts of the run,
has ``build(...)``, which returns the live object; a live object with state also implements
``torch.distributed.checkpoint.stateful.Stateful`` and is checkpointed.

The contracts in words stand in `mdmkit.hookspecs`; the symbols are those of `mdmkit.values`.
Nothing here imports torch at run time.
"""

from __future__ import annotations

from mdmkit.protocols.learning import (
    CachingDenoiser,
    Checked,
    Denoiser,
    DenoiserOptions,
    Draws,
    Objective,
    ObjectiveContext,
    ObjectiveOptions,
    Prediction,
    Stratification,
)
from mdmkit.protocols.noise import (
    CountLaw,
    Density,
    LossWeighting,
    MaskPattern,
    NoiseSchedule,
    Normalizer,
    RunFacts,
    TimeSampler,
)
from mdmkit.protocols.outcome import (
    Evaluation,
    EvaluationContext,
    Evaluator,
    GenerateCall,
    GradientCall,
    NetworkCall,
    NetworkLogits,
    OtherRun,
    RunInfo,
    Sampler,
    SamplerContext,
    Subject,
    Tracker,
    Tracking,
)
from mdmkit.protocols.text import (
    BlockSource,
    Corpus,
    Split,
    Tokenizer,
)

__all__ = [
    "BlockSource",
    "CachingDenoiser",
    "Checked",
    "Corpus",
    "CountLaw",
    "Denoiser",
    "DenoiserOptions",
    "Density",
    "Draws",
    "Evaluation",
    "EvaluationContext",
    "Evaluator",
    "GenerateCall",
    "GradientCall",
    "LossWeighting",
    "MaskPattern",
    "NetworkCall",
    "NetworkLogits",
    "NoiseSchedule",
    "Normalizer",
    "Objective",
    "ObjectiveContext",
    "ObjectiveOptions",
    "OtherRun",
    "Prediction",
    "RunFacts",
    "RunInfo",
    "Sampler",
    "SamplerContext",
    "Split",
    "Stratification",
    "Subject",
    "TimeSampler",
    "Tokenizer",
    "Tracker",
    "Tracking",
]
