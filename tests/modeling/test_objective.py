"""E5: the joint objective, fixed and learned."""

import pytest
import torch

from reg_d2.modeling import JointObjective


def losses():
    return {
        "loss_rpn_cls": torch.tensor(0.1),
        "loss_rpn_loc": torch.tensor(0.2),
        "loss_cls": torch.tensor(0.3),
        "loss_box_reg": torch.tensor(0.4),
        "loss_mask": torch.tensor(0.5),
    }


def test_lambda_one_half_is_the_usual_objective():
    for name, value in JointObjective(0.5)(losses()).items():
        assert value.item() == pytest.approx(losses()[name].item())


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_lambda_weighs_the_tasks(value):
    total = sum(JointObjective(value, scale=1.0)(losses()).values())
    assert total.item() == pytest.approx(value * 1.0 + (1 - value) * 0.5)


def test_unknown_losses_are_refused():
    with pytest.raises(KeyError, match="loss_keypoint"):
        JointObjective()({**losses(), "loss_keypoint": torch.tensor(1.0)})


@pytest.mark.parametrize("arguments", [{"value": -0.1}, {"value": 1.1}, {"scale": 0.0}])
def test_wrong_values_are_named(arguments):
    with pytest.raises(ValueError, match="expected a number"):
        JointObjective(**arguments)


def test_learned_lambda_starts_at_one_half_and_finds_the_known_optimum():
    objective = JointObjective(learned=True)
    start = objective(losses())
    assert sum(start.values()).item() == pytest.approx(1.5)
    assert objective.lambda_value() == 0.5
    # exp(-s) L + s / 2 is smallest at s = log(2 L).
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.5)
    for _ in range(500):
        optimizer.zero_grad()
        sum(objective(losses()).values()).backward()
        optimizer.step()
    torch.testing.assert_close(
        objective.log_variance.detach(), torch.tensor([2 * 1.0, 2 * 0.5]).log(), atol=1e-4, rtol=0
    )
    assert objective.lambda_value() == pytest.approx(0.5 / 1.5, abs=1e-4)


def test_a_batch_without_masks_leaves_the_mask_task_alone():
    objective = JointObjective(learned=True)
    sum(objective({**losses(), "loss_mask": torch.tensor(0.0)}).values()).backward()
    assert objective.log_variance.grad[0] != 0
    assert objective.log_variance.grad[1] == 0
