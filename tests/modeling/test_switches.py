"""Each equation that a switch turns on (E6-E8, E12-E14), in the whole model: alone and all together."""

import logging

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from reg_d2.losses import LearnedRefinement, LossSettings, Refinement, box_terms, divide

from ..models import SIZE, batch, tiny_model
from .test_model import LOSSES, losses_of

BOX, MASK = "MODEL.REG.BOX.", "MODEL.REG.MASK."


def both(key, value=True):
    return [BOX + key, value, MASK + key, value]


SIGMOID = [BOX + "ACTIVATION", "sigmoid"]
UNCERTAIN = both("UNCERTAINTY.ENABLED")
ENERGY = UNCERTAIN + both("UNCERTAINTY.FREE_ENERGY.ENABLED")
TRUNCATED = SIGMOID + UNCERTAIN + both("UNCERTAINTY.DISTRIBUTION", "truncated")
BALANCE, COSINE = both("PRIMAL_DUAL.ENABLED"), [BOX + "COSINE.ENABLED", True]
LEARNED = both("REFINEMENT.ENABLED") + both("REFINEMENT.LEARNED")
ALL = [*ENERGY, *BALANCE, *COSINE, *LEARNED, "MODEL.REG.LAMBDA.LEARNED", True]
SWITCHES = {
    "uncertainty": UNCERTAIN,
    "uncertainty-sigmoid": UNCERTAIN + SIGMOID,
    "truncated": TRUNCATED,
    "quadrature": UNCERTAIN + SIGMOID + both("UNCERTAINTY.METHOD", "quadrature"),
    "monte_carlo": UNCERTAIN + both("UNCERTAINTY.METHOD", "monte_carlo"),
    "free_energy": ENERGY,
    "primal_dual": BALANCE,
    "cosine": COSINE,
    "learned": LEARNED,
    "all": ALL,
    "all-sigmoid": ALL + SIGMOID,
}


@pytest.mark.parametrize("name", SWITCHES)
def test_any_batch_trains_every_parameter_with_finite_gradients(name):
    options = SWITCHES[name]
    for images in ([[], []], [[1], []], [[0, 1, 2], [2]]):
        model = tiny_model(*options)
        losses = losses_of(model, batch(*images))
        expected = set(LOSSES)
        if name.startswith(("free_energy", "all")):
            expected |= {"loss_cls_kl", "loss_mask_kl"}
        assert expected <= set(losses)
        sum(losses.values()).backward()
        for parameter_name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{parameter_name}: workers would wait for it for ever"
            assert torch.isfinite(parameter.grad).all(), parameter_name


def test_losses_without_gradients_as_of_validation_move_nothing():
    model = tiny_model(*ALL, *SIGMOID)
    losses_of(model, batch([0, 1], [1]))
    heads = model.roi_heads  # the backbone's batch normalisation moves, as in any pass in training mode
    before = {name: value.clone() for name, value in heads.state_dict().items()}
    with torch.no_grad():
        validation = losses_of(model, batch([0], [1, 2]))
    assert all(value.equal(before[name]) for name, value in heads.state_dict().items())
    assert all(torch.isfinite(value) for value in validation.values())
    losses_of(model, batch([0], [1, 2]))
    changed = [name for name, value in heads.state_dict().items() if not value.equal(before[name])]
    for key in ("multipliers", "running_loss", "foreground_mean"):
        assert any(name.endswith(key) for name in changed), f"{key} is what a step moves"


@pytest.mark.parametrize("options", [UNCERTAIN, ENERGY, BALANCE, LEARNED, ALL], ids=lambda o: o[0][14:])
def test_a_switch_changes_no_other_initial_weight(options):
    reference = tiny_model().state_dict()
    changed = {n for n, v in tiny_model(*options).state_dict().items() if n in reference and not v.equal(reference[n])}
    assert changed <= ({"roi_heads.box_predictor.cls_score.weight"} if options is ALL else set())


@pytest.mark.parametrize(
    "options", [SIGMOID + UNCERTAIN, TRUNCATED, SIGMOID + COSINE], ids=["logit", "truncated", "cosine"]
)
def test_the_prior_is_set_on_the_marginal(options):
    predictor = tiny_model(*options, BOX + "PRIOR", 0.02, BOX + "UNCERTAINTY.INITIAL_LOG_VARIANCE", 0.0).roi_heads
    predictor = predictor.box_predictor
    with torch.no_grad():
        predictions = predictor(torch.zeros(2, predictor.cls_score.weight.shape[1]))
    probs = predictor.predict_probs(predictions, [Instances(SIZE, proposal_boxes=Boxes(torch.rand(2, 4)))])[0]
    torch.testing.assert_close(probs[:, :3], torch.full((2, 3), 0.02), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options", [UNCERTAIN, SIGMOID + UNCERTAIN, TRUNCATED], ids=["softmax", "sigmoid", "truncated"]
)
def test_each_instance_carries_the_deviation_of_its_own_probability(options):
    model = tiny_model(*options, *both("UNCERTAINTY.INITIAL_LOG_VARIANCE", -2.0)).eval()
    model.roi_heads.box_predictor.test_score_thresh = 0.0
    with torch.no_grad():
        predictor = model.roi_heads.box_predictor
        columns = predictor.cls_score.out_features
        logits = torch.randn(6, columns, generator=torch.Generator().manual_seed(1))
        log_variance = torch.linspace(-6, -1, 6)[:, None].expand(6, columns)
        boxes = torch.arange(6.0)[:, None] * 10 + torch.tensor([0.0, 0.0, 8.0, 8.0])
        proposals = [Instances(SIZE, proposal_boxes=Boxes(boxes))]
        predictions = (torch.cat([logits, log_variance], dim=1), torch.zeros(6, 12))
        found = predictor.inference(predictions, proposals)[0][0]
        std = predictor.predict_std(predictions, proposals)[0]
    rows = (found.pred_boxes.tensor[:, 0] / 10).round().long()
    assert len(found) > 6
    torch.testing.assert_close(found.score_std, std[rows, found.pred_classes])
    assert (found.score_std > 0).all()
    assert (found.score_std <= 0.5).all()


def test_masks_give_the_deviation_of_each_pixel_on_request():
    detections = Instances(SIZE)
    detections.pred_boxes = Boxes(torch.tensor([[5.0, 5.0, 60.0, 50.0]] * 2))
    detections.scores, detections.pred_classes = torch.ones(2), torch.tensor([0, 1])
    options = [*UNCERTAIN, MASK + "UNCERTAINTY.OUTPUT_STD", True, MASK + "UNCERTAINTY.INITIAL_LOG_VARIANCE", 0.0]
    with torch.no_grad():
        model = tiny_model(*options).eval()
        std = model.inference(batch([]), detected_instances=[detections])[0]["instances"].pred_mask_std
    # At the start a logit is N(0, 1): the deviation of its sigmoid is 0.2083 (numerical integration).
    assert std[0].mean().item() == pytest.approx(0.2083, abs=2e-3)
    assert (std[1] == 0).all(), "a class with boxes only has no pixels to be uncertain of"


def test_a_checkpoint_without_a_variance_head_is_loaded_and_the_head_starts_fresh(tmp_path, caplog):
    old = tiny_model(seed=3)
    DetectionCheckpointer(old, str(tmp_path)).save("old")
    model = tiny_model(*UNCERTAIN)
    with caplog.at_level(logging.WARNING, "reg_d2"):
        DetectionCheckpointer(model).load(str(tmp_path / "old.pth"))
    assert "no variance head (roi_heads.box_predictor.cls_log_variance" in caplog.text
    assert "roi_heads.mask_head.log_variance" in caplog.text
    for name, value in old.state_dict().items():
        assert model.state_dict()[name].equal(value), name
    assert (model.roi_heads.box_predictor.cls_log_variance.bias == -4.0).all()


def test_the_weight_of_the_kl_grows_over_its_warm_up():
    model = tiny_model(*ENERGY, *both("UNCERTAINTY.FREE_ENERGY.WARMUP_ITERS", 10))
    values = []
    for iteration in (0, 4, 9, 50):
        torch.manual_seed(0)
        with EventStorage(iteration):
            values.append(model(batch([0, 2]))["loss_cls_kl"].item())
    assert values[0] > 0
    assert [v / values[0] for v in values] == pytest.approx([1, 5, 10, 10], rel=1e-4)


@pytest.mark.parametrize(
    ("part", "off"),
    [("CLASS_WEIGHT", ("CLASS_WEIGHT.SCHEME", "uniform")), ("REFINEMENT", ("REFINEMENT.ENABLED", False))],
)
def test_late_weights_and_a_late_refinement_are_one_before_their_start(part, off):
    model = tiny_model(*both(f"{part}.START", 0.25), "SOLVER.MAX_ITER", 40)
    plain, full = tiny_model(*both(*off)), tiny_model()

    def losses(model, iteration):
        torch.manual_seed(0)
        with EventStorage(iteration):
            found = model(batch([0, 1, 2], [0, 2]))
        return [found[key].item() for key in ("loss_cls", "loss_mask")]

    assert losses(model, 9) == losses(plain, 9)
    assert losses(model, 10) == losses(full, 10)
    assert all(a != b for a, b in zip(losses(plain, 10), losses(full, 10), strict=True))


def test_multipliers_move_weight_to_the_class_with_the_larger_loss_and_are_logged():
    model = tiny_model(*BALANCE, *both("PRIMAL_DUAL.RATE", 0.1))
    state = model.roi_heads.box_predictor.loss_state
    start = state.weights().clone()
    with EventStorage(19) as storage:
        model(batch([0, 0], [2]))
        logged = storage.latest()
    losses, moved = state.balance.running_loss, state.weights() - start
    assert moved[1] == 0, "a class that the batch lacks is left alone"
    assert (moved[0] > 0) == (losses[0] > losses[2])
    assert moved.sum().item() == pytest.approx(0.0, abs=1e-6)
    for name, multiplier in zip(("sign", "pole", "rail"), state.balance.multipliers.tolist(), strict=True):
        assert logged[f"reg/box_multiplier/{name}"][0] == pytest.approx(multiplier)
    assert "reg/mask_class_loss/rail" in logged


def test_the_gradient_of_a_renormalised_learned_g_is_that_of_the_quotient():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 4, (12,), generator=generator)
    distance = torch.rand(12, 3, generator=generator, dtype=torch.float64)
    settings = LossSettings(activation="softmax", gamma=0.0, refinement=Refinement(learned=True))

    def loss(beta, delta, keep):
        terms = box_terms(logits, targets, settings, None, distance, learned=LearnedRefinement(beta, delta))
        if keep:
            return terms.loss / terms.weight * terms.count / terms.refinement
        return divide(terms, by="weights", renormalize=True)

    start = [torch.full((3,), v, dtype=torch.float64, requires_grad=True) for v in (10.0, 0.15)]
    ours, direct = loss(*start, keep=False), loss(*start, keep=True)
    assert ours.item() == pytest.approx(direct.item(), rel=1e-12)
    for a, b in zip(torch.autograd.grad(ours, start), torch.autograd.grad(direct, start), strict=True):
        torch.testing.assert_close(a, b)
        assert (a != 0).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([*UNCERTAIN, BOX + "UNCERTAINTY.METHOD", "laplace"], "BOX.UNCERTAINTY.METHOD 'laplace'.*probit, quadrature"),
        ([*UNCERTAIN, BOX + "UNCERTAINTY.METHOD", "quadrature"], "needs ACTIVATION 'sigmoid'"),
        ([*UNCERTAIN, BOX + "UNCERTAINTY.DISTRIBUTION", "truncated"], "needs ACTIVATION 'sigmoid'"),
        ([*ENERGY, MASK + "UNCERTAINTY.DISTRIBUTION", "truncated"], "MASK.UNCERTAINTY.FREE_ENERGY needs"),
        ([*ENERGY, BOX + "UNCERTAINTY.FREE_ENERGY.PRIOR_STD", 0.0], "PRIOR_STD is 0.0: expected a number > 0"),
        ([*BALANCE, BOX + "PRIMAL_DUAL.MOMENTUM", 1.0], "BOX.PRIMAL_DUAL: momentum"),
        ([*COSINE, BOX + "COSINE.TEMPERATURE", -1.0], "temperature.*-1.0"),
        ([BOX + "CLASS_WEIGHT.START", 1.0], "BOX.CLASS_WEIGHT.START is 1.0.*'uniform'"),
        ([*BALANCE, MASK + "CLASS_WEIGHT.START", 0.5], "MASK.CLASS_WEIGHT.START is 0.5 with PRIMAL_DUAL.ENABLED"),
        ([MASK + "REFINEMENT.START", -0.1], r"MASK.REFINEMENT.START is -0.1: expected a number in \[0, 1\)"),
        ([*LEARNED, BOX + "REFINEMENT.START", 0.5], "BOX.REFINEMENT.START is 0.5 with REFINEMENT.LEARNED"),
        ([*LEARNED, BOX + "REFINEMENT.RENORMALIZE", False], "BOX.REFINEMENT.LEARNED needs REFINEMENT.RENORMALIZE"),
        ([MASK + "REFINEMENT.FLOOR", 1.5], r"MASK.REFINEMENT.FLOOR is 1.5: expected a number in \[0, 1\]"),
        ([*LEARNED, BOX + "REFINEMENT.DELTA", -3.0], r"BOX.REFINEMENT.DELTA is -3.0: with .*in \[0, 1\]"),
        ([*UNCERTAIN, MASK + "UNCERTAINTY.INITIAL_LOG_VARIANCE", 8.0], r"MASK.UNCERTAINTY.INITIAL_LOG.* in \[-10, 5\]"),
        ([BOX + "GAMMA", float("nan")], "BOX.GAMMA is nan"),
        ([*ENERGY, BOX + "UNCERTAINTY.FREE_ENERGY.WEIGHT", float("nan")], "BOX.UNCERTAINTY.FREE_ENERGY.WEIGHT is nan"),
        ([BOX + "CLASS_WEIGHT.EFFECTIVE_NUMBER_BETA", 1.0], "BOX.CLASS_WEIGHT: beta of effective_number is 1.0"),
    ],
)
def test_a_wrong_value_is_named_with_the_way_out(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(*options)


@pytest.mark.parametrize(
    ("options", "key", "switch"),
    [
        ([BOX + "UNCERTAINTY.FREE_ENERGY.ENABLED", True], "BOX.UNCERTAINTY.FREE_ENERGY.ENABLED", "BOX.UNCERTAINTY"),
        (
            [MASK + "REFINEMENT.ENABLED", False, MASK + "REFINEMENT.LEARNED", True],
            "MASK.REFINEMENT.LEARNED",
            "MASK.REFINEMENT",
        ),
        ([MASK + "UNCERTAINTY.OUTPUT_STD", True], "MASK.UNCERTAINTY.OUTPUT_STD", "MASK.UNCERTAINTY"),
    ],
)
def test_a_switch_below_one_that_is_off_is_warned_about(caplog, options, key, switch):
    with caplog.at_level(logging.WARNING, logger="reg_d2"):
        tiny_model(*options)
    said = [r.getMessage() for r in caplog.records]
    assert said == [f"MODEL.REG.{key} is on and does nothing: MODEL.REG.{switch}.ENABLED is False"]
