"""Every configuration key that reg_d2 adds to Detectron2's."""

from detectron2.config import CfgNode


def add_reg_config(cfg: CfgNode) -> None:
    """Add reg_d2's keys, with their defaults, to a Detectron2 config in place."""
    _add_data_keys(cfg)
    cfg.MODEL.REG = CfgNode()
    _add_class_keys(cfg.MODEL.REG)
    # The joint objective (E5): L = SCALE (lambda L_det + (1 - lambda) L_seg).
    cfg.MODEL.REG.LAMBDA = CfgNode()
    cfg.MODEL.REG.LAMBDA.VALUE = 0.5  # in [0, 1]; the start value does not matter when it is learned
    cfg.MODEL.REG.LAMBDA.LEARNED = False  # True: by homoscedastic uncertainty (Kendall et al. 2018)
    cfg.MODEL.REG.LAMBDA.SCALE = 2.0  # 2: lambda = 0.5 is exactly the usual Mask R-CNN sum

    cfg.MODEL.REG.BOX = _loss_node()
    # softmax: C + 1 logits; sigmoid: C one-vs-all logits. The score at test uses the same (E1).
    cfg.MODEL.REG.BOX.ACTIVATION = "softmax"
    cfg.MODEL.REG.BOX.PRIOR = 0.01  # sigmoid: p of every class at the start, sets the bias (E1)
    # Momentum of the running number of foreground ROIs that divides the sigmoid loss (E1); 0.0: the batch's own.
    cfg.MODEL.REG.BOX.FOREGROUND_MOMENTUM = 0.9
    cfg.MODEL.REG.BOX.REFINEMENT.METRIC = "center"  # center | edge: between which points a distance is measured (E4)

    cfg.MODEL.REG.MASK = _loss_node()
    # pixels: the number of pixels (E2); weights: the sum of their class weights
    cfg.MODEL.REG.MASK.DIVISOR = "pixels"


def _loss_node() -> CfgNode:
    """The keys that the box head's and the mask head's loss have in common."""
    node = CfgNode()
    node.LOSS = "reg"  # reg | cross_entropy (Detectron2's own loss; ignores every other key of this node)
    node.GAMMA = 1.0  # focusing parameter, >= 0 (E1)
    node.NEGATIVE_WEIGHT = 1.0  # weight of negatives (sigmoid, mask pixels) or of background rows (softmax)
    node.CLASS_WEIGHT = CfgNode()
    # inverse_frequency | sqrt_inverse_frequency | effective_number | uniform | list (E10); from the training set's
    # own counts: the box head's from the boxes, the mask head's from the masks
    node.CLASS_WEIGHT.SCHEME = "sqrt_inverse_frequency"
    node.CLASS_WEIGHT.NORMALIZE = True  # to mean 1 over the classes: raw 73x weights blow the box head up
    node.CLASS_WEIGHT.EFFECTIVE_NUMBER_BETA = 0.999
    # of the scheme `list`: one weight a class, in the order of the training file's category ids; for the mask head
    # the classes with masks only
    node.CLASS_WEIGHT.VALUES = []
    node.REFINEMENT = CfgNode()
    node.REFINEMENT.ENABLED = True  # g of E4; False: g = 1
    node.REFINEMENT.DIRECTION = "near"  # near | far | split (E4)
    node.REFINEMENT.BETA = 10.0  # sharpness, >= 0
    node.REFINEMENT.DELTA = 0.15  # distance at which g is 1/2, in image (boxes) or ROI (masks) diagonals
    node.REFINEMENT.RENORMALIZE = True  # g to mean 1 over the batch
    return node


def _add_class_keys(node: CfgNode) -> None:
    # Filled from the training file or from a checkpoint by engine.setup; not to be typed by hand.
    node.CLASS_NAMES = []
    node.BOX_COUNTS = []  # objects of each class in the training set
    node.MASK_COUNTS = []  # of these, objects with a mask; 0: the class has boxes only


def _add_data_keys(cfg: CfgNode) -> None:
    # The catalogue of data sets: a path, looked up from the working directory, then from the repository.
    cfg.DATASETS.CATALOG = "configs/datasets.yaml"
    # Training images that cannot be read are skipped; the run stops at one more than so many (per process of training).
    cfg.DATALOADER.MAX_BAD_IMAGES = 10
