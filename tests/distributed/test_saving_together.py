"""Two ranks that save beside their main threads: nothing gets mixed up, and failures are shared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mdmkit.training.checkpoint import damage, steps_on_disk

pytestmark = pytest.mark.timeout(900)  # processes start slowly on a busy machine

SCRIPT = """
import json, os, resource, signal, sys, traceback
from pathlib import Path
import torch
import torch.distributed as dist
import torch.distributed.checkpoint
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
from mdmkit.errors import CheckpointError
from mdmkit.recipe import Train
from mdmkit.training.checkpoint import checkpoints_dir, load_checkpoint, step_name
from mdmkit.training.distributed import World
from mdmkit.training.saving import Saver

run = Path(sys.argv[1])

def live(rank):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    dist.init_process_group("gloo", init_method=f"file://{run}/store", rank=rank, world_size=2)
    world = World(rank=rank, size=2, device=torch.device("cpu"))
    mesh = init_device_mesh("cpu", (2,))
    sharded = distribute_tensor(torch.zeros(64, 64), mesh, [Shard(0)])
    state = {"sharded": sharded, "plain": torch.zeros(3)}
    options = Train(steps=9, global_batch_size=1, checkpoints_in_flight=2, keep_checkpoints=0)
    saver = Saver(run, options, world)
    for step in range(1, 5):
        state["plain"].fill_(step)
        sharded.to_local().fill_(step)
        saver.save(step, state, {})
        for number in range(50):  # the main threads talk while the others do
            assert world.sum(torch.tensor(float(number + rank))).item() == 2 * number + 1
    saver.settle()
    for step in range(1, 5):
        load_checkpoint(checkpoints_dir(run) / step_name(step), state, world=world)
        assert (sharded.to_local() == step).all() and (state["plain"] == step).all()
    if rank == 1:  # the disk of one rank is full
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    saver.save(5, state, {})
    told = None
    try:
        saver.settle()
    except CheckpointError as error:
        told = [str(error), error.everywhere]
    saver.close()
    dist.destroy_process_group()
    (run / f"told-{rank}").write_text(json.dumps(told))

ranks = []
for rank in range(2):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            live(rank)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    ranks.append(pid)
raise SystemExit(any(os.waitpid(pid, 0)[1] for pid in ranks))
"""


def test_two_ranks_save_beside_their_main_threads(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads((tmp_path / f"told-{rank}").read_text()) for rank in range(2)]
    assert told[0] == told[1]
    message, everywhere = told[0]
    assert "step-00000005: cannot be saved (" in message
    assert "the checkpoint of step 4 is kept" in message
    assert everywhere
    assert steps_on_disk(tmp_path) == [1, 2, 3, 4]
    folder = tmp_path / "checkpoints"
    assert not list(folder.glob(".tmp-*"))
    assert [damage(path) for path in sorted(folder.iterdir())] == [None] * 4
