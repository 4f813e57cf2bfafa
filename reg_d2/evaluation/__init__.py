"""Evaluation: COCO metrics (E15), precision, recall and F1 (E16), the paper's tables (E18).

``coco``, ``operating_point``, ``matching``, ``ground_truth``, ``results`` and ``tables`` need neither torch nor
Detectron2; ``evaluator`` does.
"""

from .coco import evaluate_detections
from .evaluator import REGCOCOEvaluator, instances_to_coco
from .results import detectron2_metrics, flat_metrics, save_results
from .tables import class_table, paper_tables, summary_table

__all__ = [
    "REGCOCOEvaluator",
    "class_table",
    "detectron2_metrics",
    "evaluate_detections",
    "flat_metrics",
    "instances_to_coco",
    "paper_tables",
    "save_results",
    "summary_table",
]
