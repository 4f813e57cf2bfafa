"""Every peer's YAML: short, loads, builds the model that its name says, from the same weights as all others."""

import functools
import re

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage
from torch.nn import functional as F

from reg_d2.data.catalog import REPOSITORY, read_catalog
from reg_d2.engine import load_config
from reg_d2.engine.setup import set_classes
from reg_d2.modeling import REGFastRCNNOutputLayers
from reg_d2.modeling.box_loss import BOX_LOSSES
from reg_d2.optim import CosineLinear

from ...modeling.test_model import LOSSES, losses_of
from ...models import CLASSES, CROSS_ENTROPY, TINY, batch, tiny_config, tiny_model
from .conftest import CONFIGS, PEERS

# What FRACAL would read from training files, which are not there.
MEASURED = ["MODEL.REG.PEERS.FRACAL.DIMENSIONS", [[1.5, 0.5], [1.2, 0.25], [1.0, 0.1]]]
C = len(CLASSES.names)


def peer_config(name, *options):
    return tiny_config(*MEASURED, *options, base=f"{CONFIGS}/{name}.yaml")


def peer_model(name, *options, seed=0):
    cfg = peer_config(name, *options)
    torch.manual_seed(seed)
    return build_model(cfg)


def peer_predictor(name, *options, seed=0):
    """The peer's box predictor alone, on 32 features."""
    cfg = peer_config(name, *options)
    torch.manual_seed(seed)
    return REGFastRCNNOutputLayers(cfg, ShapeSpec(channels=32))


@functools.cache
def reference_state():
    return tiny_model(*CROSS_ENTROPY, seed=3).state_dict()


def test_there_is_a_yaml_for_every_loss_of_the_project():
    used = {peer_config(name).MODEL.REG.BOX.LOSS for name in PEERS}
    ours = {name for name, cls in BOX_LOSSES.items() if cls.__module__.startswith("projects.longtail_losses")}
    assert len(PEERS) == 19 and ours == used - {"reg", "cross_entropy"}


@pytest.mark.parametrize("name", PEERS)
def test_the_yaml_loads_is_short_and_survives_its_own_dump(name, tmp_path):
    path = REPOSITORY / CONFIGS / f"{name}.yaml"
    text = path.read_text()
    assert text.startswith("# ") and len(text.splitlines()) < 10
    cfg = load_config(path)
    assert cfg.PROJECTS == ["longtail_losses"]
    assert cfg.MODEL.ROI_HEADS.NAME == "REGROIHeads" and cfg.MODEL.ROI_MASK_HEAD.NAME == "REGMaskHead"
    assert cfg.MODEL.REG.MASK.LOSS == "cross_entropy"
    assert set(cfg.DATASETS.TRAIN) | set(cfg.DATASETS.TEST) <= set(read_catalog(cfg.DATASETS.CATALOG))
    # As tools/evaluate.py and tools/predict.py read it: what a run writes beside its checkpoint.
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = load_config(tmp_path / "config.yaml")
    assert again.MODEL.REG == cfg.MODEL.REG and again.DATALOADER == cfg.DATALOADER and again.PROJECTS == cfg.PROJECTS


def test_norcal_cuts_off_as_much_of_the_largest_class_as_the_others_do():
    threshold, other = (load_config(REPOSITORY / CONFIGS / f"{name}.yaml") for name in ("norcal", "cross_entropy"))
    threshold, other = (cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST for cfg in (threshold, other))
    equal = other / 1200**0.6  # the demo's largest class has 1,200 objects
    assert other == 0.001 and equal / 2 < threshold < equal


@pytest.mark.parametrize("name", PEERS)
def test_same_seed_same_weights_and_any_batch_trains_all_of_them(name):
    reference = reference_state()
    model = peer_model(name, seed=3)
    score = "roi_heads.box_predictor.cls_score."
    state = model.state_dict()
    for key, value in state.items():
        if key in reference and not key.startswith(score):
            assert torch.equal(value, reference[key]), key
    weight, expected = state[score + "weight"], reference[score + "weight"]
    assert len(weight) in (C, C + 1, C + 2)
    assert torch.equal(weight[:C], expected[:C]), "the rows of the classes"
    assert len(weight) == C or torch.equal(weight[-1], expected[-1]), "the row of the background"
    for images in ([[], []], [[0, 1, 2], [2]]):
        model.zero_grad()
        losses = losses_of(model, batch(*images))
        assert set(losses) == LOSSES
        sum(losses.values()).backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{key}: workers would wait for it for ever"
            assert torch.isfinite(parameter.grad).all(), key


def test_a_further_output_is_drawn_apart():
    one, two, again = (peer_predictor("seesaw", seed=s).cls_score for s in (3, 4, 3))
    assert torch.equal(one.weight[C], again.weight[C]) and not torch.equal(one.weight[C], two.weight[C])
    assert 0.005 < one.weight[C].std() < 0.02
    assert (one.bias == 0).all()


@pytest.mark.parametrize("name", [name for name in PEERS if peer_config(name).MODEL.REG.BOX.LOSS in BOX_LOSSES])
def test_half_precision_stops_before_the_loss(name):
    features = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 2, 3, 3, 3, 3, 3])
    half, exact = peer_predictor(name), peer_predictor(name)
    proposals = [Instances((64, 64), gt_classes=targets)]
    with EventStorage():
        with torch.autocast("cpu", torch.bfloat16):
            found = half._classification_loss(half(features)[0], None, proposals)
        expected = exact._classification_loss(exact(features)[0], None, proposals)
    assert found.dtype == torch.float32 and found.item() == pytest.approx(expected.item(), rel=0.02)
    for (key, a), b in zip(half.named_buffers(), exact.buffers(), strict=True):
        assert a.dtype in (torch.float32, torch.int64, torch.bool), key
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


def case(name):
    """Six rows: logits, targets and the loss that the peer's whole predictor gives."""
    logits = torch.randn(6, C + 1, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 2, 3, 3, 0])
    with EventStorage():
        predictor = peer_predictor(name)
        found = predictor._classification_loss(logits, None, [Instances((64, 64), gt_classes=targets)])
    return logits, targets, found


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("inverse_frequency", lambda n: 1 / n),
        ("sqrt_inverse_frequency", lambda n: n**-0.5),
        ("effective_number", lambda n: (1 - 0.9999) / (1 - 0.9999**n)),
    ],
)
def test_class_weights_are_pytorch_s(name, scheme):
    logits, targets, found = case(name)
    weight = scheme(torch.tensor(CLASSES.box_counts, dtype=torch.float64))
    weight = torch.cat([weight / weight.mean(), torch.ones(1)]).float()
    torch.testing.assert_close(found, F.cross_entropy(logits, targets, weight=weight))


def test_softmax_focal():
    logits, targets, found = case("softmax_focal")
    nll = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(found, ((1 - torch.exp(-nll)) ** 2 * nll).mean())


def test_a_prior_a_bias_and_an_angle_at_the_start():
    for name, bias in (("sigmoid_bce", -4.59512), ("sigmoid_focal", -4.59512), ("gumbel", -2.0), ("eqlv2", 0.0)):
        layer = peer_predictor(name).cls_score
        assert layer.bias.tolist() == pytest.approx([bias] * len(layer.bias), rel=1e-5), name
    assert peer_predictor("ldam").cls_score.bias is None
    assert peer_predictor("seesaw").cls_score.temperature == 20.0
    linear = peer_predictor("seesaw", "MODEL.REG.PEERS.NORMED_TEMPERATURE", 0.0).cls_score
    assert isinstance(linear, torch.nn.Linear)


COSINE = ["MODEL.REG.BOX.COSINE.ENABLED", True]


@pytest.mark.parametrize("name", ["seesaw", "ecm", "ldam"])
def test_a_normed_classifier_is_not_replaced_by_a_cosine_one(name):
    with pytest.raises(ValueError, match=rf"(?i)BOX.LOSS \({name}\).*NormedLinear.*BOX.COSINE.ENABLED"):
        peer_predictor(name, *COSINE)
    for other in ("cross_entropy", "logit_adjustment", "sigmoid_bce"):
        assert isinstance(peer_predictor(other, *COSINE).cls_score, CosineLinear)
    if name != "ldam":
        linear = peer_predictor(name, *COSINE, "MODEL.REG.PEERS.NORMED_TEMPERATURE", 0.0)
        assert isinstance(linear.cls_score, CosineLinear)


@pytest.mark.parametrize(
    ("name", "key", "wrong", "interval", "edges"),
    [
        ("sigmoid_bce", "BOX.PRIOR", [-0.1, 0.0, 1.0, 1.5], "(0, 1)", []),
        ("sigmoid_focal", "BOX.PRIOR", [0.0, 1.0], "(0, 1)", []),
        ("sigmoid_focal", "PEERS.FOCAL.ALPHA", [-0.5, -2.0, 1.1], "[0, 1]", [-1.0, 0.0, 1.0]),
        ("sigmoid_focal", "PEERS.FOCAL.GAMMA", [-0.1], "[0, inf)", [0.0]),
        ("seesaw", "PEERS.NORMED_TEMPERATURE", [-1.0], "[0, inf)", [0.0]),
        ("seesaw", "PEERS.SEESAW.P", [-0.1], "[0, inf)", [0.0]),
        ("seesaw", "PEERS.SEESAW.Q", [-0.1], "[0, inf)", [0.0]),
        ("seesaw", "PEERS.SEESAW.EPS", [0.0, -1.0], "(0, inf)", []),
        ("sigmoid_focal", "BOX.FOREGROUND_MOMENTUM", [-0.5, 1.0, 1.5], "[0, 1)", [0.0]),
        ("eqlv2", "PEERS.EQLV2.ALPHA", [-0.1], "[0, inf)", [0.0]),
        ("eqlv2", "PEERS.EQLV2.GAMMA", [-0.1], "[0, inf)", [0.0]),
        ("eqlv2", "PEERS.EQLV2.MU", [float("inf")], "(-inf, inf)", [-1.0]),
        ("gumbel", "PEERS.GUMBEL.BIAS", [float("inf")], "(-inf, inf)", [0.0]),
        ("logit_adjustment", "PEERS.LOGIT_ADJUSTMENT.TAU", [float("inf")], "(-inf, inf)", [-1.0]),
        ("fracal", "PEERS.FRACAL.LAMBDA", [-0.1], "[0, inf)", [0.0]),
        ("ecm", "PEERS.ECM.BACKGROUND_RATIO", [0.0, -1.0], "(0, inf)", []),
        ("ecm", "PEERS.NORMED_TEMPERATURE", [-1.0], "[0, inf)", [0.0]),
        ("gumbel", "PEERS.GUMBEL.DROP_SHARE", [-0.1, 1.1], "[0, 1]", [0.0, 1.0]),
        ("ldam", "PEERS.LDAM.MAX_MARGIN", [0.0, -0.5], "(0, inf)", []),
        ("ldam", "PEERS.LDAM.SCALE", [0.0, -30.0], "(0, inf)", []),
        ("ldam", "PEERS.LDAM.REWEIGHT_FROM", [-0.1, 1.1], "[0, 1]", [0.0, 1.0]),
        ("ldam", "PEERS.LDAM.REWEIGHT_BETA", [-0.1, 1.0], "[0, 1)", [0.0]),
        ("norcal", "PEERS.NORCAL.GAMMA", [-0.1, 1.1], "[0, 1]", [0.0, 1.0]),
    ],
)
def test_values_out_of_range_are_named(name, key, wrong, interval, edges):
    key = f"MODEL.REG.{key}"
    for value in (*wrong, float("nan")):
        with pytest.raises(ValueError, match=re.escape(key)) as found:
            peer_predictor(name, key, value)
        assert f" is {value}: expected a number in {interval}" in str(found.value)
    for value in edges:
        peer_predictor(name, key, value)


def attributes(name, *names):
    loss = peer_predictor(name).box_loss
    return {key: getattr(loss, key) for key in names}


def test_the_defaults_are_the_authors():
    """What reaches the losses from the YAML files, against the numbers of papers and code (``peers.md``)."""
    seesaw = {"p": 0.8, "q": 2.0, "eps": 0.01, "temperature": 20.0}
    assert attributes("seesaw", *seesaw) == seesaw
    eqlv2 = {"gamma": 12.0, "mu": 0.8, "alpha": 4.0}
    assert attributes("eqlv2", *eqlv2) == eqlv2
    focal = {"alpha": 0.25, "gamma": 2.0, "momentum": 0.9}
    assert attributes("sigmoid_focal", *focal) == focal
    last = peer_config("ldam_drw").SOLVER.MAX_ITER
    assert attributes("ldam", "scale", "reweight_from") == {"scale": 30.0, "reweight_from": None}
    assert attributes("ldam_drw", "scale", "reweight_from") == {"scale": 30.0, "reweight_from": round(0.8 * last)}
    n = torch.tensor([60.0, 30.0, 10.0])
    assert n.tolist() == list(CLASSES.box_counts)
    for found, expected in (
        (peer_predictor("ldam").box_loss.margin[:C], 0.5 * (n / 10) ** -0.25),
        (
            peer_predictor("ldam_drw").box_loss.weight[0] / peer_predictor("ldam_drw").box_loss.weight[2],
            torch.tensor((1 - 0.9999**10) / (1 - 0.9999**60)),
        ),
        # 100 objects and 633.13 samples of the background: -1/4 log(rest / n).
        (peer_predictor("ecm").box_loss.margin[0], torch.tensor(673.13 / 60).log() / -4),
        (peer_predictor("logit_adjustment").box_loss.shift[:C], (3 * n / 100).log()),
        (peer_predictor("norcal").box_loss.shift[:C], 0.6 * n.log()),
        (peer_predictor("fracal").box_loss.divisor[:C], torch.tensor([1.5, 1.2, 1.0]) ** 2),
    ):
        torch.testing.assert_close(found, expected)
    assert not peer_predictor("logit_adjustment").box_loss.post_hoc
    assert peer_predictor("logit_adjustment_post_hoc").box_loss.post_hoc


def test_rare_for_gumbel_are_classes_below_a_share_of_the_objects():
    assert peer_config("gumbel").MODEL.REG.PEERS.GUMBEL.DROP_SHARE == 0.0011
    rare = peer_predictor("gumbel", "MODEL.REG.PEERS.GUMBEL.DROP_SHARE", 0.15).box_loss.rare
    assert rare.tolist() == [False, False, True], "of 60, 30 and 10"


def test_statistics_of_fracal_that_are_no_such_numbers_are_named():
    key, nan, inf = "MODEL.REG.PEERS.FRACAL.DIMENSIONS", float("nan"), float("inf")
    for wrong in ([1.5, 1.2], [1.5, 1.2, 0.0], [1.5, 1.2, nan], [nan, 1.2, 1.0], [inf, 1.2, 1.0]):
        with pytest.raises(ValueError, match=rf"{key}: \[.*\]; expected 3 dimensions > 0"):
            peer_predictor("fracal_objects", key, wrong)
    for wrong in ([0.5, 0.2, 0.0], [0.5, 0.2, 1.1], [0.5, 0.2, nan], [0.5, 0.2, "a"]):
        pairs = [[1.5, share] for share in wrong]
        with pytest.raises(ValueError, match=rf"{key}: \[.*\]; expected 3 shares of images in \(0, 1\]"):
            peer_predictor("fracal", key, pairs)
    for mixed in ([[1.5, 0.5], [1.2], [1.0, 0.1]], [[1.5, 0.5], 1.2, 1.0], [[1.5, 0.5, 3], [1.2, 0.25], [1.0, 0.1]]):
        with pytest.raises(
            ValueError, match=f"{key} is {re.escape(str(mixed))}; expected one number a class.*or one pair"
        ):
            peer_predictor("fracal", key, mixed)


def test_counts_are_those_of_the_training_set():
    loss = peer_predictor("logit_adjustment").box_loss
    expected = (3 * torch.tensor(CLASSES.box_counts) / sum(CLASSES.box_counts)).log()
    torch.testing.assert_close(loss.shift[:-1], expected)
    cfg = peer_config("ldam")
    set_classes(cfg, type(CLASSES)(CLASSES.names, (60, 0, 10), CLASSES.mask_counts))
    with pytest.raises(ValueError, match=r"'ldam' needs objects of every class.*'pole'"):
        build_model(cfg)
    bare = load_config(REPOSITORY / CONFIGS / "ldam.yaml", TINY)
    with pytest.raises(ValueError, match=r"'ldam' needs the training set's counts.*reg_d2.engine.setup"):
        build_model(bare)
