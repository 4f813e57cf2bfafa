"""The whole model: equality with Detectron2's own, objects without masks, empty batches, the sizes A to E."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from reg_d2.data.catalog import REPOSITORY
from reg_d2.engine.setup import load_config

from ..models import ALL_MASKS, CROSS_ENTROPY, SIZE, batch, ground_truth, tiny_config, tiny_model

LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
SIGMOID = ["MODEL.REG.BOX.ACTIVATION", "sigmoid"]


def losses_of(model, inputs, seed=7):
    torch.manual_seed(seed)
    with EventStorage():
        return model(copy.deepcopy(inputs))


def test_cross_entropy_equals_detectron2_s_generalized_rcnn():
    ours = tiny_model(*CROSS_ENTROPY, classes=ALL_MASKS)
    cfg = tiny_config(classes=ALL_MASKS)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    theirs = build_model(cfg)
    theirs.load_state_dict(ours.state_dict())
    inputs = batch(ground_truth([0, 1, 2], [True] * 3), ground_truth([2, 0], [True] * 2, seed=5), [])
    a, b = losses_of(ours, inputs), losses_of(theirs, inputs)
    assert set(a) == set(b) == LOSSES
    for name in LOSSES:
        assert a[name].item() == pytest.approx(b[name].item(), abs=1e-6), name
        assert a[name].item() > 0


def test_the_same_seed_gives_every_loss_the_same_initial_weights():
    reference = tiny_model(*CROSS_ENTROPY).state_dict()
    for options in ([], SIGMOID, ["MODEL.REG.LAMBDA.LEARNED", True]):
        for name, value in tiny_model(*options).state_dict().items():
            if name.startswith("roi_heads.box_predictor.cls_score"):
                if name.endswith("weight"):
                    assert torch.equal(value, reference[name][: len(value)])
            elif name in reference:
                assert torch.equal(value, reference[name]), name


@pytest.mark.parametrize("options", [[], SIGMOID, CROSS_ENTROPY], ids=["softmax", "sigmoid", "cross_entropy"])
@pytest.mark.parametrize("images", [([], []), ([1], [1, 1]), ([0, 1], []), ([0, 2], [1, 2])])
def test_any_batch_trains_every_parameter_with_finite_gradients(options, images):
    model = tiny_model(*options)
    losses = losses_of(model, batch(*images))
    assert set(losses) == LOSSES
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient: workers would wait for it for ever"
        assert torch.isfinite(parameter.grad).all(), name
    if not any(c != 1 for image in images for c in image):
        assert losses["loss_mask"].item() == 0.0
    else:
        assert losses["loss_mask"].item() > 0.0


def test_objects_without_a_mask_never_reach_the_mask_head():
    model = tiny_model()
    seen = []
    model.roi_heads.mask_head.register_forward_hook(lambda module, inputs, output: seen.extend(inputs[1]))
    objects = ground_truth([0, 1, 2, 0], [True, False, True, False])
    losses = losses_of(model, batch(objects))
    trained = Instances.cat(seen)
    assert len(trained) > 0
    assert trained.gt_has_mask.all()
    assert losses["loss_cls"].item() > 0
    # Their pixels have no influence either.
    changed = copy.deepcopy(objects)
    changed.gt_masks.tensor[~changed.gt_has_mask] ^= True
    again = losses_of(model, batch(changed))
    assert again["loss_mask"].item() == losses["loss_mask"].item()


def test_one_mask_channel_per_class_with_masks():
    assert tiny_model().roi_heads.mask_head.predictor.out_channels == 2
    assert tiny_model(classes=ALL_MASKS).roi_heads.mask_head.predictor.out_channels == 3
    agnostic = tiny_model("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", True).roi_heads.mask_head
    assert agnostic.channels.tolist() == [0, -1, 0]


def test_at_inference_a_box_only_class_has_a_box_and_no_mask():
    model = tiny_model().eval()
    detections = Instances(SIZE)
    detections.pred_boxes = Boxes(torch.tensor([[5.0, 5.0, 60.0, 50.0]] * 3))
    detections.scores, detections.pred_classes = torch.ones(3), torch.tensor([0, 1, 2])
    # A channel that says "object everywhere", so that an empty mask can only come from the class.
    torch.nn.init.constant_(model.roi_heads.mask_head.predictor.bias, 10.0)
    with torch.no_grad():
        output = model.inference(batch([]), detected_instances=[detections])[0]["instances"]
    assert output.has_mask.tolist() == [True, False, True]
    assert output.pred_masks.flatten(1).any(1).tolist() == [True, False, True]
    assert len(output.pred_boxes) == 3


def test_scores_use_the_activation_of_training():
    for options, columns in ((SIGMOID, 3), ([], 4)):
        predictor = tiny_model(*options).roi_heads.box_predictor
        assert predictor.cls_score.out_features == columns
        logits = torch.randn(5, columns)
        proposals = [Instances(SIZE, proposal_boxes=Boxes(torch.rand(5, 4)))]
        probs = predictor.predict_probs((logits, None), proposals)[0]
        expected = logits.softmax(1) if columns == 4 else logits.sigmoid()
        torch.testing.assert_close(probs[:, :3], expected[:, :3])
        assert probs.shape == (5, 4)


def test_sigmoid_starts_at_its_prior():
    predictor = tiny_model(*SIGMOID, "MODEL.REG.BOX.PRIOR", 0.02).roi_heads.box_predictor
    torch.testing.assert_close(predictor.cls_score.bias.sigmoid(), torch.full((3,), 0.02))


def test_loss_weights_are_honoured():
    model = tiny_model()
    inputs = batch([0, 1, 2])
    before = losses_of(model, inputs)
    model.roi_heads.box_predictor.loss_weight = {"loss_cls": 2.0, "loss_box_reg": 3.0}
    model.roi_heads.mask_head.loss_weight = 4.0
    after = losses_of(model, inputs)
    for name, factor in {"loss_cls": 2, "loss_box_reg": 3, "loss_mask": 4, "loss_rpn_cls": 1}.items():
        assert after[name].item() == pytest.approx(factor * before[name].item(), rel=1e-5), name


def test_class_weights_come_from_each_task_s_own_counts():
    node = "MODEL.REG.{}.CLASS_WEIGHT.SCHEME".format
    model = tiny_model(node("BOX"), "inverse_frequency", node("MASK"), "sqrt_inverse_frequency")
    box, mask = model.roi_heads.box_predictor.loss_state.class_weight, model.roi_heads.mask_head.loss_state.class_weight
    raw = torch.tensor([100 / 60, 100 / 30, 100 / 10])
    torch.testing.assert_close(box, raw / raw.mean())
    raw = torch.tensor([45 / 40, 45 / 5]).sqrt()
    torch.testing.assert_close(mask, raw / raw.mean())


@pytest.mark.parametrize("direction", ["near", "far", "split"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("metric", ["center", "edge"])
def test_every_refinement_changes_the_loss_and_stays_finite(direction, activation, metric):
    common = ["MODEL.REG.BOX.ACTIVATION", activation]
    inputs = batch([0, 1, 2], [])
    node = "MODEL.REG.BOX.REFINEMENT."
    plain = losses_of(tiny_model(*common, node + "ENABLED", False), inputs)
    options = [node + "ENABLED", True, node + "DIRECTION", direction, node + "METRIC", metric]
    refined = losses_of(tiny_model(*common, *options), inputs)
    assert torch.isfinite(refined["loss_cls"])
    assert refined["loss_cls"].item() != pytest.approx(plain["loss_cls"].item(), rel=1e-4)
    assert refined["loss_rpn_cls"].item() == plain["loss_rpn_cls"].item()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.REG.BOX.LOSS", "hinge", "reg, cross_entropy"),
        ("MODEL.REG.BOX.ACTIVATION", "tanh", "MODEL.REG.BOX.ACTIVATION.*sigmoid, softmax"),
        ("MODEL.REG.MASK.REFINEMENT.DIRECTION", "up", "MODEL.REG.MASK.REFINEMENT.DIRECTION.*near, far, split"),
        ("MODEL.REG.BOX.CLASS_WEIGHT.SCHEME", "cubic", "inverse_frequency.*list"),
        ("MODEL.REG.BOX.PRIOR", 1.5, "PRIOR is 1.5"),
        ("MODEL.REG.LAMBDA.VALUE", 2.0, "LAMBDA.VALUE is 2.0"),
        ("MODEL.REG.MASK.DIVISOR", "rois", "pixels, weights"),
        ("MODEL.REG.BOX.GAMMA", -1.0, "GAMMA is -1.0"),
    ],
)
def test_a_wrong_value_is_named_with_the_valid_ones(key, value, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(key, value)


def test_refinement_of_masks_changes_their_loss():
    inputs = batch([0, 2])
    plain, refined = (
        losses_of(tiny_model("MODEL.REG.MASK.REFINEMENT.ENABLED", on), inputs)["loss_mask"] for on in (False, True)
    )
    assert refined.item() != pytest.approx(plain.item(), rel=1e-4)


@pytest.mark.parametrize("name", sorted(p.name for p in (REPOSITORY / "configs").glob("REG-*.yaml")))
def test_the_sizes_a_to_e_train_a_step(name):
    # The sizes' own backbones, with a light head: what is checked is that they build, run and learn.
    width = load_config(REPOSITORY / "configs" / name).MODEL.RESNETS.RES2_OUT_CHANNELS
    cfg = tiny_config("MODEL.RESNETS.RES2_OUT_CHANNELS", width, base=f"configs/{name}")
    model = build_model(cfg)
    blocks = {"A": 8, "B": 16, "C": 16, "D": 33, "E": 33}[name.split("-")[1]]
    assert sum(len(getattr(model.backbone.bottom_up, f"res{i}")) for i in (2, 3, 4, 5)) == blocks
    losses = losses_of(model, batch([0, 1], [2]))
    sum(losses.values()).backward()
    gradient = model.backbone.bottom_up.stem.conv1.weight.grad
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
