"""The training stream: the same seed gives the same images in the same order with the same augmentations.

That holds for any number of data workers and after ``--resume``: a batch is defined by its number alone, not by the
state of a generator that a restart would lose.
"""

import logging
import os
import random
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data.build import worker_init_reset_seed
from detectron2.data.samplers import RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from .bad_images import MappedList
from .copy_paste import expected_copies
from .mapper import REGDatasetMapper
from .memory import fitting_workers
from .sampling import Sampling, describe, image_draws, object_counts, without_objects

logger = logging.getLogger(__name__)

SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler")


def build_train_loader(cfg: CfgNode, mapper: Callable) -> "TrainLoader":
    """This worker's share of the training stream of ``DATASETS.TRAIN``.

    Raises:
        ValueError: ``DATALOADER.SAMPLER_TRAIN`` is unknown, ``SOLVER.IMS_PER_BATCH`` does not divide by the number of
            workers, or ``DATALOADER.SAMPLING`` is wrong.
    """
    workers = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH < 1 or cfg.SOLVER.IMS_PER_BATCH % workers:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}: expected a positive multiple of the {workers} workers"
        )
    dicts = training_records(cfg, log=True)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    grouping = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    batch_size = cfg.SOLVER.IMS_PER_BATCH // workers
    largest = max(x["height"] * x["width"] for x in dicts)
    draws = image_draws(cfg, dicts)
    logger.info(describe(cfg, dicts, draws))
    box, g = cfg.MODEL.REG.BOX, cfg.MODEL.REG.BOX.REFINEMENT
    if box.LOSS == "reg" and g.ENABLED and g.DIRECTION == "near" and g.FLOOR == 0:
        drawn = True if draws is None else draws.numpy() > 0
        if empty := (without_objects(dicts) & drawn).sum():
            logger.info(
                f"{empty} of {len(dicts)} training images have no object: with MODEL.REG.BOX.REFINEMENT.DIRECTION near "
                "they teach the proposal network alone, not the box classifier, unless FLOOR beside it is above 0 "
                "(docs/equations.md, E4)"
            )
    return TrainLoader(
        SeededDataset(MappedList(DatasetFromList(dicts, copy=False), mapper), stream_seed(seed, comm.get_rank())),
        _sampler(cfg, len(dicts), draws, seed),
        wide=[grouping and x["width"] > x["height"] for x in dicts],
        batch_size=batch_size,
        num_workers=fitting_workers(cfg.DATALOADER.NUM_WORKERS, batch_size, largest, comm.get_local_size()),
    )


def build_test_loader(cfg: CfgNode, name: str) -> DataLoader:
    """This worker's share of data set ``name`` of the catalogue, one image a batch, without augmentation."""
    loader = build_detection_test_loader(cfg, name, mapper=REGDatasetMapper(cfg, is_train=False))
    loader.worker_init_fn = start_data_worker
    return loader


def training_records(cfg: CfgNode, *, log: bool = False) -> list[dict]:
    """Detectron2's dataset dicts of ``DATASETS.TRAIN``, without the images that the training stream leaves out.

    ``log`` has Detectron2 write its table of the classes.
    """
    empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    return get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=empty, check_consistency=log)


def sampled_counts(cfg: CfgNode, records: Sequence[dict]) -> tuple[list[float], list[float]]:
    """Objects, and objects with a mask, of each class that one pass of the training stream shows in expectation.

    Both are empty where that is the data set's own count: no image is drawn more often than another, and nothing is
    pasted. Pasted copies are counted as if each found its place; classes have been filled in.

    Args:
        cfg: the whole config.
        records: of :func:`training_records`.
    """
    draws, copies = image_draws(cfg, records), expected_copies(cfg, records)
    if draws is None and not copies.any():
        return [], []
    draws = np.ones(len(records)) if draws is None else draws.double().numpy()
    counts = [object_counts(records, len(copies), masks) for masks in (False, True)]
    boxes, masks = (draws @ c + copies * draws.sum() for c in counts)
    return boxes.tolist(), masks.tolist()


def resamples(cfg: CfgNode) -> bool:
    """Whether a config may show classes in other shares than the data set has them."""
    return (
        Sampling.from_config(cfg).active
        or cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler"
        or cfg.INPUT.AUGMENTATION.COPY_PASTE.PROBABILITY > 0
    )


class TrainLoader:
    """Endless batches (lists of mapped dicts); ``start`` is the number of the first one, set before iterating.

    Images of one batch are all wide or all tall where ``wide`` tells them apart, which spares padding.
    """

    def __init__(
        self, dataset: Dataset, sampler: Iterable[int], wide: Sequence[bool], batch_size: int, num_workers: int = 0
    ):
        """
        Args:
            dataset: takes pairs (position in the stream, index).
            sampler: an endless stream of indices, the same each time it is iterated.
            wide: one flag an image.
            batch_size: images a batch, of this worker.
            num_workers: processes that load; 0: this one does.
        """
        self.dataset, self.sampler, self.wide = dataset, sampler, wide
        self.batch_size, self.num_workers = batch_size, num_workers
        self.start = 0

    def __iter__(self) -> Iterator[list[dict]]:
        # A generator: the data workers start at the first batch, when `start` is known.
        yield from DataLoader(
            self.dataset,
            batch_sampler=islice(_batches(self.sampler, self.wide, self.batch_size), self.start, None),
            num_workers=self.num_workers,
            collate_fn=_as_list,
            worker_init_fn=start_data_worker,
        )


def start_data_worker(worker_id: int) -> None:
    """The first thing a data worker does: seeds its generators, and leaves the end of a job to its trainer.

    A terminal and some clusters tell every process of a job to stop. The trainer then finishes its step, for which it
    may still need a batch. So the worker ignores SIGINT, and minds SIGTERM from the trainer alone; it leaves when that
    has left, in whatever way.
    """
    worker_init_reset_seed(worker_id)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A handler in Python is not told who sent a signal: the signal stays blocked, and a thread takes it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_leave_with_trainer, args=(os.getppid(),), daemon=True).start()


def _leave_with_trainer(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)


class SeededDataset(Dataset):
    """Seeds the generators that augmentations draw from by an image's position in the stream."""

    def __init__(self, dataset: Dataset, seed: int):
        self._dataset, self._seed = dataset, seed

    def __len__(self):
        return len(self._dataset)

    def __getitem__(self, item: tuple[int, int]):
        position, index = item
        seed = stream_seed(self._seed, position)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return self._dataset[index]


def stream_seed(*numbers: int) -> int:
    """One seed in [0, 2^32) from several numbers >= 0, e.g. (seed, worker, step)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _batches(sampler: Iterable[int], wide: Sequence[bool], batch_size: int) -> Iterator[list[tuple[int, int]]]:
    waiting = {False: [], True: []}
    for position, index in enumerate(sampler):
        group = waiting[wide[index]]
        group.append((position, index))
        if len(group) == batch_size:
            yield group[:]
            group.clear()


def _sampler(cfg: CfgNode, size: int, draws: torch.Tensor | None, seed: int) -> Iterable[int]:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if draws is not None:
        return RepeatFactorTrainingSampler(draws, seed=seed)
    if name == "TrainingSampler":
        return TrainingSampler(size, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        return RandomSubsetTrainingSampler(size, ratio, seed_shuffle=seed, seed_subset=seed)
    raise ValueError(f"DATALOADER.SAMPLER_TRAIN {name!r} is unknown: choose one of {', '.join(SAMPLERS)}")


def _as_list(batch: list) -> list:
    return batch
