"""Two processes that evaluate together find what one finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

WORKER = """
import json, os, sys
import torch, torch.distributed as dist

torch.set_num_threads(1)
from mdmkit.builtin.evaluators import Nelbo
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.testing.surroundings import evaluation_context

rank, size, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if size > 1:
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=size)
found = run_evaluation(Nelbo(draws=3), evaluation_context(rank=rank, world_size=size))
print(json.dumps(found.to_json()))
if size > 1:
    dist.destroy_process_group()
"""


def evaluate(size: int, place: Path) -> list[dict]:
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, str(rank), str(size), str(place)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * size
    return [json.loads(output) for output in outputs]


def test_two_ranks_find_what_one_finds(tmp_path):
    (alone,) = evaluate(1, tmp_path / "one")
    both = evaluate(2, tmp_path / "two")
    assert both[0] == both[1]
    for name, number in alone["measurements"].items():
        found = both[0]["measurements"][name]
        assert abs(found["value"] - number["value"]) < 1e-6 * number["value"]
        assert abs(found["stderr"] - number["stderr"]) < 1e-5 * number["stderr"]
    assert alone["provenance"]["tokens_scored"] == both[0]["provenance"]["tokens_scored"]
