"""Several workers on CPUs: gloo, one model, the gradients of one worker with the whole batch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reg_d2.data.catalog import REPOSITORY
from reg_d2.engine import check_workers, launch
from reg_d2.engine.hooks import InterruptSaver

from ..modeling.test_switches import BALANCE, COSINE, LEARNED, SIGMOID, UNCERTAIN
from .running import command, run

EVERYTHING = 4096
LEARNED_LAMBDA = ["MODEL.REG.LAMBDA.LEARNED", True]


# As many objects in each image (Detectron2 divides the box regression by a worker's own number of ROIs), but not as
# many of each class, nor with masks, which class 2 does not have.
IMAGES = ([0, 1, 1], [2, 2, 0], [1, 1, 1], [0, 0, 2])


def gradients(rank_and_size, options, images):
    """Losses and gradients of this worker's share of a batch of four images, averaged over the workers."""
    from detectron2.utils.events import EventStorage
    from torch.nn.parallel import DistributedDataParallel

    from ..models import batch, tiny_model

    rank, size = rank_and_size
    # All anchors and proposals are sampled, so that chance has no part in it; no statistics over a worker's batch.
    model = tiny_model(
        *options,
        *("MODEL.RESNETS.NORM", "FrozenBN"),
        *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", EVERYTHING, "MODEL.RPN.POSITIVE_FRACTION", 1.0),
        *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", EVERYTHING, "MODEL.ROI_HEADS.POSITIVE_FRACTION", 1.0),
    )
    inputs = batch(*images)
    share = len(inputs) // size
    inputs = inputs[rank * share : (rank + 1) * share]
    wrapped = DistributedDataParallel(model, broadcast_buffers=False) if size > 1 else model
    with EventStorage():
        losses = wrapped(inputs)
    sum(losses.values()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def worker(path, *arguments):
    from detectron2.utils import comm

    found = gradients((comm.get_rank(), comm.get_world_size()), *arguments)
    torch.save(found, f"{path}/{comm.get_rank()}.pt")


@pytest.mark.parametrize(
    ("options", "images"),
    [
        ([], IMAGES),
        (SIGMOID, IMAGES),
        ([*UNCERTAIN, *BALANCE, *COSINE, *LEARNED, *LEARNED_LAMBDA], IMAGES),
        (LEARNED_LAMBDA, ([0, 1, 1], [1, 0, 0], [2, 2, 2], [2, 2, 2])),
    ],
    ids=["softmax", "sigmoid", "switches", "one without masks"],
)
def test_two_workers_have_the_gradients_of_one_with_the_whole_batch(tmp_path, options, images):
    launch(worker, 2, device="cpu", args=(str(tmp_path), options, images))
    two = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    one = gradients((0, 1), options, images)
    assert set(one) == set(two[0]) == set(two[1])
    for name, gradient in one.items():
        assert torch.equal(two[0][name], two[1][name]), name
        torch.testing.assert_close(two[0][name], gradient, rtol=1e-3, atol=1e-5 * gradient.abs().max().item() + 1e-8)
    assert one["roi_heads.box_predictor.cls_score.weight"].abs().sum() > 0
    assert one["roi_heads.mask_head.predictor.weight"].abs().sum() > 0


def test_training_with_two_processes(workspace, tmp_path):
    done = run(workspace, "--num-gpus", "2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "results.json").exists()
    assert (tmp_path / "out" / "log.txt.rank1").exists()


def test_training_under_torchrun(workspace, tmp_path):
    arguments = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line = [sys.executable, *arguments, *command(workspace)[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "results.json").exists()


def stopping(path):
    """A worker that is told to stop, with a checkpoint that takes long to write."""
    from detectron2.utils import comm

    class Slow:
        def save(self, name, **_):
            time.sleep(3.0)
            (Path(path) / name).write_text("saved")

    saver = InterruptSaver(Slow())
    saver.trainer = SimpleNamespace(iter=1, model=torch.nn.Linear(1, 1))
    saver.before_train()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(InterruptSaver.SAME_SECONDS + comm.get_rank())  # as long as a step may take
    saver.after_step()


def test_a_stop_waits_until_the_state_is_saved(tmp_path):
    """torch ends all workers when the first has left."""
    with pytest.raises(SystemExit) as stopped:
        launch(stopping, 2, device="cpu", args=(str(tmp_path),))
    assert stopped.value.code == 130
    assert (tmp_path / "model_interrupted").read_text() == "saved"


def test_an_error_of_a_worker_reaches_the_caller_as_one_line(workspace):
    done = run(workspace, "--num-gpus", "2", options=["DATASETS.TEST", "('tiny_vall',)"])
    assert done.returncode == 2
    assert done.stderr.count("Did you mean 'tiny_val'") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_workers": 0, "device": "cpu"}, "--num-gpus 0"),
        ({"num_workers": 1, "device": "cpu", "num_machines": 2, "machine_rank": 2}, "--machine-rank 2"),
        ({"num_workers": 1, "device": "cpu", "num_machines": 2}, "tcp://HOST:PORT"),
        ({"num_workers": 4096, "device": "cuda"}, "MODEL.DEVICE cpu"),
    ],
)
def test_what_cannot_be_launched_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_workers(**arguments)
