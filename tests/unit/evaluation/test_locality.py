from __future__ import annotations

import itertools

import attrs
import pytest
import torch

from mdmkit.builtin.evaluators import Locality
from mdmkit.builtin.evaluators.analysis.hiding import Look, Scene, rooms
from mdmkit.builtin.evaluators.analysis.locality_looks import Looks
from mdmkit.errors import DataError, MdmkitError, RecipeError
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.recipe import load_recipe
from mdmkit.testing import UniformDenoiser, evaluation_context
from mdmkit.values import Batch, Picture

from .test_few_step import TEXTS, Letters

NOISE = torch.rand(4000, 12, generator=torch.Generator().manual_seed(0))


def scene(length: int, target: int, *, share: float = 0.5, reach: int = 2) -> Scene:
    rows = len(NOISE)
    return Scene(
        batch=Batch(tokens=torch.zeros(rows, length, dtype=torch.int64)),
        target=torch.full((rows,), target),
        noise=NOISE[:, :length],
        share=share,
        reach=reach,
    )


def test_pair_looks_have_the_law_of_a_uniform_subset_given_the_nearest_visible():
    length, target, count = 7, 3, 4
    found = scene(length, target, share=count / length).masks([Look(left=1, right=0, shown=True)])
    wanted = {
        chosen
        for chosen in itertools.combinations(range(length), count)
        if target in chosen and 2 in chosen and not {1, 4} & set(chosen)
    }
    seen = [tuple(row.nonzero()[:, 0].tolist()) for row in found]
    assert set(seen) == wanted
    for chosen in wanted:
        assert seen.count(chosen) / len(seen) == pytest.approx(1 / len(wanted), abs=0.04)


def test_hidden_is_what_is_within_and_what_is_near_stays_otherwise():
    here = scene(12, 6, share=0.5, reach=2)
    usual = here.masks([Look()])
    assert (usual.sum(-1) == 6).all()
    assert usual[:, 6].all()
    # given that the target is masked, 5 more of the 11 others are
    assert usual[:, :6].double().mean() == pytest.approx(5 / 11, abs=0.02)
    both, left = (here.masks([Look(left=2, right=r)]) for r in (2, 0))
    for mask in (both, left):
        assert (mask.sum(-1) == 6).all()
        assert mask[:, 4:7].all()
    assert both[:, 7:9].all()
    # the right side is near, and only gives way where what is far does not suffice
    spare = usual[:, [0, 1, 2, 3, 9, 10, 11]].sum(-1) >= (~usual[:, 4:6]).sum(-1)
    assert (left[:, 7:9] == usual[:, 7:9])[spare].all()
    assert spare.double().mean() > 0.9
    assert here.masks([Look(blind=True)]).all()


def test_rooms_end_at_edges_padding_and_documents():
    plain = Batch(tokens=torch.zeros(1, 9, dtype=torch.int64))
    # 7 of 9 tokens are masked, so that 3 can be hidden on both sides
    assert rooms(plain, 0.8).tolist() == [[0, 1, 2, 3, 3, 3, 2, 1, 0]]
    real = torch.ones(2, 12, dtype=torch.bool)
    real[0, 7:] = False
    documents = torch.tensor([[0] * 12, [3] * 5 + [8] * 7])
    batch = Batch(tokens=torch.zeros(2, 12, dtype=torch.int64), real=real, document_ids=documents)
    found = rooms(batch, 0.6).tolist()
    # 4 of 7 tokens are masked, so 1 can be hidden on both sides; of 5 tokens 3, so 1 as well
    assert found[0] == [0, 1, 1, 1, 1, 1, 0, -1, -1, -1, -1, -1]
    assert found[1] == [0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0]
    # a token that is never masked is an edge, too: it cannot be hidden
    never = evolve_maskable(batch, row=1, place=8)
    assert rooms(never, 0.6).tolist()[1][5:] == [0, 1, 0, -1, 0, 1, 0]
    # where all but one would be masked, there are not two to show
    assert rooms(plain, 0.95).tolist() == [[-1] * 9]


def evolve_maskable(batch: Batch, *, row: int, place: int) -> Batch:
    maskable = batch.scored().clone()
    maskable[row, place] = False
    return attrs.evolve(batch, maskable=maskable)


def test_masks_stay_in_the_document_and_padding_is_masked_only_if_it_is_seen():
    documents = torch.tensor([[0] * 6 + [1] * 6]).expand(4000, -1)
    real = torch.ones(4000, 12, dtype=torch.bool)
    real[:, 10:] = False
    tokens = torch.zeros(4000, 12, dtype=torch.int64)
    batch = Batch(tokens=tokens, real=real, document_ids=documents)
    here = Scene(batch=batch, target=torch.full((4000,), 2), noise=NOISE, share=0.5, reach=1)
    mask = here.masks([Look(left=1, right=1)])
    assert mask[:, 1:4].all()
    assert not mask[:, [0, 4, 5]].any()
    assert (mask[:, 6:10].sum(-1) == 2).all()  # the other document at the same share
    assert not mask[:, 10:].any()
    seen = attrs.evolve(here, batch=attrs.evolve(batch, padding_seen=True))
    assert seen.masks([Look()])[:, 10:].double().mean() == pytest.approx(0.5, abs=0.02)


def test_targets_are_where_there_is_room_and_keep_their_noise_in_every_look():
    live = Locality(blocks=0, distances=(1,), radii=(2,), targets=30).build(evaluation_context())
    batch = live.source.batch(live.blocks[:1].expand(60))
    found = live._scene(batch, torch.arange(30).repeat(2))
    assert set(found.target.tolist()) == set(range(2, 10))
    assert torch.equal(found.target[:30], found.target[30:])
    assert torch.equal(found.noise[:30], found.noise[30:])
    assert len(found.noise.unique(dim=0)) == 30


def test_looks_are_taken_once_and_only_as_far_as_they_reach():
    looks = Looks.within(4, (4, 1, 9), (2, 3, 5))
    assert (looks.distances, looks.radii) == ((1, 4), (2, 3))
    assert len(looks.all) == len(set(looks.all)) == 2 + 4 + 3 * 2
    assert looks.all[looks.pair(4, 1)] == Look(left=3, right=0, shown=True)
    assert looks.all[looks.hidden("left", 3)] == Look(left=3)
    assert looks.all[looks.hidden("both", 2)] == Look(left=2, right=2)


def test_the_numbers_depend_neither_on_batches_nor_on_what_else_is_asked():
    options = Locality(blocks=0, distances=(1, 2), radii=(1, 2), targets=2)
    context = evaluation_context()
    whole = run_evaluation(options, context)
    other = run_evaluation(options, attrs.evolve(context, batch_size=7))
    for name, number in whole.measurements.items():
        assert other.measurements[name].value == pytest.approx(number.value, abs=1e-6), name
    fewer = run_evaluation(attrs.evolve(options, distances=(2,)), context)
    assert fewer.measurements["lost_both"] == whole.measurements["lost_both"]
    again = run_evaluation(options, attrs.evolve(context, seed=1))
    assert again.measurements["lost_both"] != whole.measurements["lost_both"]
    assert whole.provenance["targets_measured"] == 2 * 9  # the padded row is too short
    assert whole.provenance["tokens_on_both_sides"] == 2
    assert set(whole.pictures) == {"pair", "distance", "hidden", "lost"}
    lost = whole.pictures["lost"]
    assert isinstance(lost, Picture)
    assert lost.lines[0].y[-1] == whole.measurements["lost_both"].value


def test_a_network_that_sees_nothing_has_no_share_of_it_near():
    context = evaluation_context()
    blind = attrs.evolve(context, call=lambda f: f(UniformDenoiser(11)))
    found = run_evaluation(Locality(blocks=0, distances=(1,), radii=(1, 2)), blind).measurements
    assert found["context"].value == found["lost_both"].value == 0
    assert "near_share" not in found


def test_checkpoints_make_curves_over_training():
    options = Locality(blocks=0, distances=(1,), radii=(1, 2))
    result = run_evaluation(options, evaluation_context())
    drawn = Locality.over_training({10: result, 200: result})
    lost, side = drawn["lost"], drawn["side"]
    assert isinstance(lost, Picture)
    assert isinstance(side, Picture)
    assert [line.name for line in lost.lines] == ["step 10", "step 200"]
    assert side.lines[0].x == (10.0, 200.0)
    assert side.lines[0].y[0] == result.measurements["context"].value


def test_what_cannot_be(make_context):
    for wrong in ({"distances": ()}, {"radii": (0,)}, {"radii": (2, 2)}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"{name}: expected different numbers >= 1"):
            Locality(**wrong)
    assert not Locality().applies(load_recipe("quickstart_ar"))
    with pytest.raises(
        DataError, match=r"share 0\.5 of masks leaves hardly a token .* longer rows"
    ):
        Locality().build(make_context(TEXTS, tokenizer=Letters()))
    with pytest.raises(RecipeError, match="does not predict masked tokens"):
        Locality().build(make_context(TEXTS, exact=True))
    broken = attrs.evolve(evaluation_context(), call=lambda _: torch.full((4,), torch.nan))
    with pytest.raises(MdmkitError, match="not finite"):
        run_evaluation(Locality(distances=(1,), radii=(1,)), broken)
