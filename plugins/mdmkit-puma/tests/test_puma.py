from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

import mdmkit
from mdmkit.builtin.objectives import MaskedDiffusion
from mdmkit.builtin.weightings import Flat
from mdmkit.costs.dry import dry_objective
from mdmkit.draws import StepDraws
from mdmkit.protocols import ObjectiveContext
from mdmkit.testing import check_all, check_objective
from mdmkit.testing.facts import HashDenoiser, objective_context, random_batch, run_facts
from mdmkit.values import Batch, Vocabulary
from mdmkit.values.mapped import mapped

plugin = pytest.importorskip(
    "mdmkit_puma", reason="not installed: pip install -e plugins/mdmkit-puma"
)
RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart_puma.toml"

VOCAB = Vocabulary(size=6, mask_id=5)
LENGTH = 8


def context(rows: int = 8, **changes: Any) -> ObjectiveContext:
    facts = evolve(run_facts(vocab=VOCAB, length=LENGTH), global_batch_size=rows)
    return evolve(objective_context(facts), loss_weighting=Flat(normalizer="sequence"), **changes)


def puma(rows: int = 8, **options: Any) -> Any:
    return plugin.Puma(bound=MaskedDiffusion(), **options).build(context(rows))


def text(rows: Tensor, step: int) -> Batch:
    """Blocks that tell which row and step they were offered at."""
    draw = [torch.Generator().manual_seed(1000 * step + row) for row in rows.tolist()]
    tokens = torch.stack([torch.randint(0, 5, (LENGTH,), generator=g) for g in draw])
    return Batch(tokens=tokens)


def draws(rows: Tensor, step: int, total: int = 8) -> StepDraws:
    return StepDraws(seed=3, step=step, rows=rows, global_rows=total)


class Sure(torch.nn.Module):
    """A network whose probability of token 0 is a given one at each position, whatever it sees."""

    def __init__(self, p: list[float]) -> None:
        super().__init__()
        self.p = torch.nn.Parameter(torch.tensor(p))
        self.blocks = torch.nn.ModuleList()

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        return self.p.expand(len(tokens), -1)[..., None]

    def unembed(self, h: Tensor) -> Tensor:
        others = ((1 - h) / 4).log().expand(*h.shape[:-1], 4)
        return torch.cat([h.log(), others, torch.full_like(h, 9.0)], -1)  # 9 for the mask


P = [0.30, 0.80, 0.40, 0.95, 0.50, 0.70, 0.25, 0.60]
SUREST = [3, 1, 5, 7, 4, 2, 0, 6]


def test_everything_keeps_its_contract() -> None:
    """What ``pytest --mdmkit-contract mdmkit-puma`` tests, for a bare ``pytest``."""
    check_all(plugin)


def test_other_options_keep_it_too() -> None:
    options = {"stages": 3, "threshold": 1.0, "order": "margin", "restart": "all_masked"}
    check_objective(plugin.Puma(bound=MaskedDiffusion(), **options))


def test_the_surest_tokens_are_lifted_first_and_a_new_sequence_follows() -> None:
    live, network = puma(rows=1, stages=4, threshold=1.0), Sure(P)
    row = torch.tensor([0])
    first: Tensor | None = None
    visible: list[set[int]] = []
    for step in range(4):
        noised = live.corrupt(text(row, step), draws(row, step, 1))
        first = noised.targets if first is None else first
        assert torch.equal(noised.targets, first)  # its sequence, whatever the data offers
        assert torch.equal(noised.inputs, noised.targets.where(~noised.in_loss, 5))
        visible.append(set((~noised.in_loss[0]).nonzero()[:, 0].tolist()))
        assert 2 * step <= len(visible[-1]) <= 2 * step + 2  # a share in [j/4, (j + 1)/4) of 8
        live.loss(network, noised)
    begun = visible[0]
    order = [place for place in SUREST if place not in begun]
    for seen in visible:
        assert seen == begun | set(order[: len(seen) - len(begun)])
    assert len(visible[-1]) >= 6
    after = live.corrupt(text(row, 4), draws(row, 4, 1))
    assert torch.equal(after.targets, text(row, 4).tokens)
    assert (~after.in_loss).sum() <= 2


def test_what_is_probable_is_lifted_early() -> None:
    live = puma(rows=1, stages=4, threshold=0.45, restart="all_masked")
    row = torch.tensor([0])
    noised = live.corrupt(text(row, 0), draws(row, 0, 1))
    assert noised.in_loss.all()
    live.loss(Sure(P), noised)
    noised = live.corrupt(text(row, 1), draws(row, 1, 1))
    seen = set((~noised.in_loss[0]).nonzero()[:, 0].tolist())
    assert seen == {1, 3, 4, 5, 7}  # .8, .95, .5, .7 and .6; the next stage would show 2 to 4
    assert noised.seats.stage.tolist() == [2]  # the one that shows 5 of 8


def test_a_row_without_masks_is_done() -> None:
    live = puma(rows=1, stages=4, threshold=0.2, restart="all_masked")
    row = torch.tensor([0])
    live.loss(Sure(P), live.corrupt(text(row, 0), draws(row, 0, 1)))
    after = live.corrupt(text(row, 1), draws(row, 1, 1))
    assert torch.equal(after.targets, text(row, 1).tokens)
    assert after.seats.stage.tolist() == [0]
    assert after.in_loss.all()


@pytest.mark.parametrize(
    ("order", "first"),
    [("confidence", 2), ("margin", 1), ("entropy", 0)],
)
def test_orders_differ_in_who_is_first(order: str, first: int) -> None:
    from mdmkit_puma.watching import Watched

    p = torch.tensor(
        [
            [0.485, 0.485, 0.010, 0.010, 0.010],  # two tokens share it: the lowest entropy
            [0.480, 0.130, 0.130, 0.130, 0.130],  # the widest margin
            [0.490, 0.480, 0.010, 0.010, 0.010],  # the likeliest token, hardly before the next
        ]
    )
    if order == "entropy":
        p[0] = torch.tensor([0.480, 0.480, 0.038, 0.001, 0.001])
        p[2] = torch.tensor([0.490, 0.410, 0.050, 0.040, 0.010])
    h = torch.cat([p.log(), torch.zeros(3, 1)], -1)
    network = Sure(P)
    network.unembed = lambda h: h  # type: ignore[method-assign]
    watched = Watched(network, order, 5)
    watched.unembed(h[:2])
    watched.unembed(h[2:])
    best, score = watched.seen()
    assert int(score.argmax()) == first
    torch.testing.assert_close(best, p.amax(-1).log())
    expected = {
        "confidence": p.amax(-1).log(),
        "margin": p.topk(2).values @ torch.tensor([1.0, -1.0]),
        "entropy": (p * p.log()).sum(-1),
    }
    torch.testing.assert_close(score, expected[order])


def test_stages_are_spread_evenly_from_the_first_step_on() -> None:
    live, rows = puma(rows=8, stages=4, threshold=1.0), torch.arange(8)
    network = Sure(P)
    for step in range(6):
        noised = live.corrupt(text(rows, step), draws(rows, step))
        assert sorted(noised.seats.stage.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
        if step == 0:  # in the order of rows, so that every M-th row is of another stage
            assert noised.seats.stage.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        visible = (~noised.in_loss).sum(-1)
        assert ((visible >= 2 * noised.seats.stage) & (visible <= 2 * noised.seats.stage + 2)).all()
        live.loss(network, noised)


def test_data_is_taken_only_where_a_row_is_done() -> None:
    live, rows = puma(rows=8, stages=4, threshold=1.0), torch.arange(8)
    taken = []
    for step in range(9):
        batch = text(rows, step)
        noised = live.corrupt(batch, draws(rows, step))
        taken.append(int((noised.targets == batch.tokens).all(-1).sum()))
        live.loss(Sure(P), noised)
    assert taken == [8, *[2] * 8]


def test_the_loss_is_the_mean_over_rows_of_the_mean_over_masks() -> None:
    live, rows = puma(rows=8, stages=4, threshold=1.0), torch.arange(8)
    noised = live.corrupt(text(rows, 0), draws(rows, 0))
    loss = live.loss(Sure(P), noised)
    p = torch.tensor(P, dtype=torch.float64)
    nll = torch.where(noised.targets == 0, -p.log(), -((1 - p) / 4).log())
    means = [nll[row][noised.in_loss[row]].mean() for row in range(8)]
    assert float(loss.total.detach() / noised.denominator) == pytest.approx(
        float(sum(means)) / 8, rel=1e-5
    )
    assert noised.denominator == 8
    # The linear schedule masks a share t.
    torch.testing.assert_close(noised.t, noised.in_loss.float().mean(-1))


def test_the_nelbos_weight_gives_the_same_loss_where_rows_are_of_a_length() -> None:
    rows = torch.arange(8)
    live = plugin.Puma(bound=MaskedDiffusion(), stages=4).build(
        evolve(context(), loss_weighting=objective_context().loss_weighting)
    )
    weighted = live.corrupt(text(rows, 0), draws(rows, 0))
    flat = puma(stages=4).corrupt(text(rows, 0), draws(rows, 0))
    assert torch.equal(weighted.in_loss, flat.in_loss)
    mask = flat.in_loss
    torch.testing.assert_close(
        (weighted.weights / weighted.denominator)[mask], (flat.weights / flat.denominator)[mask]
    )


def test_a_step_can_be_asked_for_again() -> None:
    """As a measurement of the gradient noise does, by halves, before the step itself."""
    rows, network = torch.arange(8), Sure(P)
    once, twice = puma(stages=4), puma(stages=4)
    for step in range(5):
        for half in (rows[::2], rows[1::2]):
            noised = twice.corrupt(text(half, step), draws(half, step))
            twice.loss(network, evolve(noised, in_loss=torch.zeros_like(noised.in_loss)))
        tasks = [live.corrupt(text(rows, step), draws(rows, step)) for live in (once, twice)]
        for name in ("inputs", "targets", "in_loss", "weights", "lift"):
            assert torch.equal(getattr(tasks[0], name), getattr(tasks[1], name)), (step, name)
        for live, noised in zip((once, twice), tasks, strict=True):
            live.loss(network, noised)


def test_places_that_are_filled_up_change_nothing() -> None:
    rows = torch.arange(8)
    plain, filled = puma(stages=4), puma(stages=4)
    with torch.no_grad():
        plain.loss(Sure(P), plain.corrupt(text(rows, 0), draws(rows, 0)))
        filled.loss(Sure(P), filled.corrupt(text(rows, 0), draws(rows, 0)).placed(64))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, filled.state_dict()[name]), name


def test_what_fills_up_has_no_place() -> None:
    from mdmkit_puma.objective import _in_place

    noised = puma().corrupt(text(torch.arange(2), 0), draws(torch.arange(2), 0))
    mask = torch.zeros(2, LENGTH, dtype=torch.bool)
    mask[0, 0] = mask[1, 2] = True
    found = _in_place(torch.tensor([1.0, 2.0, 9.0, 9.0]), evolve(noised, in_loss=mask).placed(4))
    assert torch.equal(found, torch.where(mask, torch.tensor([[1.0], [2.0]]), 0.0))


def test_padding_and_documents_stay_with_their_sequence() -> None:
    live, rows = puma(rows=8, stages=4, threshold=1.0), torch.arange(8)
    vocab = VOCAB
    for step in range(3):
        batch = random_batch(8, LENGTH, vocab, seed=step)
        real = torch.arange(LENGTH) < (3 + (rows[:, None] + step) % 4)
        ids = (torch.arange(LENGTH) + step).expand(8, -1).clone()
        batch = evolve(batch, real=real, document_ids=ids, padding_seen=step == 2)
        noised = live.corrupt(batch, draws(rows, step))
        kept = (noised.targets != batch.tokens).any(-1)
        assert kept.tolist() == [False] * 8 if step == 0 else kept.sum() == 6
        begun = noised.attention.document_ids[:, 0]
        assert begun.tolist() == [step if not kept[r] else 0 for r in range(8)] or step == 2
        lengths = 3 + (rows + begun) % 4
        assert not (noised.in_loss & (torch.arange(LENGTH) >= lengths[:, None])).any()
        if step < 2:
            assert torch.equal(noised.attention.padding.sum(-1), lengths)
        else:
            assert noised.attention.padding is None
            hidden = (noised.inputs == vocab.mask_id) & ~noised.in_loss
            assert hidden.any()  # padding is masked like text, and does not count
        live.loss(HashDenoiser(vocab.size), noised)


def test_a_row_without_anything_to_score_does_no_harm() -> None:
    live, rows = puma(rows=8, stages=4), torch.arange(8)
    nothing = torch.zeros(8, LENGTH, dtype=torch.bool)
    for step in range(2):
        noised = live.corrupt(evolve(text(rows, step), real=nothing), draws(rows, step))
        assert not noised.in_loss.any()
        assert float(live.loss(Sure(P), noised).total.detach()) == 0
    assert torch.equal(noised.targets, text(rows, 1).tokens)


def test_memory_can_be_estimated_for_any_number_of_rows() -> None:
    dry = dry_objective(mdmkit.load_recipe(RECIPE, ["train.global_batch_size=8"]), VOCAB.size)
    noised = dry.corrupted(20)
    shown = (~noised.in_loss).double().mean(-1)
    assert torch.equal((shown * 12 + 1e-6).long()[:8], torch.arange(8) * 12 // 8)
    network = Sure([0.5] * 128).to("meta")
    with torch.no_grad():
        loss = dry.objective.loss(network, mapped(noised, lambda tensor: tensor.to("meta")))
    assert loss.total.is_meta


def test_its_bound_is_that_of_masked_diffusion() -> None:
    live, rows = puma(), torch.arange(8)
    masked = MaskedDiffusion().build(context())
    network, batch = HashDenoiser(VOCAB.size), text(rows, 0)
    ours, theirs = (x.bound(network, batch, draws(rows, 0)) for x in (live, masked))
    assert torch.equal(ours.nats, theirs.nats)


def test_mdmkit_finds_it() -> None:
    (entry,) = entry_points(group="mdmkit", name="puma")
    assert entry.load().mdmkit_objectives is plugin.mdmkit_objectives
    assert entry.dist is not None
    assert entry.dist.name == "mdmkit-puma"


def test_its_recipe_extends_the_quickstart() -> None:
    recipe = mdmkit.load_recipe(RECIPE)
    assert recipe.objective == plugin.Puma(bound=MaskedDiffusion())
    assert recipe.data.length == 128


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("time_sampler.use=bell", "puma draws no times"),
        ("mask_pattern.use=complementary", "puma's masks come from its pool"),
        ("objective.stages=129", r"stages: 129 are more than the 128 tokens"),
        ("objective.threshold=0.0", r"threshold: expected a value > 0"),
        ("objective.bound.use=autoregressive", "puma trains one that predicts masked tokens"),
    ],
)
def test_what_does_not_fit_is_refused(change: str, said: str) -> None:
    with pytest.raises(mdmkit.RecipeError, match=said):
        mdmkit.load_recipe(RECIPE, [change])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_leaves_the_same_pool() -> None:
    rows, cpu = torch.arange(8), torch.device("cpu")
    pools = []
    for device in (cpu, torch.device("cuda")):
        live, network = puma(stages=4, threshold=0.65), Sure(P).to(device)
        for step in range(6):
            noised = live.corrupt(text(rows, step), draws(rows, step)).placed()
            noised = noised.pinned() if device != cpu else noised
            live.loss(network, noised.to(device)).total.backward()
        pools.append(live.state_dict())
    for name, tensor in pools[0].items():
        assert torch.equal(tensor, pools[1][name]), name
