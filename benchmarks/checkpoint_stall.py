"""How long the loop is held up by a save: at once, and beside the training.

    python benchmarks/checkpoint_stall.py --out benchmarks/results/checkpoint_stall.json

A state of some 100M parameters with two moments of AdamW and an average (1.6 GB in float32) is
saved several times, while the main thread multiplies matrices as a stand-in for training. For each
number of saves that may be under way: how long `save` held the main thread (seconds, each call;
the first one also makes the buffers), how long a save takes from the call until it is on the disk,
and how many products a second the main thread made while a save was under way, against how many
it makes alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mdmkit.environment import environment
from mdmkit.recipe import Train
from mdmkit.training.distributed import World
from mdmkit.training.saving import Saver

PARAMETERS = 100_000_000
TENSORS = 100
SAVES = 4
WIDTH = 512


def state() -> dict[str, torch.Tensor]:
    """Weights, average and moments, as a job names them."""
    kinds = ("model", "ema", "optimizer/exp_avg", "optimizer/exp_avg_sq")
    size = (PARAMETERS // TENSORS // 1000, 1000)
    return {f"{kind}/{n}": torch.rand(size) for n in range(TENSORS) for kind in kinds}


def products(seconds: float, until: Any = None) -> float:
    """Matrix products a second, for so many seconds or until something is done."""
    matrix = torch.rand(WIDTH, WIDTH)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds and not (until is not None and until()):
        matrix @ matrix
        count += 1
    return count / (time.perf_counter() - begun)


def measure(in_flight: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What a run with that many saves under way sees."""
    held, whole, beside = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        options = Train(
            steps=SAVES, global_batch_size=1, checkpoints_in_flight=in_flight, keep_checkpoints=1
        )
        saver = Saver(Path(folder), options, World(device=torch.device("cpu")))
        for step in range(1, SAVES + 1):
            begun = time.perf_counter()
            saver.save(step, tensors, {})
            held.append(round(time.perf_counter() - begun, 3))
            if in_flight:
                beside.append(products(600, until=saver.idle))
            saver.settle()
            whole.append(round(time.perf_counter() - begun, 3))
        saver.close()
    found = {"checkpoints_in_flight": in_flight, "held_seconds": held, "whole_seconds": whole}
    if beside:
        found["products_per_second_beside"] = [round(speed, 1) for speed in beside]
    return found


def main() -> None:
    """Measure, and write or print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    tensors = state()
    bytes_saved = sum(tensor.nbytes for tensor in tensors.values())
    text = json.dumps(
        {
            "command": " ".join(["python", *sys.argv]),
            "load_average": round(os.getloadavg()[0], 1),  # what else the machine did
            "parameters": PARAMETERS,
            "bytes": bytes_saved,
            "products_per_second_alone": round(products(5.0), 1),
            "saves": [measure(in_flight, tensors) for in_flight in (0, 1)],
            "environment": environment(),
        },
        indent=2,
    )
    if out is None:
        print(text)
    else:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
