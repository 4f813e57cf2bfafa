"""Two workers have the loss, the gradients and the statistics of one with the whole batch."""

from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils.events import EventStorage

C, STEPS = 3, 3
# Unequal shares: the first worker has two thirds of the rows, the second none of class 2.
TARGETS = torch.tensor([0, 1, 2, 3, 0, 3, 3, 2, 0, 3, 1, 3])
SHARES = (slice(0, 8), slice(8, 12))


def losses():
    from projects.longtail_losses.margins import LDAM, LogitAdjustment
    from projects.longtail_losses.one_vs_all import Gumbel, SigmoidBCE, SigmoidFocal
    from projects.longtail_losses.seesaw import Seesaw
    from projects.longtail_losses.with_background import ECM, EQLv2

    counts = torch.tensor([60.0, 30.0, 10.0])
    return {
        "bce": (C, SigmoidBCE(num_classes=C, bias=0.0)),
        "focal": (C, SigmoidFocal(num_classes=C, bias=0.0, alpha=0.25, gamma=2.0, momentum=0.9)),
        "gumbel": (C, Gumbel(num_classes=C, bias=0.0, rare=torch.zeros(C, dtype=torch.bool))),
        "droploss": (C, Gumbel(num_classes=C, bias=0.0, rare=torch.tensor([False, False, True]))),
        "seesaw": (C + 2, Seesaw(num_classes=C, p=0.8, q=2.0, eps=0.01, temperature=0.0)),
        "eqlv2": (C + 1, EQLv2(num_classes=C, gamma=12.0, mu=0.8, alpha=4.0)),
        "ecm": (C + 1, ECM(num_classes=C, counts=counts, background_ratio=6.0, temperature=0.0)),
        "adjusted": (C + 1, LogitAdjustment(num_classes=C, counts=counts, tau=1.0, post_hoc=False)),
        "ldam": (C + 1, LDAM(num_classes=C, counts=counts, max_margin=0.5, scale=30.0, reweight_from=0)),
    }


def steps(rows):
    """Of each loss: values and gradients of all steps on some rows of the batch, and the buffers at the end."""
    found = {}
    with EventStorage():
        for name, (columns, loss) in losses().items():
            values, gradients = [], []
            for step in range(STEPS):
                z = torch.randn(len(TARGETS), columns, generator=torch.Generator().manual_seed(step)) * 3
                z = z[rows].requires_grad_()
                # What DropLoss draws for a row, whoever has it.
                drawn = torch.rand(len(TARGETS), C, generator=torch.Generator().manual_seed(step))[rows]
                with mock.patch.object(torch, "rand_like", return_value=drawn):
                    value = loss(z, TARGETS[rows])
                value.backward()
                values.append(value.detach())
                gradients.append(z.grad)
            found[name] = values, gradients, dict(loss.named_buffers())
    return found


def worker(rank, folder):
    # Not launch: importing reg_d2.engine twice takes longer than all the rest.
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.set_num_threads(1)
    try:
        torch.save(steps(SHARES[rank]), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_workers_are_one(tmp_path):
    mp.spawn(worker, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    whole = steps(slice(None))
    for name, (values, gradients, buffers) in whole.items():
        for step in range(STEPS):
            mean = (first[name][0][step] + second[name][0][step]) / 2
            assert mean.item() == pytest.approx(values[step].item(), rel=1e-4), (name, step)
            # Workers average their gradients.
            joined = torch.cat([first[name][1][step], second[name][1][step]]) / 2
            torch.testing.assert_close(joined, gradients[step], rtol=1e-4, atol=1e-7)
        for key, value in buffers.items():
            assert torch.equal(first[name][2][key], second[name][2][key]), (name, key)
            expected = value / 2 if key == "foreground_mean" else value  # the foreground ROIs of one worker
            torch.testing.assert_close(first[name][2][key], expected, rtol=1e-4, atol=1e-6)
    assert whole["seesaw"][2]["seen"].tolist() == [9, 6, 6]
    assert (whole["eqlv2"][2]["negative_gradient"] > 0).all()
    # Two of seven objects are of the rare class: the background's negatives of it are dropped and kept.
    background = torch.stack(whole["droploss"][1])[:, TARGETS == C, 2]
    assert (background == 0).any() and (background != 0).any()
