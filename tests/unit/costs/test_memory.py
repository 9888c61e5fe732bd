"""Bytes that are counted against the tensors of a real job, and sums against closed forms."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch

from mdmkit.costs.dry import dry_objective
from mdmkit.costs.fitting import first_remedy, largest_micro_batch
from mdmkit.costs.gpus import GPUS, Gpu, find_gpu
from mdmkit.costs.memory import Memory
from mdmkit.costs.plan import USABLE, Planner, planner_of
from mdmkit.costs.vocabulary import vocab_size_of
from mdmkit.errors import DataError, RecipeError
from mdmkit.network import autocast
from mdmkit.recipe import load_recipe
from mdmkit.report.console import quiet
from mdmkit.training.distributed import World
from mdmkit.training.job import open_job

V = 300
SMALL = [
    "data.length=64", "denoiser.width=32", "denoiser.depth=3", "denoiser.heads=2",
    "denoiser.tied=false",
]  # fmt: skip


def planner(*more: str, gpus: int = 1, memory: float = 80e9, **how) -> Planner:
    recipe = load_recipe("quickstart_bell", [*SMALL, *more])
    gpu = Gpu(name="some", tflops=100.0, memory=memory)
    return planner_of(recipe, V, gpu, gpus=gpus, **how)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_weights"])
def test_a_job_has_the_bytes_that_are_counted(tiny_recipe: Path, tmp_path: Path, precision):
    recipe = load_recipe(tiny_recipe, [f"train.precision={precision}"])
    world = World(device=torch.device("cpu"))
    with open_job(recipe, tmp_path, world, quiet()) as job:
        planned = planner_of(recipe, job.tokenizer.vocab.size, GPUS["h100"])
        moments = [state[key] for state in job.optimizer.state.values()
                   for key in ("exp_avg", "exp_avg_sq")]  # fmt: skip
        noised = dry_objective(recipe, job.tokenizer.vocab.size).corrupted(8)
        with autocast(world.device, precision):
            loss = job.live.objective.loss(job.root.denoiser, noised)
        loss.total.backward()
        real = {
            "weights": list(job.root.parameters()),
            "optimizer": moments,
            "average": list(job.ema.average.values()),
            "gradients": [parameter.grad for parameter in job.root.parameters()],
        }
        found = {name: sum(tensor.nbytes for tensor in real[name]) for name in real}
    memory = attrs.asdict(planned.changed(accumulation=2).memory)
    gradients = memory.pop("gradients")
    assert found["gradients"] <= gradients <= found["gradients"] + 512 * len(real["gradients"])
    assert {name: memory[name] for name in real if name != "gradients"} == {
        name: octets for name, octets in found.items() if name != "gradients"
    }


def test_parts_that_are_spread_are_divided_by_the_shards():
    whole, shared = planner().memory, planner(gpus=4).memory
    weights = 4 * planner().parameters.total
    assert whole.weights == weights
    assert (whole.gathered, whole.sums) == (0, 0)
    for part in ("weights", "average"):
        assert getattr(shared, part) == pytest.approx(weights / 4, abs=4)
    assert shared.optimizer == pytest.approx(2 * weights / 4, abs=8)
    assert shared.total == sum(attrs.asdict(shared).values())


def test_what_fsdp_gathers_and_sums():
    base = planner(gpus=4)
    counts = base.parameters
    block, rest = counts.blocks // 3, counts.total - counts.blocks
    assert base.memory.gathered == 4 * (rest + 3 * block)
    assert base.memory.sums == 4 * (rest + block) + 4 * 2 * block
    kept = base.changed(reshard=False).memory
    assert kept.gathered == 4 * (rest + 3 * block + block)
    accumulated = base.changed(accumulation=4, rows=2).memory
    assert accumulated.sums == 4 * (counts.total + 2 * block)
    narrow = base.changed(used=torch.bfloat16, reduced=torch.float32).memory
    assert narrow.gathered == base.memory.gathered // 2
    assert narrow.sums == 2 * (rest + block) + 4 * 2 * block
    assert narrow.casts < base.memory.casts / 10  # weights that are used as they are


def test_ddp_has_everything_everywhere_and_offload_nothing():
    base = planner(gpus=4)
    ddp = base.changed(shards=1)
    assert (base.setup.mode, ddp.setup.mode) == ("fsdp", "ddp")
    assert ddp.memory.weights == 4 * base.parameters.total
    away = base.changed(offloaded=True).memory
    assert (away.weights, away.optimizer, away.average, away.gradients) == (0, 0, 0, 0)
    assert away.gathered == base.memory.gathered


@pytest.mark.parametrize(
    ("options", "mode", "shards"),
    [
        (["mode=ddp"], "ddp", 1),
        (["mode=fsdp"], "fsdp", 16),
        (["mode=hsdp"], "hsdp", 8),
        (["mode=hsdp", "shard_size=4"], "hsdp", 4),
        ([], "hsdp", 8),  # two machines of 8
    ],
)
def test_the_layout_is_that_of_the_recipe(options, mode, shards):
    more = [f"parallel.{option}" for option in options]
    setup = planner(*more, gpus=16).setup
    assert (setup.mode, setup.shards) == (mode, shards)


def test_the_setup_is_that_of_the_recipe():
    options = [
        "param_dtype=bf16", "reduce_dtype=fp32", "reshard_after_forward=false",
        "activation_checkpointing=full", "compile=true", "cpu_offload=true",
    ]  # fmt: skip
    more = [f"parallel.{option}" for option in options]
    setup = planner(*more, "train.micro_batch_size=4", gpus=2).setup
    assert (setup.weights, setup.used, setup.reduced) == (
        torch.float32, torch.bfloat16, torch.float32,
    )  # fmt: skip
    assert (setup.rows, setup.accumulation, setup.checkpointing) == (4, 4, "full")
    assert (setup.reshard, setup.compiled, setup.offloaded) == (False, True, True)


def test_what_crosses_between_gpus_in_a_step():
    base = planner(gpus=4, gpus_per_node=4)
    total = 4 * base.parameters.total
    traffic = base.traffic
    assert traffic.gathered == int(2 * 3 / 4 * total)  # forward and backward
    assert traffic.scattered == int(3 / 4 * total)
    assert traffic.reduced == 0
    kept = base.changed(reshard=False, accumulation=4, rows=2).traffic
    assert kept.gathered == int(3 / 4 * total)
    assert base.changed(accumulation=4, rows=2).traffic.gathered == int(8 * 3 / 4 * total)
    ddp = base.changed(shards=1).traffic
    assert (ddp.gathered, ddp.scattered) == (0, 0)
    assert ddp.reduced == int(2 * 3 / 4 * total)
    pairs = base.changed(shards=2).traffic
    assert pairs.reduced == int(2 * 1 / 2 * total / 2)


def test_time_and_cost():
    base = planner(gpus=2, mfu=0.5, price=3.0)
    tokens, time = 32 * 64, base.time
    assert time.step == pytest.approx(tokens * base.flops.training / (2 * 100e12 * 0.5))
    assert time.tokens_per_second == pytest.approx(tokens / time.step)
    assert time.days == pytest.approx(time.step * 1000 / 86400)
    assert time.gpu_hours == pytest.approx(2 * 24 * time.days)
    assert time.cost == pytest.approx(3 * time.gpu_hours)
    assert planner().time.cost is None


def fitting(planner: Planner, memory: Memory) -> Planner:
    """On a GPU that is just large enough for `memory`."""
    return attrs.evolve(planner, gpu=attrs.evolve(planner.gpu, memory=(memory.total + 16) / USABLE))


def test_the_first_remedy_that_fits():
    base = planner("data.length=256")
    assert base.fits
    selective, full = (base.changed(checkpointing=kind).memory for kind in ("selective", "full"))
    checkpointing = {"parallel.activation_checkpointing": "selective"}
    assert first_remedy(fitting(base, selective)).settings == checkpointing
    checkpointing = {"parallel.activation_checkpointing": "full"}
    assert first_remedy(fitting(base, full)).settings == checkpointing
    smallest = fitting(base, base.changed(rows=1, accumulation=32).memory)
    found = first_remedy(smallest)
    assert found.planner.memory.total <= smallest.usable
    assert found.settings["train.micro_batch_size"] < 32
    assert first_remedy(attrs.evolve(base, gpu=Gpu(name="tiny", tflops=1, memory=1e4))) is None


def test_sharding_is_tried_last():
    base = planner(gpus=4).changed(shards=1)
    least = base.changed(shards=4, rows=1, accumulation=8, checkpointing="full").memory
    found = first_remedy(fitting(base, least))
    assert found.settings["parallel.mode"] == "fsdp"


def test_the_largest_micro_batch_is_one_that_fits():
    base = planner("data.length=256", memory=4e8)
    rows = largest_micro_batch(base)
    assert base.changed(rows=rows).fits
    assert not base.changed(rows=int(1.2 * rows)).fits
    assert largest_micro_batch(planner(memory=1e4)) == 0


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(RecipeError, match="32 rows over 5 processes do not come out even"):
        planner(gpus=5)


def test_gpus_of_the_table_and_others():
    assert find_gpu("H100") == GPUS["h100"]
    assert find_gpu("h100", memory=94).memory == 94e9
    assert find_gpu("mine", memory=10, tflops=5) == Gpu(name="mine", tflops=5, memory=10e9)
    with pytest.raises(RecipeError, match='no "h10" in the table; did you mean "h100"'):
        find_gpu("h10", memory=3)


@pytest.mark.parametrize(
    ("tokenizer", "size"),
    [
        ("{use='bpe', vocab_size=400}", 400),
        ("{use='bert'}", 30522),
        ("{use='gpt2'}", 50258),
        ("{use='bytes'}", 259),
        ("{use='text8'}", 28),
    ],
)
def test_sizes_of_vocabularies(tokenizer, size):
    recipe = load_recipe("quickstart_bell", [f"data.tokenizer={tokenizer}"])
    assert vocab_size_of(recipe) == size
    if recipe.data.tokenizer.known_size in (259, 28):  # the others are trained or downloaded
        assert recipe.data.tokenizer.build(recipe.data.corpus).vocab.size == size


def test_a_vocabulary_that_cannot_be_had(tmp_path: Path):
    recipe = load_recipe("quickstart_bell", [f"data.tokenizer={{use='json', path='{tmp_path}'}}"])
    with pytest.raises(DataError, match="--vocab-size"):
        vocab_size_of(recipe)
