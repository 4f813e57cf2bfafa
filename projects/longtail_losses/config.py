"""The project's configuration keys: under ``MODEL.REG.PEERS``, one node a peer, with the defaults of its authors."""

from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add the keys, with their defaults, to a config in place."""
    cfg.MODEL.REG.PEERS = node = CfgNode()
    # Seesaw, ECM: the factor of a normed linear classifier; 0.0: a linear one
    node.NORMED_TEMPERATURE = 20.0
    node.FOCAL = CfgNode()
    node.FOCAL.ALPHA = 0.25  # weight of positives (of negatives: 1 - ALPHA), in [0, 1]; -1.0: no such weights
    node.FOCAL.GAMMA = 2.0  # focusing, >= 0
    # mitigation and compensation, >= 0; the least score that divides, > 0
    node.SEESAW = CfgNode({"P": 0.8, "Q": 2.0, "EPS": 0.01})
    # slope and centre of the weights; gain of positives, >= 0
    node.EQLV2 = CfgNode({"GAMMA": 12.0, "MU": 0.8, "ALPHA": 4.0})
    node.ECM = CfgNode({"BACKGROUND_RATIO": 6.3313})  # background ROIs for each object, > 0
    node.GUMBEL = CfgNode()
    node.GUMBEL.BIAS = -2.0  # of the classifier at the start
    # Of classes with a smaller share of the objects, negatives are dropped (DropLoss); 0.0: of none. The authors' is a
    # share of the images of LVIS. In [0, 1].
    node.GUMBEL.DROP_SHARE = 0.0011
    node.LOGIT_ADJUSTMENT = CfgNode()
    node.LOGIT_ADJUSTMENT.TAU = 1.0
    node.LOGIT_ADJUSTMENT.POST_HOC = False  # True: plain cross-entropy, the adjustment at test
    node.LDAM = CfgNode()
    node.LDAM.MAX_MARGIN = 0.5  # of the rarest class, in cosines, > 0
    node.LDAM.SCALE = 30.0  # > 0
    node.LDAM.REWEIGHT_FROM = 1.0  # DRW: part of the schedule after which classes are weighted, in [0, 1]; 1.0: never
    node.LDAM.REWEIGHT_BETA = 0.9999  # in [0, 1)
    node.NORCAL = CfgNode({"GAMMA": 0.6})  # in [0, 1]; to be tuned: the authors' code has 0, no calibration
    node.FRACAL = CfgNode()
    node.FRACAL.LAMBDA = 2.0
    # Of each class, in the order of the model's classes, its fractal dimension and the share of the images that show
    # it, [[1.7, 0.4], ...], or the dimension alone, [1.7, ...]; what is not given is measured on DATASETS.TRAIN
    node.FRACAL.DIMENSIONS = []
