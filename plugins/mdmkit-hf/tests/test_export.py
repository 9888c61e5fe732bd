"""Runs as folders for transformers and safetensors, and back again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

import mdmkit
from mdmkit.cli import main
from mdmkit.values import Attention

pytest.importorskip("mdmkit_hf", reason="not installed: pip install -e plugins/mdmkit-hf")

import mdmkit_hf.auto  # noqa: F401 - registers the class
import transformers
from mdmkit_hf.exporting import run as exporting
from mdmkit_hf.exporting.run import export_run
from mdmkit_hf.importing.run import import_run

RECIPE = """
[run]
name = "tiny"
seed = 3

[data]
length = 16
corpus = { use = "text", train = "TEXT", validation = "TEXT", document = "blank_line" }
tokenizer = { use = "bytes" }

[denoiser]
use = "dit"
width = 16
depth = 2
heads = 2
conditioning_width = 8

[train]
steps = 2
global_batch_size = 4
precision = "fp32"
ema_decay = 0.5
validate_blocks = 4

[learning_rate]
peak = 0.1
warmup_steps = 1

[sampler]
use = "ancestral"
steps = 1

[evaluators.test]
use = "nelbo"
blocks = 4
"""
TEXT = "The state of the Union is strong.\n\nIt was so before, and will be.\n\n" * 20
TOKENS = torch.randint(0, 259, (3, 16), generator=torch.Generator().manual_seed(5))


def recipe_in(folder: Path, *overrides: str) -> mdmkit.Recipe:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text(TEXT)
    (folder / "recipe.toml").write_text(RECIPE.replace("TEXT", str(folder / "text.txt")))
    return mdmkit.load_recipe(folder / "recipe.toml", overrides)


def made(folder: Path, *overrides: str) -> Path:
    """A run with random weights, made by no training."""
    recipe = recipe_in(folder, *overrides)
    tokenizer = recipe.data.tokenizer.build(recipe.data.corpus)
    network = recipe.denoiser.build(tokenizer.vocab)
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source) * 0.2)
    return mdmkit.write_run(
        folder / "run",
        recipe,
        weights=network.state_dict(),
        tokenizer=tokenizer,
        step=9,
        source={"kind": "made up"},
    )


def logits_of(run: Path, tokens: Tensor = TOKENS, **more: Any) -> Tensor:
    trained = mdmkit.open_run(run, device="cpu", precision="fp32")
    return trained.call(lambda network: network.unembed(network(tokens, **more)))


def loaded(folder: Path, cls: Any = transformers.AutoModelForMaskedLM, **more: Any) -> Any:
    model, found = cls.from_pretrained(folder, output_loading_info=True, **more)
    assert not any(found.values()), found
    return model.eval()


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    mdmkit.train(recipe_in(folder), runs_dir=folder)
    (run,) = folder.glob("tiny-*")
    return run


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    return export_run(trained, trained.parent / "exported")


def test_transformers_gives_the_logits_of_the_run(trained: Path, exported: Path) -> None:
    with torch.no_grad():
        found = loaded(exported)(TOKENS).logits
    assert torch.equal(found, logits_of(trained))
    raw = export_run(trained, exported.with_name("raw"), ema=False)
    with torch.no_grad():
        other = loaded(raw)(TOKENS).logits
    assert not torch.allclose(other, found, atol=1e-3)


def test_a_folder_has_what_users_of_both_libraries_expect(exported: Path) -> None:
    names = {
        "README.md", "config.json", "mdmkit.json", "model.safetensors", "recipe.toml",
        "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert {path.name for path in exported.iterdir()} == names
    assert len({path.stat().st_mode for path in exported.iterdir()}) == 1  # readable alike
    weights = load_file(exported / "model.safetensors")
    assert weights["denoiser.vocab_embed.embedding"].shape == (259, 16)
    config = json.loads((exported / "config.json").read_text())
    assert (config["model_type"], config["vocab_size"], config["mask_token_id"]) == (
        "mdmkit", 259, 258,
    )  # fmt: skip
    assert "auto_map" not in config  # which would name code to be fetched


def test_the_tokenizer_is_that_of_the_run(trained: Path, exported: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(exported)
    ours = mdmkit.open_run(trained).tokenizer
    text = "The Union's state — is strong."
    assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode_batch([text])[0]
    assert theirs.decode(theirs(text)["input_ids"]) == text
    assert (theirs.mask_token, theirs.mask_token_id) == ("<|mask|>", 258)
    assert theirs("a<|mask|>")["input_ids"] == [97, 258]
    assert theirs.eos_token_id == ours.vocab.eos_id
    assert theirs.model_max_length == 16
    mapped = json.loads((exported / "special_tokens_map.json").read_text())
    assert mapped["pad_token"] == ours.special.pad


def test_it_becomes_the_same_run_again_bit_by_bit(trained: Path, exported: Path) -> None:
    back = import_run(str(exported), exported.with_name("back"))
    was, now = (mdmkit.open_run(run, device="cpu") for run in (trained, back))
    assert now.weights_sha256() == was.weights_sha256()
    assert now.tokenizer.fingerprint == was.tokenizer.fingerprint
    assert (now.recipe, now.step, now.ema) == (was.recipe, 2, True)
    source = json.loads((back / "imported.json").read_text())
    assert source["export"]["recipe_hash"] == was.recipe_hash
    other = import_run(str(exported), exported.with_name("other"), name="foo")
    assert mdmkit.open_run(other).recipe.run.name == "foo"
    (found,) = mdmkit.evaluate(back, device="cpu").values()
    before = json.loads((trained / "eval" / "test.json").read_text())["measurements"]
    assert found.measurements["nelbo_per_token"].value == before["nelbo_per_token"]["value"]


def test_the_card_has_recipe_numbers_and_their_provenance(
    trained: Path, exported: Path, tmp_path: Path
) -> None:
    card = (exported / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert (front["library_name"], front["pipeline_tag"]) == ("transformers", "fill-mask")
    assert "mdmkit" in front["tags"]
    (tmp_path / "recipe.toml").write_text(card.split("```toml\n")[1].split("```")[0])
    assert mdmkit.load_recipe(tmp_path / "recipe.toml") == mdmkit.open_run(trained).recipe
    result = json.loads((trained / "eval" / "test.json").read_text())
    number = result["measurements"]["nelbo_per_token"]
    row = (
        f"| test | nelbo_per_token | {number['value']:.6g} ± {number['stderr']:.2g} | nats/token |"
    )
    assert f"{row} step 2, averaged |" in card
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"| validation | nelbo_per_token | {last['val/nelbo_per_token']:.6g} ± " in card
    blocks = [json.loads(part.split("```")[0]) for part in card.split("```json\n")[1:]]
    assert result["provenance"] in blocks
    assert any("checkpoint" not in block and block.get("ema") is True for block in blocks)
    for fact in ("| data set | text (train = ", "| seed | 3 |", "step 2 of 2", "fp32"):
        assert fact in card
    assert "Some are not of the weights" not in card
    raw = export_run(trained, tmp_path / "raw", ema=False)
    assert "Some are not of the weights in this folder" in (raw / "README.md").read_text()


def test_bf16_is_the_rounded_weights(tmp_path: Path) -> None:
    run = made(tmp_path, "denoiser.tied=true")
    folder = export_run(run, tmp_path / "out", dtype="bf16")
    wide = load_file(run / "model.safetensors")
    narrow = load_file(folder / "model.safetensors")
    assert len(wide) == len(narrow) + 1  # a tied weight is kept once
    for name, tensor in narrow.items():
        assert torch.equal(tensor, wide[name.removeprefix("denoiser.")].to(torch.bfloat16))
    model = loaded(folder, dtype=torch.bfloat16)
    assert model.denoiser.rotary_emb.inv_freq.dtype == torch.float32
    assert model.denoiser.output_layer.linear.weight is model.denoiser.vocab_embed.embedding
    expected = logits_of(run)
    with torch.no_grad():
        found = model(TOKENS).logits.float()
        assert torch.allclose(found, expected, atol=0.02 * float(expected.abs().max()))
    back = import_run(str(folder), tmp_path / "back")
    state = load_file(back / "model.safetensors")
    for name, tensor in state.items():
        assert torch.equal(tensor, wide[name].to(torch.bfloat16).float())
    assert "made up" in (folder / "README.md").read_text()


def test_big_files_are_sharded(tmp_path: Path) -> None:
    run = made(tmp_path)
    folder = export_run(run, tmp_path / "out", shard_size="20KB")
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(shards) > 1
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(shards)
    with torch.no_grad():
        assert torch.equal(loaded(folder)(TOKENS).logits, logits_of(run))
    back = import_run(str(folder), tmp_path / "back")
    assert mdmkit.open_run(back).weights_sha256() == mdmkit.open_run(run).weights_sha256()


def test_what_a_network_is_told_comes_through(tmp_path: Path) -> None:
    timed = made(tmp_path / "timed", "denoiser.time_conditioning=true")
    model = loaded(export_run(timed, tmp_path / "timed" / "out"))
    t = torch.tensor([0.1, 0.5, 0.9])
    real = torch.arange(16) < torch.tensor([16, 9, 3])[:, None]
    labels = torch.where(TOKENS < 30, TOKENS, -100)
    with torch.no_grad():
        found = model(TOKENS, t=t, attention_mask=real.long(), labels=labels)
    expected = logits_of(timed, t=t, attention=Attention(padding=real))
    assert torch.equal(found.logits, expected)
    nll = -expected.log_softmax(-1).gather(-1, TOKENS[..., None])[..., 0]
    assert float(found.loss) == pytest.approx(float(nll[labels >= 0].mean()))


def test_a_next_token_network_sees_nothing_beyond(tmp_path: Path) -> None:
    run = made(
        tmp_path, "denoiser.use=transformer", "denoiser.width=16", "denoiser.depth=1",
        "denoiser.heads=2", "objective.use=autoregressive", "sampler.use=autoregressive",
    )  # fmt: skip
    folder = export_run(run, tmp_path / "out")
    with torch.no_grad():
        found = loaded(folder)(TOKENS).logits
    assert torch.equal(found, logits_of(run, attention=Attention(causal=True)))
    assert "next-token language model" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("architecture", "cls", "shift"),
    [("bert", "AutoModelForMaskedLM", False), ("llama", "AutoModelForCausalLM", True)],
)
def test_networks_of_transformers_are_their_own_classes(
    tmp_path: Path, architecture: str, cls: str, shift: bool
) -> None:
    pytest.importorskip("mdmkit_hf.denoisers", reason="this installation has no such denoiser")
    sizes = "hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32"
    run = made(
        tmp_path,
        "denoiser.use=transformers",
        f"denoiser.architecture={architecture}",
        f"denoiser.shift={str(shift).lower()}",
        f"denoiser.config={{{sizes}, max_position_embeddings=64}}",
    )
    folder = export_run(run, tmp_path / "out")
    model = loaded(folder, getattr(transformers, cls))
    card = (folder / "README.md").read_text()
    assert f"from transformers import {cls}" in card
    assert "mdmkit_hf.auto" not in card
    assert "There are 259 ids, and logits for 384: leave out those from 259 on, too." in card
    assert ("read at i − 1" in card) == shift
    both_ways = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    with torch.no_grad():
        found = model(TOKENS, attention_mask=both_ways).logits[..., :259]
    if shift:  # as the card says; a block is one document here
        found = torch.cat([found[:, :1], found[:, :-1]], dim=1)
    assert torch.allclose(found, logits_of(run), atol=1e-5)
    back = import_run(str(folder), tmp_path / "back")
    assert mdmkit.open_run(back).weights_sha256() == mdmkit.open_run(run).weights_sha256()


def test_a_folder_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "write_tokenizer", full)
    with pytest.raises(mdmkit.CheckpointError, match=r"out: cannot be written.*No space left"):
        export_run(trained, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(trained), "--out"]
    for more, says in (
        ([str(tmp_path)], "is there already"),
        ([str(tmp_path / "a"), "--shard-size", "many"], 'expected a size such as 5GB, got "many"'),
    ):
        assert main([*arguments, *more]) == 2
        assert says in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "a"), "--checkpoint", "99"]) == 1
    assert "no whole checkpoint of step 99" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def edited(name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(found)))

    return edit


def drop_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["denoiser.other"] = weights.pop("denoiser.blocks.0.norm1.weight")
    save_file(weights, folder / "model.safetensors")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no recipe": (lambda f: (f / "recipe.toml").unlink(), "recipe.toml"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
    "truncated": (
        lambda f: (f / "model.safetensors").write_bytes((f / "recipe.toml").read_bytes()),
        "model.safetensors: cannot be read",
    ),
    "other names": (drop_a_weight, "missing: denoiser.blocks.0.norm1.weight\n  not known: denoi"),
    "a recipe of more layers": (
        lambda f: (f / "recipe.toml").write_text(
            (f / "recipe.toml").read_text().replace("depth = 2", "depth = 100")
        ),
        "tensors; the network of the recipe has several times as many",
    ),
    "a later format": (edited("mdmkit.json", lambda m: m | {"format": 2}), "format 2; expected"),
    "facts of another kind": (edited("mdmkit.json", lambda m: m | {"step": "2"}), "export the run"),
    "another mask": (
        edited("mdmkit.json", lambda m: m | {"special_tokens": {"mask": "[M]"}}),
        'mask token "[M]" is not in the vocabulary',
    ),
    "a role that is none": (
        edited("mdmkit.json", lambda m: m | {"special_tokens": {"mask": "a", "repo": "b"}}),
        "export the run again",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_folders_are_one_message(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    spoil, says = BAD[case]
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    spoil(folder)
    assert main(["import", str(folder), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_the_commands_are_light() -> None:
    code = (
        "import sys, mdmkit_hf.commands, mdmkit_hf; "
        "sys.exit(any(n in sys.modules for n in ('transformers', 'huggingface_hub')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
