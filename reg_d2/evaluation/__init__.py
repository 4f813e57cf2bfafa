"""Evaluation: COCO metrics (E15), precision, recall and F1 (E16), what goes wrong and how sure it is, tables (E18).

Only ``evaluator`` needs torch and Detectron2.
"""

from .average_precision import precision_recall_curves
from .bootstrap import bootstrap, compare
from .calibration import Calibrator, calibration, fit_calibrator
from .checks import check_results
from .coco import Evaluation, evaluate_detections, match_detections, summarize
from .evaluator import REGCOCOEvaluator, instances_to_coco
from .ground_truth import load_ground_truth
from .matching import TaskMatches
from .operating_point import confidence_curves
from .results import detectron2_metrics, flat_metrics, save_results
from .tables import class_table, paper_tables, summary_table

__all__ = [
    "Calibrator",
    "Evaluation",
    "REGCOCOEvaluator",
    "TaskMatches",
    "bootstrap",
    "calibration",
    "check_results",
    "class_table",
    "compare",
    "confidence_curves",
    "detectron2_metrics",
    "evaluate_detections",
    "fit_calibrator",
    "flat_metrics",
    "instances_to_coco",
    "load_ground_truth",
    "match_detections",
    "paper_tables",
    "precision_recall_curves",
    "save_results",
    "summarize",
    "summary_table",
]
