"""The trainer: Detectron2's, with workers on CPUs, a step that names what went wrong, and REG's evaluation."""

import logging
import os
import time
import weakref

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultTrainer, SimpleTrainer, TrainerBase
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel

from ..data.bad_images import SkipBadImages
from ..data.loader import TrainLoader, build_test_loader, build_train_loader, stream_seed
from ..data.mapper import REGDatasetMapper
from ..optim import build_optimizer
from .checkpoint import FINAL, NOT_RESUMED, AtomicCheckpointer
from .cost import CostRecorder
from .evaluate import evaluate
from .hooks import InterruptSaver, MemoryLog, ProgressBar, StuckStep, quiet_terminal
from .nonfinite import NonFiniteLossError, nonfinite_error
from .predictor import load_weights
from .setup import checkpoint_record, fast_layout, get_record

logger = logging.getLogger(__name__)


class TrainStep(SimpleTrainer):
    """One step of plain or mixed-precision training; stops before a non-finite loss reaches the weights."""

    def __init__(self, model, data_loader, optimizer, amp: bool = False, seed: int = -1, folder: str | None = None):
        """
        Args:
            model, data_loader, optimizer: as in Detectron2's SimpleTrainer.
            amp: mixed precision: float16 with a gradient scaler on CUDA, bfloat16 on a CPU that has it.
            seed: >= 0: what a step draws depends on the seed, the worker and the step alone, so that a resumed run
                draws the same.
            folder: where a batch goes whose loss is not finite; None: nowhere.
        """
        super().__init__(model, data_loader, optimizer)
        self.seed, self.folder = seed, folder
        self.device_type = next(model.parameters()).device.type
        self.amp = amp and (self.device_type == "cuda" or _cpu_has_bfloat16())
        self.grad_scaler = torch.amp.GradScaler(self.device_type, enabled=amp and self.device_type == "cuda")

    def run_step(self):
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        if self.seed >= 0:
            torch.manual_seed(stream_seed(self.seed, comm.get_rank(), self.iter))
        try:
            with torch.autocast(self.device_type, enabled=self.amp):
                loss_dict = self.model(data)
        except FloatingPointError as error:  # Detectron2's, of proposals that are not finite
            raise self._nonfinite(data, {}, str(error)) from error
        total = sum(loss_dict.values())
        if not torch.isfinite(total):
            raise self._nonfinite(data, {name: value.item() for name, value in loss_dict.items()})
        self.optimizer.zero_grad()
        self.grad_scaler.scale(total).backward()
        self._write_metrics(loss_dict, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _nonfinite(self, data, losses, cause="") -> NonFiniteLossError:
        rates = [group["lr"] for group in self.optimizer.param_groups]
        return nonfinite_error(data, losses, rates, self.iter, self.folder, cause)

    def state_dict(self):
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict.get("grad_scaler", {}))


def _cpu_has_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16; where it has to emulate that, full precision is faster."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    if not supported:
        logger.warning("SOLVER.AMP.ENABLED: this CPU has no bfloat16 instructions, training in float32")
    return supported


def _scaled(cfg):
    """The config for the number of workers that there are (``SOLVER.REFERENCE_WORLD_SIZE``); says what has changed."""
    workers = comm.get_world_size()
    scaled = DefaultTrainer.auto_scale_workers(cfg, workers)
    if scaled is not cfg:
        keys = ("IMS_PER_BATCH", "BASE_LR", "WARMUP_ITERS", "MAX_ITER", "STEPS", "CHECKPOINT_PERIOD")
        changes = ", ".join(f"{key} {cfg.SOLVER[key]} -> {scaled.SOLVER[key]}" for key in keys)
        made_for = cfg.SOLVER.REFERENCE_WORLD_SIZE
        logger.info(f"Made for {made_for} workers (SOLVER.REFERENCE_WORLD_SIZE), scaled to {workers}: {changes}")
    return scaled


class REGTrainer(DefaultTrainer):
    """Detectron2's default trainer with REG's data, step, evaluation and checkpoints."""

    def __init__(self, cfg):
        # Not DefaultTrainer's own __init__: its DDP call and its mixed precision know CUDA only.
        TrainerBase.__init__(self)
        cfg = _scaled(cfg)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        if comm.get_world_size() > 1:
            devices = [comm.get_local_rank()] if cfg.MODEL.DEVICE.startswith("cuda") else None
            model = DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)
        self._trainer = TrainStep(
            model, data_loader, optimizer, amp=cfg.SOLVER.AMP.ENABLED, seed=cfg.SEED, folder=cfg.OUTPUT_DIR
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = AtomicCheckpointer(
            model, cfg.OUTPUT_DIR, classes=get_record(cfg), trainer=weakref.proxy(self)
        )
        self.start_iter, self.max_iter, self.cfg = 0, cfg.SOLVER.MAX_ITER, cfg
        self.register_hooks(self.build_hooks())

    def build_hooks(self):
        """Detectron2's, a progress bar in a terminal, a checkpoint on Ctrl-C or SIGTERM, memory, cost, and a watch."""
        # The watch comes first, so that it looks at the step alone; memory before the hooks that write its numbers.
        first = [StuckStep(), MemoryLog()]
        last = [ProgressBar(), CostRecorder(self.cfg.OUTPUT_DIR), InterruptSaver(self.checkpointer)]
        return [*first, *super().build_hooks(), *last]

    def resume_or_load(self, resume: bool = True) -> None:
        """As Detectron2's; says where it starts from."""
        if not resume and self.checkpointer.has_checkpoint():
            logger.warning(f"{self.cfg.OUTPUT_DIR} holds a checkpoint, which this run replaces; --resume continues it")
        super().resume_or_load(resume)
        self._trainer.data_loader.start = self.start_iter
        source = self.cfg.MODEL.WEIGHTS or "random weights"
        if resume and self.checkpointer.has_checkpoint():
            source = self.checkpointer.get_checkpoint_file()
        rate = self.optimizer.param_groups[0]["lr"]
        logger.info(f"Starting from {source} at iteration {self.start_iter} of {self.max_iter}, learning rate {rate:g}")
        if self.start_iter >= self.max_iter:
            if resume and os.path.basename(source) != FINAL:  # killed after its last step, before that was written
                self.checkpointer.save(FINAL.removesuffix(".pth"), iteration=self.iter)
            logger.warning("This run is finished: only its evaluation is repeated. Raise SOLVER.MAX_ITER to go on")

    def state_dict(self) -> dict:
        """Iteration, hooks, and the step's optimiser and gradient scaler, which Detectron2 0.6 leaves out."""
        return {**TrainerBase.state_dict(self), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        TrainerBase.load_state_dict(self, state_dict)
        try:
            self._trainer.load_state_dict(state_dict["_trainer"])
        except ValueError as error:
            raise ValueError(
                f"the checkpoint's optimiser does not fit this config ({error}): it was written under other switches, "
                f"and {NOT_RESUMED}"
            ) from None

    def train(self):
        """Run training; in a terminal the progress bar stands in for the lines that go to the log file."""
        with quiet_terminal():
            return super().train()

    @classmethod
    def build_model(cls, cfg):
        return fast_layout(super().build_model(cfg), cfg)

    @classmethod
    def build_optimizer(cls, cfg, model):
        """Detectron2's optimiser, with the methods of E13 and E14 where the config turns them on."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg) -> TrainLoader:
        mapper = SkipBadImages(REGDatasetMapper(cfg, is_train=True), cfg.DATALOADER.MAX_BAD_IMAGES)
        return build_train_loader(cfg, mapper)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        """Evaluate on ``DATASETS.TEST``: see :func:`reg_d2.engine.evaluate.evaluate`."""
        return evaluate(cfg, model, cls.build_test_loader, evaluators)


def evaluate_checkpoint(cfg) -> dict:
    """``--eval-only``: the weights of ``MODEL.WEIGHTS`` on ``DATASETS.TEST``.

    Of a checkpoint of our training all weights must be those of the model; of another tool's file, what fits is taken.

    Raises:
        ClassMismatchError: the checkpoint was trained on other classes than the config has.
        ValueError: the checkpoint is of another box loss, or its weights do not fit the config.
    """
    model = REGTrainer.build_model(cfg)
    if checkpoint_record(cfg.MODEL.WEIGHTS) is None:
        DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    else:
        load_weights(model, cfg)
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    return REGTrainer.test(cfg, model)
