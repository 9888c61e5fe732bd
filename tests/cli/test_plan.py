from __future__ import annotations

import json

import pytest

from .commands import changed, mdmkit, refused

SMALL = changed("denoiser.width=32", "denoiser.depth=2", "denoiser.heads=2")


def test_a_plan_in_words():
    said = mdmkit("plan", "quickstart_bell", "--gpus", 2, "--price", 2, *SMALL)
    assert (said.code, said.err) == (0, "")
    assert said.lines[0].startswith("quickstart_bell on 2 × H100 SXM (989.5 TFLOP/s, 80.0 GB)")
    starts = [line.split("  ")[0] for line in said.lines]
    for wanted in ("parameters", "FLOPs a token", "tokens a step", "step", "sent by a GPU, a step",
                   "weights", "optimizer", "activations", "together"):  # fmt: skip
        assert wanted in starts
    assert "cost " in said.out
    assert "It fits (90% of 80.0 GB" in said.out
    assert "at an MFU of 0.35, which is assumed" in said.out


def test_what_does_not_fit_is_told_what_would():
    tight = ("--gpu", "mine", "--gpu-memory", 0.1, "--gpu-tflops", 10)
    arguments = ("plan", "quickstart_bell", *tight, *changed("data.length=512"))
    said = mdmkit(*arguments)
    assert "It does not fit: 90% of 100.0 MB" in said.out
    (advice,) = [line for line in said.lines if line.startswith("It would with ")]
    settings = advice.removeprefix("It would with ").split(": ")[0].split()
    found = json.loads(mdmkit(*arguments, "--json").out)
    words = [f"{key}={value}" for key, value in found["remedy"].items()]
    assert settings == [word for pair in words for word in ("--set", pair)]
    assert not found["fits"]


def test_a_plan_as_json():
    said = mdmkit("plan", "quickstart_bell", "--gpus", 4, "--mfu", 0.5, "--json", *SMALL)
    found = json.loads(said.out)
    assert found["vocab_size"] == 512
    assert found["setup"]["gpus"] == 4
    assert found["memory"]["total"] == sum(
        octets for part, octets in found["memory"].items() if part not in ("total", "usable")
    )
    assert found["fits"] is True
    assert found["remedy"] is None
    assert found["largest_micro_batch"] > 32
    flops = found["flops_per_token"]
    assert flops["training"] == 3 * (flops["blocks"] + flops["attention"] + flops["head"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "h10"], '--gpu: no "h10" in the table; did you mean "h100"'),
        (["--gpus", "5"], "32 rows over 5 processes do not come out even"),
        (["--set", "train.steps=no"], "[train] steps: expected an integer"),
        (["--mfu", "2"], "--mfu"),
        (["--vocab-size", "0"], "--vocab-size"),
    ],
)
def test_mistakes(arguments, message):
    assert message in refused("plan", "quickstart_bell", *arguments)


def test_a_size_of_the_vocabulary_can_be_given():
    said = mdmkit("plan", "quickstart_bell", "--vocab-size", 1000, "--json", *SMALL)
    assert json.loads(said.out)["parameters"]["embedding"] == 32 * 1000


def test_one_gpu_has_nothing_to_offload_to():
    err = refused("plan", "quickstart_bell", *SMALL, *changed("parallel.cpu_offload=true"))
    assert "[parallel] cpu_offload: needs at least 2 processes" in err


def test_where_nothing_fits_the_copies_of_weights_are_named():
    tight = ("--gpu", "mine", "--gpu-memory", 0.1, "--gpu-tflops", 10)
    large = changed("denoiser.width=768", "denoiser.depth=2", "train.global_batch_size=1")
    said = mdmkit("plan", "quickstart_bell", *tight, *large)
    assert "--set parallel.param_dtype=bf16" in said.out
