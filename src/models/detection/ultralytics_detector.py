"""YOLOv8 and its successors through ultralytics (AGPL-3.0, an optional extra), trained in this project's own loop."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_convert, clip_boxes_to_image

from src.errors import ProjectError, nearest
from src.models.detection.ultralytics_import import ultralytics_module
from src.models.detection.ultralytics_weights import class_branches, find_weights, read_weights
from src.models.features import LoadReport
from src.models.parameter_groups import grouped
from src.weights import ResolvedWeights

UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


class UltralyticsDetector(nn.Module):
    """A detector of ultralytics: its loss and its choice of boxes, the project's data, loop and metrics.

    Networks with a second head that needs no suppression (yolov10, yolo26) learn both heads, at the weights that the
    package begins with, and answer by the first unless `nms_free` asks for the second.

    Args:
        num_classes, image_size: classes, and (height, width) of the canvas in pixels.
        architecture: a detection YAML of the installed ultralytics, such as yolov8n, yolov8m, yolo11s, yolo26n.
        backbone_lr: factor on the learning rate of everything but the head, where weights were loaded.
        nms_free: answer by the head that needs no suppression; nms_iou is without effect then.
        score_floor, nms_iou, max_detections: what `detect` keeps; loose, as thresholds are tuned later.
        trust_pickle: load a .pt as ultralytics writes it. It is a program as much as a file: loading one runs it.
        weights: path of a state dict, or of ultralytics' own .pt with trust_pickle; None leaves random values.

    Attributes: report, the LoadReport of the weights file or None.
    Raises ProjectError where ultralytics is not installed, for an unknown architecture, weights that do not fit, or a
    pickle that nobody said to trust.
    """

    zero_shot = False
    needs_names = False

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: Sequence[int],
        architecture: str = "yolov8n",
        backbone_lr: float = 1.0,
        nms_free: bool = False,
        score_floor: float = 0.02,
        nms_iou: float = 0.6,
        max_detections: int = 100,
        trust_pickle: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.image_size, self.architecture = num_classes, tuple(image_size), architecture
        self.backbone_lr = backbone_lr
        self.score_floor, self.nms_iou, self.max_detections = score_floor, nms_iou, max_detections
        self.model = _build(architecture, num_classes)
        head = self.model.model[-1]
        head.max_det = max_detections
        if nms_free and getattr(head, "one2one_cv2", None) is None:
            raise ProjectError(f"model.nms_free=true: {architecture} has no such head; yolo26n and yolov10n have one.")
        self.model.end2end = nms_free
        self.stride = int(max(self.model.stride))
        self.report: LoadReport | None = None
        if weights is not None:
            self.report = read_weights(self.model, Path(weights), trust_pickle=trust_pickle)
        # In the state dict, so that a rebuilt network knows it too; a float, so that weight averaging can treat it.
        self.register_buffer("pretrained", torch.tensor(float(weights is not None)))
        self._criterion: Any = None
        self._criterion_device: torch.device | None = None

    @classmethod
    def checkpoints(cls, options: Mapping[str, Any], weights: str) -> dict[str, tuple[str, str]]:
        """Constructor arguments that are files of weights: {argument: (name, weights word or path)}."""
        return {"weights": (str(options["architecture"]), weights)}

    @classmethod
    def find(
        cls,
        options: Mapping[str, Any],
        weights: str,
        *,
        weights_dir: Path | None,
        bundled: bool,
        warn: Callable[[str], Any],
    ) -> dict[str, ResolvedWeights]:
        """Decide about the weights; nothing is downloaded. See `find_weights`."""
        return {
            "weights": find_weights(
                str(options["architecture"]),
                weights,
                trust_pickle=bool(options["trust_pickle"]),
                weights_dir=weights_dir,
                bundled=bundled,
                warn=warn,
            )
        }

    @classmethod
    def prepare(
        cls, options: Mapping[str, Any], folders: Mapping[str, str | None], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """The options as they are: nothing of them depends on weights or names."""
        return dict(options)

    @staticmethod
    def normalization(options: Mapping[str, Any]) -> dict[str, Sequence[float]]:
        """`mean` and `std` (RGB, unit range) that ultralytics' weights expect: pictures in the unit range."""
        return UNIT

    def loss(self, images: Tensor, targets: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """{"loss_detection"}: ultralytics' own loss, its parts (boxes, classes, distances) at its own weights.

        images: normalised B×3×H×W. targets: a dict an image: boxes (N, 4) xyxy canvas pixels, labels (N,), has_boxes.
        Images whose boxes are unknown (`has_boxes` False) are left out.
        """
        known = [index for index, target in enumerate(targets) if target["has_boxes"]]
        if not known:
            return {"loss_detection": sum(p.sum() for p in self.parameters() if p.requires_grad) * 0.0}
        images = self._padded(images[torch.tensor(known, device=images.device)])
        height, width = images.shape[-2:]
        size = images.new_tensor([width, height, width, height], dtype=torch.float32)
        boxes = [targets[index]["boxes"].float().reshape(-1, 4) for index in known]
        batch = {
            "img": images,
            "bboxes": torch.cat([box_convert(found / size, "xyxy", "cxcywh") for found in boxes]),
            "cls": torch.cat([targets[index]["labels"].float().reshape(-1, 1) for index in known]),
            "batch_idx": torch.cat([images.new_full((len(found),), float(n)) for n, found in enumerate(boxes)]).float(),
        }
        answers = self.model(images)
        with torch.autocast(images.device.type, enabled=False):
            total, _ = self._loss(images.device)(_float(answers), batch)
        return {"loss_detection": total.sum() / len(known)}

    def _loss(self, device: torch.device) -> Any:
        """Ultralytics' criterion; it keeps tensors of one device, so another device gets a new one."""
        if self._criterion is None or self._criterion_device != device:
            self._criterion, self._criterion_device = self.model.init_criterion(), device
        return self._criterion

    def _padded(self, images: Tensor) -> Tensor:
        """Zeros right and below, up to the coarsest stride."""
        down, right = (-side % self.stride for side in images.shape[-2:])
        return functional.pad(images, (0, right, 0, down)) if down or right else images

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """{"boxes": (M, 4) xyxy canvas pixels, "scores": (M,) in [0, 1], "labels": (M,)} an image, best first; in
        evaluation mode only."""
        answers = self.model(self._padded(images))[0].float()
        found = _suppression()(
            answers,
            conf_thres=self.score_floor,
            iou_thres=self.nms_iou,
            multi_label=True,
            max_det=self.max_detections,
            max_time_img=1e6,  # else it leaves images of a slow machine unanswered
            nc=self.num_classes,
            end2end=bool(self.model.end2end),
        )
        results = []
        for rows in found:
            boxes = clip_boxes_to_image(rows[:, :4], tuple(images.shape[-2:]))
            keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            results.append({"boxes": boxes[keep], "scores": rows[keep, 4], "labels": rows[keep, 5].long()})
        return results

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups: all but the head learns at `lr · backbone_lr` where weights were loaded; biases and norms
        do not decay."""
        head = f"model.model.{len(self.model.model) - 1}."
        return grouped(
            self,
            lr=lr,
            weight_decay=weight_decay,
            factor=self.backbone_lr if self.pretrained > 0.5 else 1.0,
            pretrained=lambda name, _: not name.startswith(head),
        )


def _build(architecture: str, num_classes: int) -> nn.Module:
    """Ultralytics' network with random values, its loss's weights those of the package."""
    tasks = ultralytics_module("nn.tasks", asked_for=architecture)
    known = _architectures(Path(tasks.__file__).parents[1] / "cfg" / "models")
    if architecture not in known:
        raise ProjectError(
            f"model.architecture={architecture!r} is no detector of the installed ultralytics."
            f"{nearest(architecture, known)} Such as yolov8n, yolov8s, yolo11n, yolo26n."
        )
    network = tasks.DetectionModel(f"{architecture}.yaml", ch=3, nc=num_classes, verbose=False)
    if not class_branches(network):
        raise ProjectError(f"model.architecture={architecture} has another head than a detector's. Take yolov8n.")
    network.args = copy.copy(ultralytics_module("utils", asked_for=architecture).DEFAULT_CFG)
    return network


def _architectures(folder: Path) -> set[str]:
    """Names of the package's detectors; a scale stands in the name alone: yolov8n is yolov8.yaml at scale n."""
    names = set()
    for path in folder.glob("*/*.yaml"):
        if re.fullmatch(r"yolov?\d+[a-z]?(-(p2|p6|tiny|spp|ghost(-p2|-p6)?))?", path.stem):
            scaled = re.search(r"^scales:", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            letters = "nsmlx" if scaled and path.stem.partition("-")[0][-1].isdigit() else [""]
            names |= {re.sub(r"^(yolov?\d+)", rf"\g<1>{letter}", path.stem) for letter in letters}
    return names


def _suppression() -> Callable[..., list[Tensor]]:
    """Ultralytics' non-maximum suppression, which moved between its versions."""
    try:
        return ultralytics_module("utils.nms", asked_for="yolov8").non_max_suppression
    except ProjectError:
        return ultralytics_module("utils.ops", asked_for="yolov8").non_max_suppression


def _float(value: Any) -> Any:
    """The same structure with its tensors in float32."""
    if isinstance(value, Tensor):
        return value.float()
    if isinstance(value, dict):
        return {key: _float(inner) for key, inner in value.items()}
    return type(value)(_float(inner) for inner in value) if isinstance(value, list | tuple) else value
