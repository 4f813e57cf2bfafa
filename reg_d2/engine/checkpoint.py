"""What a checkpoint holds beside Detectron2's own: the model's class list."""

from ..data.coco import ClassInfo, ClassMismatchError, check_same_classes


class ClassRecord:
    """A checkpointable that stores the class list, and refuses a checkpoint of another one (``users.md``, 4 and 5)."""

    def __init__(self, classes: ClassInfo):
        self.classes = classes

    def state_dict(self) -> dict[str, list]:
        """Plain lists, so that the file loads with ``weights_only``."""
        c = self.classes
        return {"names": list(c.names), "box_counts": list(c.box_counts), "mask_counts": list(c.mask_counts)}

    def load_state_dict(self, state: dict[str, list]) -> None:
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
