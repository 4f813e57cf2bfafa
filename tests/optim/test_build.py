"""The optimiser of a run (E13, E14): groups of the learned refinement, penalties by name, on the real model."""

import re

import pytest
import torch
from detectron2.config import CfgNode

from reg_d2.optim import ChainedOptimizer, build_optimizer

from ..modeling.test_model import losses_of
from ..modeling.test_switches import ALL, COSINE, LEARNED
from ..models import batch, tiny_config, tiny_model


def config(*options) -> CfgNode:
    return tiny_config("SOLVER.BASE_LR", 0.1, *options)


def test_plain_reg_has_detectron2_s_own_optimiser():
    optimizer = build_optimizer(config(), tiny_model())
    assert not isinstance(optimizer, ChainedOptimizer)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(tiny_model().parameters()))


def test_the_learned_refinement_has_no_weight_decay_and_each_parameter_one_group():
    model = tiny_model(*LEARNED, *COSINE)
    optimizer = build_optimizer(config("SOLVER.PROXIMAL.REFINEMENT_LR_FACTOR", 7.0), model)
    group_of = {p: group for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(group_of)
    assert set(group_of) == {p for p in model.parameters() if p.requires_grad}
    predictor, mask = model.roi_heads.box_predictor, model.roi_heads.mask_head
    for p in (predictor.loss_state.beta, predictor.loss_state.delta, mask.loss_state.delta):
        assert group_of[p]["lr"] == pytest.approx(0.7)
        assert group_of[p]["weight_decay"] == 0
    assert group_of[predictor.cls_score.bias]["weight_decay"] == 1e-4


def test_beta_and_delta_stay_in_their_box_and_a_strong_penalty_holds_them_at_their_start():
    for penalty, moves in ((0.0, True), (100.0, False)):
        model = tiny_model(*LEARNED)
        optimizer = build_optimizer(config("SOLVER.PROXIMAL.REFINEMENT_L1", penalty), model)
        state = model.roi_heads.box_predictor.loss_state
        for step in range(3):
            sum(losses_of(model, batch([0, 1, 2], [0, 2]), seed=step).values()).backward()
            # Far beyond what a loss does: the box must hold all the same.
            if moves:
                state.delta.grad += torch.tensor([1e3, -1e3, 0.0])
            optimizer.step()
            optimizer.zero_grad()
        if moves:
            assert state.delta[:2].tolist() == [0.0, 1.0]
            assert (state.beta != 10.0).any()
        else:
            assert (state.beta == 10.0).all()
            torch.testing.assert_close(state.delta, torch.full((3,), 0.15), atol=0, rtol=0)


def test_penalties_on_named_parameters_shrink_their_rows():
    name = "roi_heads.box_head.fc2.weight"
    after = []
    for options in ([], ["SOLVER.PROXIMAL.PARAMETERS", [re.escape(name)], "SOLVER.PROXIMAL.GROUP_L1", 1.0]):
        model = tiny_model()
        optimizer = build_optimizer(config(*options), model)
        sum(losses_of(model, batch([0, 2])).values()).backward()
        optimizer.step()
        after.append(dict(model.named_parameters()))
    plain, sparse = after[0][name].detach(), after[1][name].detach()
    norm = plain.norm(dim=1, keepdim=True)
    # lr 0.1, momentum 0.9: the threshold on a row's norm is 0.1 * 1.0 / (1 - 0.9) = 1.
    torch.testing.assert_close(sparse, plain * (1 - 1 / norm).clamp(min=0))
    assert 0 < (sparse == 0).all(dim=1).sum() < len(sparse)
    assert all(v.equal(after[1][n]) for n, v in after[0].items() if n != name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["SOLVER.PROXIMAL.PARAMETERS", ["no.such.*"], "SOLVER.PROXIMAL.L1", 1.0], "'no.such.\\*' matches"),
        (["SOLVER.PROXIMAL.PARAMETERS", [r".*cls_score\.weight"]], "cls_score.weight lies on a manifold"),
        (["SOLVER.PROXIMAL.PARAMETERS", [r".*loss_state.*"]], "loss_state.beta, a learned beta or delta"),
        (["SOLVER.PROXIMAL.L1", -1.0], "SOLVER.PROXIMAL.L1 is -1.0"),
        (["SOLVER.PROXIMAL.GROUP_L1", 0.1], "GROUP_L1 is 0.1, and SOLVER.PROXIMAL.PARAMETERS names no"),
        (["SOLVER.PROXIMAL.REFINEMENT_LR_FACTOR", -1.0], "REFINEMENT_LR_FACTOR is -1.0"),
    ],
)
def test_a_penalty_that_cannot_be_applied_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_optimizer(config(*options), tiny_model(*ALL))
