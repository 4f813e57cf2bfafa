"""The training stream: what a batch holds depends on the seed and its number, and on nothing else."""

import multiprocessing
import subprocess
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from reg_d2.data.loader import SeededDataset, TrainLoader, stream_seed


class Draws(Dataset):
    """What an augmentation would draw for an image."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, np.random.rand(), torch.rand(()).item()


class Endless:
    def __iter__(self):
        generator = torch.Generator().manual_seed(5)
        while True:
            yield from torch.randperm(10, generator=generator).tolist()


WIDE = [i % 3 == 0 for i in range(10)]


def batches(number, *, start=0, workers=0, seed=7):
    loader = TrainLoader(SeededDataset(Draws(), seed), Endless(), WIDE, batch_size=2, num_workers=workers)
    loader.start = start
    return list(islice(loader, number))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_later_start_and_any_number_of_workers_give_the_same_batches(workers):
    straight = batches(12)
    assert batches(12, workers=workers) == straight
    assert batches(5, start=7, workers=workers) == straight[7:]


def test_another_seed_draws_otherwise_from_the_same_images():
    a, b = batches(12), batches(12, seed=8)
    assert [[x[0] for x in batch] for batch in a] == [[x[0] for x in batch] for batch in b]
    assert all(x[1] != y[1] and x[2] != y[2] for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True))
    draws = [x[1] for batch in a for x in batch]
    assert len(set(draws)) == len(draws), "an image is augmented anew each time it comes"


def test_wide_and_tall_images_are_not_mixed_and_none_is_lost():
    seen = batches(40)
    assert all(len({WIDE[x[0]] for x in batch}) == 1 for batch in seen)
    counts = np.bincount([x[0] for batch in seen for x in batch], minlength=10)
    assert counts.min() >= 7
    assert counts.max() <= 9


def test_seeds_of_neighbouring_steps_and_workers_differ():
    seeds = {stream_seed(seed, worker, step) for seed in range(5) for worker in range(5) for step in range(40)}
    assert len(seeds) == 1000


def begun(loader):
    """Its stream, the first batch, and the one data worker that was started for it."""
    others = set(multiprocessing.active_children())
    stream = iter(loader)
    first = next(stream)
    (worker,) = set(multiprocessing.active_children()) - others
    return stream, first, worker


def tell(worker, name):
    """Send a signal that is not its trainer's."""
    subprocess.run(["/bin/kill", f"-{name}", str(worker.pid)], check=True)


def test_data_workers_leave_with_their_trainer_and_not_when_the_whole_job_is_told_to_stop():
    stream, first, worker = begun(TrainLoader(SeededDataset(Draws(), 7), Endless(), WIDE, batch_size=2, num_workers=1))
    received = [first]
    for name in ("INT", "TERM", "TERM"):
        tell(worker, name)
        received += islice(stream, 4)  # more than had been fetched ahead
    assert received == batches(13)
    stream.close()
    assert not worker.is_alive(), "torch gives it five seconds to leave by itself"


def test_a_trainer_can_end_a_data_worker_that_is_busy():
    stream, _, worker = begun(TrainLoader(SeededDataset(Draws(), 7), Endless(), WIDE, batch_size=2, num_workers=1))
    worker.terminate()
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(islice(stream, 8))
