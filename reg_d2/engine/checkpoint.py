"""What a checkpoint holds beside Detectron2's own: the model's class list, and the counts that it was trained with."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..data.coco import ClassInfo, ClassMismatchError, check_same_classes


@dataclass(frozen=True)
class ClassRecord:
    """A checkpointable that stores the class list, and refuses a checkpoint of another one (``users.md``, 4 and 5).

    Attributes:
        classes: names and counts of the training set.
        sampled_counts: C objects and C objects with a mask that a pass of the sampler showed (``SAMPLED_BOX_COUNTS``,
            ``SAMPLED_MASK_COUNTS``), both empty without resampling; None: not known, an older checkpoint.
    """

    classes: ClassInfo
    sampled_counts: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @classmethod
    def from_state(cls, state: Mapping[str, list]) -> "ClassRecord":
        """Of what :meth:`state_dict` gave, in this version or an earlier one."""
        classes = ClassInfo(*(tuple(state[k]) for k in ("names", "box_counts", "mask_counts")))
        sampled = None
        if "sampled_box_counts" in state:
            sampled = tuple(state["sampled_box_counts"]), tuple(state["sampled_mask_counts"])
        return cls(classes, sampled)

    def state_dict(self) -> dict[str, list]:
        """Plain lists, so that the file loads with ``weights_only``."""
        c = self.classes
        state = {"names": list(c.names), "box_counts": list(c.box_counts), "mask_counts": list(c.mask_counts)}
        if self.sampled_counts is not None:
            state["sampled_box_counts"], state["sampled_mask_counts"] = map(list, self.sampled_counts)
        return state

    def load_state_dict(self, state: Mapping[str, list]) -> None:
        """Compare; nothing is loaded.

        Raises:
            ClassMismatchError: other names, or the same in another order.
        """
        names = tuple(state["names"])
        check_same_classes(self.classes.names, names, "this run", "the checkpoint")
        if names != self.classes.names:
            raise ClassMismatchError(
                f"this run and the checkpoint have the same classes in another order:\n  {list(self.classes.names)}\n"
                f"  {list(names)}\nResume on the data set that the checkpoint was trained on."
            )
