"""Numbers and names as a reader wants them: fitting digits, units, words instead of keys."""

import math
from typing import Any

METRIC_NAMES = {
    "auroc": "Image AUROC",
    "average_precision": "Average precision",
    "f1_max": "F1, best threshold",
    "f1": "F1 at the threshold",
    "macro_f1": "Macro F1 at the threshold",
    "accuracy": "Accuracy at the threshold",
    "balanced_accuracy": "Balanced accuracy at the threshold",
    "precision": "Precision at the threshold",
    "recall": "Recall at the threshold",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO",
    "pixel_average_precision": "Pixel average precision",
    "pixel_f1": "Pixel F1, best threshold",
    "class_macro_f1": "Macro F1 over classes",
    "class_accuracy": "Accuracy over classes",
    "class_balanced_accuracy": "Balanced accuracy over classes",
    "seg_f1": "SegF1, pixels of all images",
    "dice": "Dice, mean over images",
    "iou": "IoU of masks, mean over images",
    "threshold": "Threshold",
    "n_normal": "Normal images",
    "n_anomalous": "Defective images",
    "map": "mAP, IoU 0.50 to 0.95",
    "map50": "mAP50",
    "map75": "mAP75",
    "map_small": "mAP, small objects",
    "map_medium": "mAP, medium objects",
    "map_large": "mAP, large objects",
    "voc_map": "VOC mAP, IoU 0.5",
    "voc_map40": "VOC mAP, IoU 0.4",
    "ar1": "Recall, 1 box an image and class",
    "ar10": "Recall, 10 boxes",
    "ar100": "Recall, 100 boxes",
    "count_exact": "Counts exactly right",
    "count_exact_image": "Images with all counts right",
    "count_tiered": "Count credit: 1 if right, ½ if off by one",
    "count_mae": "Count error, mean absolute",
    "count_rmse": "Count error, root mean square",
    "count_rmse_columns": "Count RMSE, mean over classes",
    "cider_d": "CIDEr-D",
    "cider": "CIDEr",
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "chrf": "chrF",
    "clip_score": "CLIPScore",
    "exact_match": "Exact match",
    "images": "Images",
}


def metric_name(key: str) -> str:
    """'pixel_auroc' becomes 'Pixel AUROC'; an unknown key loses only its underscores."""
    own = key.removesuffix("_in_sample")
    if own != key and key not in METRIC_NAMES:
        return f"{metric_name(own)}, on the rule's own images"
    return METRIC_NAMES.get(key, key.replace("_", " "))


def metric_value(value: Any, n: int = 0) -> str:
    """A share in 0..1 with three decimals, four once a thousand images stand behind it; '–' if absent."""
    if not is_number(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) > 1.5:  # not a share: a threshold, a loss, a distance
        return score(value)
    return f"{value:.{4 if n >= 1000 else 3}f}"


def score(value: Any) -> str:
    """A raw score with four significant digits: scores of different models span many decades."""
    if not is_number(value):
        return "–"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if -4 <= magnitude < 6:
        return f"{value:,.{max(0, 3 - magnitude)}f}"
    return f"{value:.3e}"


def percent(part: int, whole: int) -> str:
    """A share as a percentage; one decimal only when the whole is large enough to carry it."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{share:.1f}%" if whole >= 200 and 0 < part < whole else f"{share:.0f}%"


def probability(value: float) -> str:
    """'62%'; '>99%' and '<1%' where rounding would promise certainty."""
    if 0.995 <= value < 1:
        return ">99%"
    return "<1%" if 0 < value < 0.005 else f"{100 * value:.0f}%"


def duration(seconds: float) -> str:
    """Seconds as '0.4 s', '38 s', '4 min 10 s' or '2 h 05 min'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(n_bytes: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB"):
        if abs(n_bytes) < 1024:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"


def count(n: int, one: str, many: str | None = None) -> str:
    """'1 image', '2,000 images'."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def fact(key: str, value: Any) -> str:
    """One value of run.json as text; the key's ending names its unit (`_s`, `_seconds`, `bytes`, `_gib`)."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        if key.endswith(("_s", "_seconds")):
            return duration(value)
        if key.endswith("bytes"):
            return size(value)
        if key.endswith("_gib"):
            return size(value * 2**30)
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(fact("", item) for item in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {fact(name, item)}" for name, item in value.items()) or "–"
    return str(value)


def is_number(value: Any) -> bool:
    """True for a finite int or float that is no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
