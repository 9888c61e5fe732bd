"""kill -9 at any moment of a save: what is left is whole, and of the step that it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from mdmkit.training.checkpoint import last_checkpoint, load_checkpoint
from mdmkit.training.distributed import World

KILLS = 20

# The parent imports once, forks a child for every kill, and has no thread of its own. A child goes
# on from the last whole checkpoint, like a run, and then does nothing but save.
SCRIPT = """
import json, os, random, signal, sys, time, traceback
from pathlib import Path
import torch
from mdmkit.recipe import Train
from mdmkit.training.checkpoint import last_checkpoint, load_checkpoint
from mdmkit.training.distributed import World
from mdmkit.training.saving import Saver

run, kills = Path(sys.argv[1]), int(sys.argv[2])
world = World(device=torch.device("cpu"))

def state(step):
    return {"model/weight": torch.full((128, 1024), float(step)), "window": torch.full((8,), step)}

def live(in_flight, begun):
    said, tensors, step = [], state(0), 0
    path = last_checkpoint(run, said.append)
    if path is not None:
        step = load_checkpoint(path, tensors, world=world)["step"]
    wrong = [name for name, tensor in tensors.items() if (tensor != step).any()]
    if said or wrong:
        raise SystemExit(f"step {step}: {said} {wrong}")
    os.write(begun, step.to_bytes(4, "big"))
    options = Train(steps=9, global_batch_size=1, checkpoints_in_flight=in_flight, keep_every=10)
    saver = Saver(run, options, world)
    while True:
        step += 1
        for name, tensor in state(step).items():
            tensors[name].copy_(tensor)
        saver.save(step, tensors, {})

# How long a save takes here, so that a kill falls into it on any disk.
warm = Saver(run, Train(steps=9, global_batch_size=1, checkpoints_in_flight=0), world)
warm.save(1, state(1), {})  # imports what it needs
start = time.monotonic()
warm.save(2, state(2), {})
window = max(3 * (time.monotonic() - start), 0.15)
warm.close()

draw, steps, leftovers = random.Random(1), [], 0
for kill in range(kills):
    begun, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            live(kill % 3, end)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(1)
    os.close(end)
    steps.append(int.from_bytes(os.read(begun, 4), "big"))
    time.sleep(draw.uniform(0, window))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        raise SystemExit(f"child {kill} failed")
    os.close(begun)
    leftovers += any(path.name.startswith(".tmp-") for path in (run / "checkpoints").glob(".tmp-*"))
print(json.dumps({"steps": steps, "leftovers": leftovers}))
"""


def test_a_kill_at_any_moment_of_a_save_leaves_the_last_whole_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path), str(KILLS)],
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert len(told["steps"]) == KILLS
    assert told["steps"] == sorted(told["steps"])  # no run goes back behind what it had
    assert told["leftovers"] >= 1  # kills did hit in the middle of saves
    said: list[str] = []
    path = last_checkpoint(tmp_path, said.append)
    assert path is not None
    assert said == []
    tensors = {"model/weight": torch.zeros(128, 1024), "window": torch.zeros(8, dtype=torch.int64)}
    step = load_checkpoint(path, tensors, world=World(device=torch.device("cpu")))["step"]
    assert step >= told["steps"][-1]
    assert all((tensor == step).all() for tensor in tensors.values())
