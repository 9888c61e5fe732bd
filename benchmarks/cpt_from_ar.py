"""Whether a masked diffusion model learns sooner from an autoregressive one than from nothing.

    python benchmarks/cpt_from_ar.py measure               # a few minutes on a CPU core
    python benchmarks/cpt_from_ar.py measure --size small --device cuda
    python benchmarks/cpt_from_ar.py table

``measure`` needs the plugin mdmkit-hf. It trains a small Llama on the next token, saves it as
``transformers`` does, and trains on from the folder with bell-shaped time sampling: with attention
open at once or opened over the first half of the steps, with and without the shift. Beside these
the same network learns from random weights, for as many steps, and for as many as both trainings
have together. All see the same text with the same batch, learning rate and seed. It writes
``benchmarks/results/cpt_from_ar_<size>.json`` after every run; a run that is finished is not made
again. ``table`` prints that file as Markdown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from attrs import asdict, frozen

import mdmkit
from mdmkit.files import write_json
from mdmkit.metrics_log import read_metrics

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
VALUE, ERROR = "val/nelbo_per_token", "val/nelbo_per_token_stderr"


@frozen(kw_only=True)
class Size:
    """A network, a batch and two trainings.

    Attributes:
        width, depth, heads: of the Llama; its MLP is 8/3 as wide, rounded to 32.
        vocab_size, length, batch: V, L and rows a step.
        before, after: steps of next-token prediction, and of masked diffusion.
        peak: learning rate of both.
    """

    width: int
    depth: int
    heads: int
    vocab_size: int
    length: int
    batch: int
    before: int
    after: int
    peak: float


SIZES = {
    "tiny": Size(
        width=64,
        depth=2,
        heads=2,
        vocab_size=512,
        length=64,
        batch=16,
        before=400,
        after=200,
        peak=2e-3,
    ),
    "small": Size(
        width=384,
        depth=6,
        heads=6,
        vocab_size=2048,
        length=256,
        batch=64,
        before=2000,
        after=1000,
        peak=1e-3,
    ),
}

RECIPE = """
extends = "quickstart_bell"

[run]
name = "{name}"

[data]
length = {length}

[train]
global_batch_size = {batch}
validate_every = {every}
validate_blocks = 128
checkpoint_every = 0

[learning_rate]
peak = {peak}
shape = "wsd"
warmup_steps = {warmup}

[evaluators.test]
use = "nelbo"
split = "test"
blocks = 1024
draws = 2
"""

LLAMA = """
[denoiser]
use = "transformers"
architecture = "llama"

[denoiser.config]
hidden_size = {width}
intermediate_size = {hidden}
num_hidden_layers = {depth}
num_attention_heads = {heads}
num_key_value_heads = {heads}
max_position_embeddings = {length}
"""

NEXT_TOKEN = """
[objective]
use = "autoregressive"
[sampler]
use = "autoregressive"
[time_sampler]
use = "uniform"
[loss_weighting]
use = "elbo"
"""

FROM_FOLDER = """
[denoiser]
use = "transformers"
pretrained = "{folder}"
shift = {shift}
"""

OPENING = """
[objective]
use = "opening_attention"
steps = {opened}
"""


def recipes(size: Size, folder: Path) -> Iterator[tuple[str, str, int]]:
    """Name, recipe and steps of everything that is trained, in order."""
    facts = asdict(size) | {
        "every": max(size.after // 10, 1),
        "warmup": max(size.after // 20, 1),
        "hidden": -(-8 * size.width // 96) * 32,
        "opened": size.after // 2,
        "folder": folder,
    }
    text = f'[data.tokenizer]\nuse = "bpe"\nvocab_size = {size.vocab_size}\n'

    def whole(name: str, *parts: str, **more: Any) -> tuple[str, str]:
        return name, "".join((RECIPE, text, *parts)).format(**facts, name=name, **more)

    yield *whole("autoregressive", LLAMA, NEXT_TOKEN), size.before
    yield *whole("scratch", LLAMA), size.after
    yield *whole("scratch_as_long", LLAMA), size.before + size.after
    for shift in (False, True):
        name = "from_ar_shift" if shift else "from_ar"
        lower = str(shift).lower()
        yield *whole(name, FROM_FOLDER, shift=lower), size.after
        yield *whole(f"{name}_opening", FROM_FOLDER, OPENING, shift=lower), size.after


def measure(size_name: str, seeds: list[int], device: str, runs_dir: Path) -> None:
    """Train everything and keep what came of it."""
    size, path = SIZES[size_name], RESULTS / f"cpt_from_ar_{size_name}.json"
    torch.set_float32_matmul_precision("high")
    found: list[Mapping[str, Any]] = []
    for seed in seeds:
        folder = runs_dir.resolve() / f"llama-{size_name}-{seed}"
        for name, text, steps in recipes(size, folder):
            recipe_file = runs_dir / f"{name}.toml"
            recipe_file.write_text(text, encoding="utf-8")
            changes = [f"run.seed={seed}", f"train.steps={steps}"]
            began = time.perf_counter()
            recipe = mdmkit.load_recipe(recipe_file, changes)
            run = mdmkit.train(recipe, runs_dir=runs_dir, device=device).directory
            if name == "autoregressive":
                save_inner(run, folder)
            found.append(outcome(name, run) | {"seed": seed, "steps": steps})
            last = found[-1]["test"]["nelbo_per_token"]
            print(f"{name:24} seed {seed}  {steps:6d} steps  test {last['value']:.4f} nats/token  "
                  f"{time.perf_counter() - began:.0f} s", flush=True)  # fmt: skip
            write_json(
                path,
                {
                    "size": asdict(size),
                    "machine": torch.cuda.get_device_name() if device == "cuda" else "cpu",
                    "versions": {
                        "mdmkit": mdmkit.__version__,
                        "torch": torch.__version__,
                        "transformers": transformers.__version__,
                    },
                    "runs": found,
                },
            )


def save_inner(run: Path, folder: Path) -> None:
    """The network of a run, as ``transformers`` saves its own; its averaged weights."""
    if folder.exists():
        shutil.rmtree(folder)

    def save(denoiser: Any) -> torch.Tensor:
        denoiser.inner.save_pretrained(folder)
        return torch.zeros(())

    mdmkit.open_run(run, device="cpu").call(save)


def outcome(name: str, run: Path) -> dict[str, Any]:
    """What a run left: its validation curve, and its number on the test split."""
    lines = read_metrics(run / "metrics.jsonl")
    test = json.loads((run / "eval" / "test.json").read_text(encoding="utf-8"))
    return {
        "name": name,
        "run": run.name,
        "seconds": lines[-1]["seconds"],
        "validation": [[x["step"], x[VALUE], x[ERROR]] for x in lines if VALUE in x],
        "test": test["measurements"],
        "provenance": test["provenance"],
    }


def table(size_name: str) -> None:
    """Print what was measured, as Markdown."""
    stored = json.loads((RESULTS / f"cpt_from_ar_{size_name}.json").read_text(encoding="utf-8"))
    print(f"On {stored['machine']}, nats per token of the test split ± standard error:\n")
    print("| run | seed | steps | at the start | half-way | at the end, test |")
    print("|---|---|---|---|---|---|")
    for run in stored["runs"]:
        curve, test = run["validation"], run["test"]["nelbo_per_token"]
        print(
            f"| `{run['name']}` | {run['seed']} | {run['steps']} | {curve[0][1]:.3f} | "
            f"{curve[len(curve) // 2][1]:.3f} | {test['value']:.3f} ± {test['stderr']:.3f} |"
        )


def main() -> None:
    """The commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    measuring, printing = commands.add_parser("measure"), commands.add_parser("table")
    for command in (measuring, printing):
        command.add_argument("--size", choices=SIZES, default="tiny")
    measuring.add_argument("--seeds", type=int, nargs="+", default=[1])
    measuring.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    measuring.add_argument("--runs-dir", type=Path, default=Path("runs/cpt_from_ar"))
    arguments = parser.parse_args()
    if arguments.command == "table":
        table(arguments.size)
        return
    arguments.runs_dir.mkdir(parents=True, exist_ok=True)
    measure(arguments.size, arguments.seeds, arguments.device, arguments.runs_dir)


if __name__ == "__main__":
    main()
