"""Every configuration key that reg_d2 adds to Detectron2's."""

from detectron2.config import CfgNode


def add_reg_config(cfg: CfgNode) -> None:
    """Add reg_d2's keys, with their defaults, to a Detectron2 config in place."""
    # Packages of projects/, or other modules, that are imported before the rest of a config is read: they register more
    # losses, and add keys of their own.
    cfg.PROJECTS = []
    _add_data_keys(cfg)
    _add_solver_keys(cfg)
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
    # The classifier's rows on the unit sphere, with a learned temperature: a cosine classifier (E13).
    cfg.MODEL.REG.BOX.COSINE = CfgNode()
    cfg.MODEL.REG.BOX.COSINE.ENABLED = False
    cfg.MODEL.REG.BOX.COSINE.TEMPERATURE = 20.0  # factor on the cosine at the start, > 0

    cfg.MODEL.REG.MASK = _loss_node()
    # The best for masks of docs/results.md: the weights of E9, in a loss that keeps its size.
    cfg.MODEL.REG.MASK.CLASS_WEIGHT.SCHEME = "inverse_frequency"
    # pixels: the number of pixels (E2); weights: the sum of their class weights
    cfg.MODEL.REG.MASK.DIVISOR = "weights"
    cfg.MODEL.REG.MASK.UNCERTAINTY.OUTPUT_STD = False  # at inference, the standard deviation of each mask pixel
    _add_sampling_keys(cfg)


def _loss_node() -> CfgNode:
    """The keys that the box head's and the mask head's loss have in common."""
    node = CfgNode()
    # reg | cross_entropy (Detectron2's own loss) | for boxes, what one of the PROJECTS registers. Of this node only
    # COSINE acts on any but reg.
    node.LOSS = "reg"
    node.GAMMA = 0.0  # focusing parameter, >= 0 (E1)
    node.NEGATIVE_WEIGHT = 1.0  # weight of negatives (sigmoid, mask pixels) or of background rows (softmax)
    node.CLASS_WEIGHT = CfgNode()
    # inverse_frequency | sqrt_inverse_frequency | effective_number | uniform | list (E10); from the training set's
    # own counts: the box head's from the boxes, the mask head's from the masks
    node.CLASS_WEIGHT.SCHEME = "effective_number"
    node.CLASS_WEIGHT.NORMALIZE = True  # to mean 1 over the classes: raw 73x weights blow the box head up
    node.CLASS_WEIGHT.EFFECTIVE_NUMBER_BETA = 0.999
    # of the scheme `list`: one weight a class, in the order of the training file's category ids; for the mask head
    # the classes with masks only
    node.CLASS_WEIGHT.VALUES = []
    # late re-weighting: share of the schedule before which every class weighs 1, in [0, 1); not with PRIMAL_DUAL
    node.CLASS_WEIGHT.START = 0.0
    node.REFINEMENT = CfgNode()
    node.REFINEMENT.ENABLED = True  # g of E4; False: g = 1
    # near | far | split (E4). near gives images without objects no weight in the box classifier: nothing is near.
    node.REFINEMENT.DIRECTION = "near"
    node.REFINEMENT.BETA = 10.0  # sharpness, >= 0
    node.REFINEMENT.DELTA = 0.15  # distance at which g is 1/2, in image (boxes) or ROI (masks) diagonals
    node.REFINEMENT.FLOOR = 0.0  # the least g, in [0, 1]: f + (1 - f) g
    node.REFINEMENT.RENORMALIZE = True  # g to mean 1 over the batch
    node.REFINEMENT.START = 0.0  # share of the schedule before which g = 1, in [0, 1)
    # beta and delta of each class are learned, from the values above, under SOLVER.PROXIMAL (E14)
    node.REFINEMENT.LEARNED = False
    node.UNCERTAINTY = _uncertainty_node()
    # Class weights a_c + mu_c, with multipliers mu_c by dual ascent on the classes' mean losses (E12).
    node.PRIMAL_DUAL = CfgNode()
    node.PRIMAL_DUAL.ENABLED = False
    node.PRIMAL_DUAL.RATE = 0.01  # of the dual ascent, >= 0
    node.PRIMAL_DUAL.MOMENTUM = 0.95  # of the running mean of a class's loss, in [0, 1)
    return node


def _uncertainty_node() -> CfgNode:
    """Prediction uncertainty (E6, E7) and the variational free energy (E8)."""
    node = CfgNode()
    node.ENABLED = False
    node.DISTRIBUTION = "logit"  # logit: a Gaussian on the logit; truncated: on the probability (E6; sigmoid, masks)
    node.METHOD = "probit"  # probit | quadrature | monte_carlo: how p_hat is computed (E7)
    node.NUM_SAMPLES = 16  # of monte_carlo
    node.INITIAL_LOG_VARIANCE = -4.0  # log sigma^2 at the start, in [-10, 5]
    node.FREE_ENERGY = CfgNode()
    node.FREE_ENERGY.ENABLED = False  # True: E_q[loss] + WEIGHT KL(q || prior) in place of the loss at p_hat
    node.FREE_ENERGY.WEIGHT = 0.01
    node.FREE_ENERGY.WARMUP_ITERS = 200  # over which WEIGHT grows from 0
    node.FREE_ENERGY.PRIOR_STD = 2.0  # s0 of the prior N(logit(pi_c), s0^2)
    node.FREE_ENERGY.METHOD = "monte_carlo"  # monte_carlo | quadrature (not with softmax): how E_q is computed
    node.FREE_ENERGY.NUM_SAMPLES = 4  # of monte_carlo; of quadrature, the number of nodes
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
    cfg.TEST.REPORT = True  # write report.html beside results.json


def _add_solver_keys(cfg: CfgNode) -> None:
    # Learning rate of parameters on a manifold, over that of the others (E13): a step on the unit sphere turns a row
    # less than the same step turns a row of a linear layer, which is shorter than 1 at the start.
    cfg.SOLVER.MANIFOLD_LR_FACTOR = 1.0
    # After each step of the optimiser, the proximal operator of a penalty at the parameter's own learning rate (E14).
    cfg.SOLVER.PROXIMAL = CfgNode()
    # Learned beta_c, delta_c (REFINEMENT.LEARNED): l1 distance to their start, beta >= 0 and delta in [0, 1] kept.
    # With 0.001, delta runs to the ends of its box, where g weighs what is easy: 16 mask AP in place of 35 on highway.
    cfg.SOLVER.PROXIMAL.REFINEMENT_L1 = 0.1
    cfg.SOLVER.PROXIMAL.REFINEMENT_LR_FACTOR = 10.0  # their learning rate over SOLVER.BASE_LR
    # Penalties on any other parameters whose full name matches one of these regular expressions.
    cfg.SOLVER.PROXIMAL.PARAMETERS = []
    cfg.SOLVER.PROXIMAL.L1 = 0.0  # weight of the sum of |value|
    cfg.SOLVER.PROXIMAL.GROUP_L1 = 0.0  # weight of the sum of the norms of rows (all but the first dimension)


def _add_sampling_keys(cfg: CfgNode) -> None:
    """How often each training image is drawn, and how it is changed when it is; by default all stays as it is."""
    node = cfg.DATALOADER.SAMPLING = CfgNode()
    # uniform | repeat_factor (images of rare classes more often: Gupta et al., LVIS, 2019) | class_aware (every class
    # as often as any other: Shen et al., Relay Backpropagation, 2016); repeat_factor gives way to a SAMPLER_TRAIN other
    # than TrainingSampler
    node.METHOD = "uniform"
    # repeat_factor: a class that is in a smaller share of the images than this is repeated; 0.0: the median over the
    # classes, so that the rarer half is
    node.THRESHOLD = 0.0
    node.POWER = 0.5  # repeat_factor: (threshold / share of the images) ** POWER times, >= 0
    node.EMPTY_IMAGES = "keep"  # keep | drop | ratio: training images without objects
    node.EMPTY_RATIO = 0.1  # of ratio: their share of what is drawn, in [0, 1)
    # Objects that one pass of the sampler is expected to show, copies included, where images are not drawn alike: what
    # class weights are computed from then. Filled by engine.setup, or from a checkpoint; not to be typed by hand.
    cfg.MODEL.REG.SAMPLED_BOX_COUNTS = []
    cfg.MODEL.REG.SAMPLED_MASK_COUNTS = []

    node = cfg.INPUT.AUGMENTATION = CfgNode()
    # Resized by a factor drawn from RANGE (log-uniformly) beside INPUT.MIN_SIZE_TRAIN, and cropped to the usual size.
    node.SCALE_JITTER = CfgNode({"ENABLED": False, "RANGE": [0.5, 2.0]})
    # Each of these changes an image with its PROBABILITY; 0.0: never.
    node.LIGHTING = CfgNode({"PROBABILITY": 0.0, "STRENGTH": 0.4})  # of brightness, contrast, saturation; hue a tenth
    node.BLUR = CfgNode({"PROBABILITY": 0.0, "SIGMA": [0.3, 1.5]})  # pixels of what the model sees
    node.FOG = CfgNode({"PROBABILITY": 0.0, "STRENGTH": [0.2, 0.7]})  # share of fog in the colour of far away, [0, 1]
    node.RAIN = CfgNode({"PROBABILITY": 0.0, "STRENGTH": [0.2, 1.0]})  # density of the streaks, (0, 1]
    # Objects of rare classes cut out of other training images and pasted where their class has been (needs masks).
    node.COPY_PASTE = CfgNode({"PROBABILITY": 0.0})
    node.COPY_PASTE.MAX_OBJECTS = 3  # pasted into one image: 1 to so many
    node.COPY_PASTE.CLASSES = []  # names; none: those with masks that are rarer than the median class
