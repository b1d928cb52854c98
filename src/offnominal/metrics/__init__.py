"""Measures of how well a detector ranks, locates and keeps its promises; numpy only.

Item-level measures are ``measure(labels, scores)``, pixel-level ones ``measure(masks, maps)`` over any
iterables. A measure that is not defined (one class only, no region) is NaN.
"""

from offnominal.metrics.calibration import (
    Uniformity,
    false_alarm_spread,
    p_value_uniformity,
    realised_false_alarm_rate,
)
from offnominal.metrics.comparison import Difference, paired_bootstrap
from offnominal.metrics.localisation import max_dice, pixel_auroc, pixel_average_precision, pixel_measures
from offnominal.metrics.overlap import dice, iou
from offnominal.metrics.pro import aupro, pro_curve
from offnominal.metrics.ranking import (
    auroc,
    average_precision,
    best_f1_threshold,
    f1_max,
    fpr95,
    fpr_at_tpr,
    partial_auroc,
    precision_recall_curve,
    roc_curve,
)
from offnominal.metrics.regions import label_regions
from offnominal.metrics.spro import saturation_area, spro

__all__ = [
    "Difference",
    "Uniformity",
    "aupro",
    "auroc",
    "average_precision",
    "best_f1_threshold",
    "dice",
    "f1_max",
    "false_alarm_spread",
    "fpr95",
    "fpr_at_tpr",
    "iou",
    "label_regions",
    "max_dice",
    "p_value_uniformity",
    "paired_bootstrap",
    "partial_auroc",
    "pixel_auroc",
    "pixel_average_precision",
    "pixel_measures",
    "precision_recall_curve",
    "pro_curve",
    "realised_false_alarm_rate",
    "roc_curve",
    "saturation_area",
    "spro",
]
