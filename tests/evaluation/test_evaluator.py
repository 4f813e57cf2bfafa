"""The Detectron2 evaluator end to end, on one process and on two."""

import json

import reg_d2  # noqa: F401  (before Detectron2, in worker processes too: it bridges what Detectron2 lacks)

# isort: split
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
import torch.multiprocessing as mp
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from reg_d2.evaluation import (
    REGCOCOEvaluator,
    detectron2_metrics,
    evaluate_detections,
    flat_metrics,
    instances_to_coco,
    save_results,
)

from .scenes import CATEGORIES, SIZE, random_scene

IDS = list(CATEGORIES)
MASK_CLASSES = ["pavilion", "sign", "rail"]


def to_instances(detections, with_masks=True):
    """What a model gives: contiguous classes, XYXY boxes, full masks, has_mask false for box-only classes."""
    boxes = torch.tensor([d["bbox"] for d in detections], dtype=torch.float64).reshape(-1, 4)
    result = Instances(SIZE)
    result.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
    result.scores = torch.tensor([d["score"] for d in detections], dtype=torch.float64)
    result.pred_classes = torch.tensor([IDS.index(d["category_id"]) for d in detections], dtype=torch.int64)
    if with_masks:
        empty = np.zeros(SIZE, dtype=np.uint8)
        masks = [mask_util.decode(d["segmentation"]) if "segmentation" in d else empty for d in detections]
        result.pred_masks = torch.from_numpy(np.array(masks).reshape(-1, *SIZE)).bool()
        result.has_mask = torch.tensor(["segmentation" in d for d in detections], dtype=torch.bool)
    return result


def by_image(truth, detections):
    return [(im["id"], [d for d in detections if d["image_id"] == im["id"]]) for im in truth["images"]]


def strip_boxes(detections):
    return [{k: v for k, v in d.items() if k != "bbox"} for d in detections]


def register(name, json_file, **metadata):
    metadata = {"json_file": str(json_file), "mask_classes": MASK_CLASSES} | metadata
    MetadataCatalog.get(name).set(
        thing_classes=list(CATEGORIES.values()),
        thing_dataset_id_to_contiguous_id={c: i for i, c in enumerate(IDS)},
        **{k: v for k, v in metadata.items() if v is not None},
    )


@pytest.fixture
def dataset(tmp_path):
    truth, detections = random_scene(7, box_only_objects=True)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    register("evaluation_scene", tmp_path / "gt.json")
    yield "evaluation_scene", truth, detections
    MetadataCatalog.pop("evaluation_scene")


class Replay(torch.nn.Module):
    """A model that gives back known detections."""

    def __init__(self, detections, with_masks=True):
        super().__init__()
        self.detections, self.with_masks = detections, with_masks

    def forward(self, batch):
        of = lambda i: [d for d in self.detections if d["image_id"] == i]  # noqa: E731
        return [{"instances": to_instances(of(x["image_id"]), self.with_masks)} for x in batch]


def loader(truth):
    return [[{"image_id": im["id"]}] for im in truth["images"]]


def test_end_to_end_equals_the_function_on_the_same_detections(dataset, tmp_path, caplog):
    name, truth, detections = dataset
    evaluator = REGCOCOEvaluator(name, str(tmp_path / "out"))
    results = inference_on_dataset(Replay(detections), loader(truth), evaluator)
    expected = evaluate_detections(truth, detections, mask_classes=MASK_CLASSES)
    assert results is evaluator.results and list(results) == ["bbox", "segm", "segm_boxes"]
    for task in ("bbox", "segm", "segm_boxes"):
        for metric in ("AP", "AP50", "f1", "confidence", "num_detections"):
            assert results[task][metric] == pytest.approx(expected[task][metric], abs=1e-6), (task, metric)
    written = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert len(written) == len(detections)
    # Boxes went through XYXY and back; all else must be as given.
    assert sorted(map(str, strip_boxes(written))) == sorted(map(str, strip_boxes(detections)))
    save_results(tmp_path / "results.json", results)
    evaluator.reset()
    assert evaluator.evaluate()["bbox"]["num_detections"] == 0


def test_model_without_masks_has_box_results_only(dataset):
    name, truth, detections = dataset
    results = inference_on_dataset(Replay(detections, with_masks=False), loader(truth), REGCOCOEvaluator(name))
    assert list(results) == ["bbox"] and results["bbox"]["AP"] > 0


def test_mask_model_that_finds_nothing_still_has_mask_results(dataset):
    name, truth, _ = dataset
    results = inference_on_dataset(Replay([]), loader(truth), REGCOCOEvaluator(name))
    assert [results[t]["AP"] for t in ("bbox", "segm", "segm_boxes")] == [0, 0, 0]


@pytest.mark.parametrize(("mask_classes", "tasks"), [([], ["bbox"]), (None, ["bbox", "segm", "segm_boxes"])])
def test_tasks_follow_the_metadata(dataset, mask_classes, tasks):
    _, truth, detections = dataset
    register("evaluation_other", MetadataCatalog.get("evaluation_scene").json_file, mask_classes=mask_classes)
    results = inference_on_dataset(Replay(detections), loader(truth), REGCOCOEvaluator("evaluation_other"))
    assert list(results) == tasks
    MetadataCatalog.pop("evaluation_other")


def test_detectron2_reads_the_flat_form(dataset, caplog):
    name, truth, detections = dataset
    results = inference_on_dataset(Replay(detections), loader(truth), REGCOCOEvaluator(name))
    flat = detectron2_metrics(results)
    print_csv_format(flat)
    assert all(type(v) is float for task in flat.values() for v in task.values())
    assert flat["bbox"]["AP"] == results["bbox"]["AP"] and "AP-absent" not in flat["bbox"]
    assert flat["bbox"]["AP-sign"] == results["bbox"]["per_class"]["sign"]["AP"]
    metrics = flat_metrics(results)
    assert metrics["segm/f1"] == results["segm"]["f1"] and None not in metrics.values()


def test_instances_to_coco_by_hand():
    instances = Instances((4, 6))
    instances.pred_boxes = Boxes(torch.tensor([[1.0, 1.0, 3.0, 4.0], [0.0, 0.5, 6.0, 4.0]]))
    instances.scores = torch.tensor([0.5, 0.25])
    instances.pred_classes = torch.tensor([1, 0])
    plain = instances_to_coco(instances, 9, [4, 8])
    assert plain == [
        {"image_id": 9, "category_id": 8, "bbox": [1.0, 1.0, 2.0, 3.0], "score": 0.5},
        {"image_id": 9, "category_id": 4, "bbox": [0.0, 0.5, 6.0, 3.5], "score": 0.25},
    ]
    instances.pred_masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    instances.pred_masks[0, 1:4, 1:3] = True
    instances.has_mask = torch.tensor([True, False])
    with_mask, without = instances_to_coco(instances, 9, {0: 4, 1: 8})
    assert json.loads(json.dumps(with_mask)) == with_mask and with_mask["segmentation"]["size"] == [4, 6]
    assert (mask_util.decode(with_mask["segmentation"]) == instances.pred_masks[0].numpy()).all()
    assert without == plain[1]
    with pytest.raises(ValueError, match=r"image 9: predicted classes \[1\], but the data set has 1"):
        instances_to_coco(instances, 9, [4])
    instances.pred_masks = torch.zeros(2, 1, 28, 28)
    with pytest.raises(ValueError, match=r"image 9: pred_masks is \(2, 1, 28, 28\).*expected.*\(N, 4, 6\)"):
        instances_to_coco(instances, 9, [4, 8])


def test_dataset_without_a_file_is_refused():
    MetadataCatalog.get("evaluation_nameless").thing_classes = ["sign"]
    with pytest.raises(ValueError, match="'evaluation_nameless' has no json_file"):
        REGCOCOEvaluator("evaluation_nameless")
    MetadataCatalog.pop("evaluation_nameless")
    assert "evaluation_nameless" not in DatasetCatalog.list()


def _worker(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        truth, detections = random_scene(7, box_only_objects=True)
        register("evaluation_scene", f"{folder}/gt.json")
        evaluator = REGCOCOEvaluator("evaluation_scene", f"{folder}/out")
        evaluator.reset()
        # Uneven on purpose: the second worker has two images.
        mine = by_image(truth, detections)[:-2] if rank == 0 else by_image(truth, detections)[-2:]
        for image, found in mine:
            evaluator.process([{"image_id": image}], [{"instances": to_instances(found)}])
        results = evaluator.evaluate()
        assert comm.is_main_process() or results == {}
        if comm.is_main_process():
            save_results(f"{folder}/results.json", results)
        # All images on the second worker: the first learns from it that the model predicts masks.
        evaluator.reset()
        for image, found in by_image(truth, detections) if rank == 1 else []:
            evaluator.process([{"image_id": image}], [{"instances": to_instances(found)}])
        again = evaluator.evaluate()
        assert again == results and (rank == 1 or "segm" in again)
    finally:
        torch.distributed.destroy_process_group()


def test_two_processes_give_what_one_gives(dataset, tmp_path):
    name, truth, detections = dataset
    one = inference_on_dataset(Replay(detections), loader(truth), REGCOCOEvaluator(name))
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=2)
    assert json.loads((tmp_path / "results.json").read_text()) == one
