"""Checkpoints that are whole or not there, and what they hold beside Detectron2's own: classes, counts, box loss."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from ..data.coco import ClassInfo, ClassMismatchError, check_same_classes
from ..evaluation.results import replace_text

# Their scores are softmax(z) of the same C + 1 outputs, so that each evaluates the other's checkpoints.
SOFTMAX = ("cross_entropy", "reg")
# Of Detectron2's PeriodicCheckpointer, after the last step.
FINAL = "model_final.pth"
NOT_RESUMED = (
    "--resume continues a run as it was. To start from its weights instead, leave --resume out, name the checkpoint in "
    "MODEL.WEIGHTS and choose another OUTPUT_DIR"
)


@dataclass(frozen=True)
class ClassRecord:
    """A checkpointable that stores the class list, and refuses a checkpoint of another one (``users.md``, 4 and 5).

    Attributes:
        classes: names and counts of the training set.
        sampled_counts: C objects and C objects with a mask that a pass of the sampler showed (``SAMPLED_BOX_COUNTS``,
            ``SAMPLED_MASK_COUNTS``), both empty without resampling; None: not known, an older checkpoint.
        box_loss: of ``settings.box_loss_name``; None: not known, an older checkpoint.
    """

    classes: ClassInfo
    sampled_counts: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    box_loss: str | None = None

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "ClassRecord":
        """Of what :meth:`state_dict` gave, in this version or an earlier one."""
        classes = ClassInfo(*(tuple(state[k]) for k in ("names", "box_counts", "mask_counts")))
        sampled = None
        if "sampled_box_counts" in state:
            sampled = tuple(state["sampled_box_counts"]), tuple(state["sampled_mask_counts"])
        return cls(classes, sampled, state.get("box_loss"))

    def state_dict(self) -> dict[str, Any]:
        """Plain lists and a str, so that the file loads with ``weights_only``."""
        c = self.classes
        state = {"names": list(c.names), "box_counts": list(c.box_counts), "mask_counts": list(c.mask_counts)}
        if self.sampled_counts is not None:
            state["sampled_box_counts"], state["sampled_mask_counts"] = map(list, self.sampled_counts)
        if self.box_loss is not None:
            state["box_loss"] = self.box_loss
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare; nothing is loaded.

        Raises:
            ClassMismatchError: other names, or the same in another order.
            ValueError: another box loss.
        """
        names = tuple(state["names"])
        check_same_classes(self.classes.names, names, "this run", "the checkpoint")
        if names != self.classes.names:
            raise ClassMismatchError(
                f"this run and the checkpoint have the same classes in another order:\n  {list(self.classes.names)}\n"
                f"  {list(names)}\nResume on the data set that the checkpoint was trained on."
            )
        trained = state.get("box_loss")
        if not self._takes(trained):
            raise ValueError(
                f"the checkpoint was trained with the box loss {trained!r}, and this run's is {self.box_loss!r}: "
                f"{NOT_RESUMED}"
            )

    @property
    def _taken(self) -> tuple[str | None, ...]:
        """The box losses whose outputs mean what they mean here."""
        return SOFTMAX if self.box_loss in SOFTMAX else (self.box_loss,)

    def _takes(self, trained: str | None) -> bool:
        """Whether a checkpoint of a box loss is taken; of an older one (None) it is not known."""
        return trained in (None, *self._taken)

    def check_box_loss(self, trained: "ClassRecord", path: str, loss: str) -> None:
        """Refuse to evaluate a checkpoint whose box outputs mean something else than this run takes them for.

        Args:
            trained: of the checkpoint; one that does not know its loss passes.
            path, loss: of the checkpoint, and ``MODEL.REG.BOX.LOSS`` of this run, for the message.

        Raises:
            ValueError: another loss; not between cross-entropy and REG with softmax, whose scores are made alike.
        """
        if self._takes(trained.box_loss):
            return
        raise ValueError(
            f"{path} was trained with the box loss {trained.box_loss!r}, and MODEL.REG.BOX.LOSS {loss!r} of the config "
            f"takes checkpoints of {' or '.join(self._taken)}: give the config.yaml that the training wrote beside it "
            "(--config-file), or another checkpoint"
        )


class AtomicCheckpointer(DetectionCheckpointer):
    """Detectron2's, whose files have their names only once they are whole.

    Detectron2 writes into place: a kill, or a full disk, during the second checkpoint leaves neither, and an empty
    ``last_checkpoint`` that no run can continue from.
    """

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<name>.pth`` into ``save_dir`` and tag it as the last, on the main worker.

        Args:
            name: without suffix.
            kwargs: stored beside the model and the checkpointables.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
        content |= {key: part.state_dict() for key, part in self.checkpointables.items()}
        path = Path(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        # One name for all processes: what a killed one has left is written over by the next.
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            torch.save(content | kwargs, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write into ``last_checkpoint`` which file is the last."""
        replace_text(Path(self.save_dir, "last_checkpoint"), last_filename_basename)
