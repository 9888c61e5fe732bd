"""How fast samplers are, and how often they call the network.

    python benchmarks/sampling.py runs/quickstart_bell-... runs/quickstart_ar-... > \
        benchmarks/results/sampling.json
    python benchmarks/sampling.py --random dit_small --rows 64 --length 1024 --device cuda --compile

Every sampler fills the same rows of masks. `seconds` is the median over the repeats, after one
that is not counted; `network_evaluations` counts calls of the whole batch, `rows_shown` the rows
of all calls together (a sampler may show the network only the rows that change). A network with
random weights is as fast as a trained one; only samplers that look at how sure it is take another
number of steps with it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import torch

from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.builtin.schedules import Linear
from mdmkit.environment import environment
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.run import open_trained
from mdmkit.generation import LiveGenerate
from mdmkit.network import InferenceCall, Root, choose_device
from mdmkit.protocols import Prediction
from mdmkit.recipe import load_recipe
from mdmkit.training.parallel import blocks_of, compile_blocks
from mdmkit.values import Generation, Vocabulary

MASKED = [
    {"use": "ancestral", "steps": 32},
    {"use": "ancestral", "steps": 128},
    {"use": "ancestral", "steps": 512},
    {"use": "cached", "steps": 32},
    {"use": "cached", "steps": 128},
    {"use": "cached", "steps": 512},
    {"use": "cached", "steps": 512, "rows": False},
    {"use": "first_hitting"},
    {"use": "first_hitting", "tokens_per_call": 4},
    {"use": "confidence", "steps": 32},
    {"use": "confidence", "rule": "entropy_bounded"},
    {"use": "semi_autoregressive", "block_length": 32, "sampler": {"use": "cached", "steps": 32}},
    {"use": "remask", "steps": 128},
]
LEFT_TO_RIGHT = [
    {"use": "autoregressive"},
    {"use": "autoregressive", "cache": False},
]
RANDOM = {
    "dit_small": (Dit(), 50258),
    "dit_tiny": (Dit(width=96, depth=3, heads=3, adaln=False, tied=True), 512),
}


def samplers(
    prediction: Prediction, only: list[str] | None, max_steps: int
) -> list[tuple[dict[str, Any], Any]]:
    """The tables, and the samplers that they make."""
    tables = MASKED if prediction == "masked" else LEFT_TO_RIGHT
    tables = [
        table
        for table in tables
        if (only is None or table["use"] in only) and table.get("steps", 0) <= max_steps
    ]
    recipe = "quickstart_bell" if prediction == "masked" else "quickstart_ar"
    return [(table, load_recipe(recipe, overrides("sampler", table)).sampler) for table in tables]


def overrides(path: str, table: dict[str, Any]) -> list[str]:
    """A table as ``--set`` has it, key by key."""
    found: list[str] = []
    for key, value in table.items():
        inner = f"{path}.{key}"
        found += (
            overrides(inner, value) if isinstance(value, dict) else [f"{inner}={json.dumps(value)}"]
        )
    return found


def random_network(name: str, options: argparse.Namespace) -> LiveGenerate:
    """A network without training."""
    denoiser, size = RANDOM[name]
    device = choose_device(options.device)
    torch.manual_seed(0)
    root = Root(denoiser.build(Vocabulary(size=size, mask_id=size - 1))).to(device)
    if options.compile:
        compile_blocks(blocks_of(root.denoiser))
    return LiveGenerate(
        call=InferenceCall(root, device, options.dtype),
        vocab=Vocabulary(size=size, mask_id=size - 1),
        noise_schedule=Linear(),
        length=options.length,
        device=device,
        supports=denoiser.supports,
    )


class Counting:
    """A `NetworkCall` that counts the rows it is shown."""

    def __init__(self, call: Any) -> None:
        self.call, self.rows = call, 0

    def __call__(self, function: Any) -> Any:
        return self.call(lambda denoiser: function(_Counted(denoiser, self)))


class _Counted:
    def __init__(self, denoiser: Any, counting: Counting) -> None:
        self.denoiser, self.counting = denoiser, counting
        self.unembed = denoiser.unembed
        self.new_cache = getattr(denoiser, "new_cache", None)

    def __call__(self, tokens: torch.Tensor, **how: Any) -> torch.Tensor:
        self.counting.rows += len(tokens)
        return self.denoiser(tokens, **how)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(generate: LiveGenerate, sampler: Any, options: argparse.Namespace) -> dict[str, Any]:
    counting = Counting(generate.call)
    counted = attrs.evolve(generate, call=counting)
    start = torch.full((options.rows, options.length), generate.vocab.mask_id)
    seconds: list[float] = []
    for repeat in range(options.repeats + 1):
        counting.rows = 0
        wait(generate.device)
        begun = time.perf_counter()
        state = Generation.last_of(counted(sampler, start, rows=range(options.rows), seed=0))
        wait(generate.device)
        if repeat:
            seconds.append(time.perf_counter() - begun)
    return {
        "network_evaluations": state.network_evaluations,
        "rows_shown": counting.rows,
        "steps": state.step,
        "seconds": statistics.median(seconds),
        "seconds_of_each": seconds,
        "tokens_per_second": options.rows * options.length / statistics.median(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--random", choices=RANDOM, action="append", default=[])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--max-steps", type=int, default=10_000, help="leave out those with more")
    parser.add_argument("--only", nargs="*", help="names of samplers")
    options = parser.parse_args()
    networks: list[tuple[str, Prediction, LiveGenerate]] = []
    for directory in options.runs:
        opened = open_trained(find_run(directory), device=options.device, precision=options.dtype)
        if options.compile and opened.recipe.objective.prediction == "masked":
            compile_blocks(blocks_of(opened.call.root.denoiser))
        prediction = opened.recipe.objective.prediction
        networks.append((opened.recipe.run.name, prediction, opened.generate))
    for name in options.random:
        generate = random_network(name, options)
        networks += [(name, "masked", generate), (name, "next_token", generate)]
    found = []
    for name, prediction, generate in networks:
        for table, sampler in samplers(prediction, options.only, options.max_steps):
            result = {"network": name, "sampler": table, **timed(generate, sampler, options)}
            print(json.dumps(result), file=sys.stderr, flush=True)
            found.append(result)
    plain = {
        "command": " ".join(
            ["python", "benchmarks/sampling.py"]
            + [Path(word).name if Path(word) in options.runs else word for word in sys.argv[1:]]
        ),
        "options": {
            key: value for key, value in vars(options).items() if key not in ("runs", "only")
        },
        "environment": environment(choose_device(options.device)),
        "results": found,
    }
    print(json.dumps(plain, indent=1))


if __name__ == "__main__":
    main()
