"""Measures of how well a detector ranks, locates and keeps its promises; numpy only.

Item-level measures are ``measure(labels, scores)``, pixel-level ones ``measure(masks, maps)`` over any
iterables. Measures of series take the steps of one series in order; those of alarms take 0/1 predictions in
the place of scores. A measure that is not defined (one class only, no region) is NaN.
"""

from offnominal.metrics.affiliation import (
    Affiliation,
    affiliation,
    affiliation_f1,
    affiliation_precision,
    affiliation_recall,
)
from offnominal.metrics.calibration import (
    Uniformity,
    false_alarm_spread,
    p_value_uniformity,
    realised_false_alarm_rate,
)
from offnominal.metrics.comparison import Difference, paired_bootstrap
from offnominal.metrics.event_wise import DetectionDelay, composite_f1, detection_delay, event_f1
from offnominal.metrics.localisation import max_dice, pixel_auroc, pixel_average_precision, pixel_measures
from offnominal.metrics.nab import nab_score
from offnominal.metrics.overlap import dice, iou
from offnominal.metrics.point_adjusted import point_adjusted_f1, point_adjusted_f1_max
from offnominal.metrics.pro import aupro, pro_curve
from offnominal.metrics.range_based import range_f1, range_precision, range_recall
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
from offnominal.metrics.ranks import RankComparison, compare_ranks, mean_rank, studentised_range_quantile
from offnominal.metrics.regions import label_regions
from offnominal.metrics.severity import auroc_by_level, concordance_index
from offnominal.metrics.spro import saturation_area, spro
from offnominal.metrics.sweep import best_over_thresholds
from offnominal.metrics.top import f1_at_contamination, precision_at_n
from offnominal.metrics.vus import RangeSurface, range_auc_pr, range_auc_roc, range_surface, vus_pr, vus_roc

__all__ = [
    "Affiliation",
    "DetectionDelay",
    "Difference",
    "RangeSurface",
    "RankComparison",
    "Uniformity",
    "affiliation",
    "affiliation_f1",
    "affiliation_precision",
    "affiliation_recall",
    "aupro",
    "auroc",
    "auroc_by_level",
    "average_precision",
    "best_f1_threshold",
    "best_over_thresholds",
    "compare_ranks",
    "composite_f1",
    "concordance_index",
    "detection_delay",
    "dice",
    "event_f1",
    "f1_at_contamination",
    "f1_max",
    "false_alarm_spread",
    "fpr95",
    "fpr_at_tpr",
    "iou",
    "label_regions",
    "max_dice",
    "mean_rank",
    "nab_score",
    "p_value_uniformity",
    "paired_bootstrap",
    "partial_auroc",
    "pixel_auroc",
    "pixel_average_precision",
    "pixel_measures",
    "point_adjusted_f1",
    "point_adjusted_f1_max",
    "precision_at_n",
    "precision_recall_curve",
    "pro_curve",
    "range_auc_pr",
    "range_auc_roc",
    "range_f1",
    "range_precision",
    "range_recall",
    "range_surface",
    "realised_false_alarm_rate",
    "roc_curve",
    "saturation_area",
    "spro",
    "studentised_range_quantile",
    "vus_pr",
    "vus_roc",
]
