"""An open-vocabulary detector ready for any picture and any English names: loaded once, asked often."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.boxes.class_rule import ClassRule
from src.boxes.types import Detections
from src.errors import ProjectError, nearest

MODELS = Path(__file__).resolve().parents[2] / "conf" / "model" / "detection"
# Lowest scores of an object, as the processors of transformers have them (SAM 3: its own, Grounding DINO's 0.25 raised
# a little because one picture has no tuned rule), by architecture.
THRESHOLDS = {
    "grounding-dino": 0.3,
    "mm-grounding-dino": 0.3,
    "owlv2": 0.2,
    "owlvit": 0.1,
    "omdet-turbo": 0.3,
    "sam3": 0.5,
}


class ZeroShotDetector:
    """Boxes of named things in a picture, in the picture's own pixels.

    Args:
        network: an OpenVocabularyDetector (or GroundedSam), in eval mode.
        spec: the PreprocessSpec of its canvas.
        folder: the checkpoint's folder, for its tokenizer; None for random weights.
    """

    vocabulary: Sequence[str] | None = None  # open: it is asked in English for anything

    def __init__(self, network: Any, spec: Any, *, folder: str | None) -> None:
        self.network, self.spec, self.folder = network, spec, folder

    @property
    def rule(self) -> ClassRule:
        """How the detector's boxes are counted where no rule was tuned: a box over 95% of the picture is no object."""
        return ClassRule(threshold=THRESHOLDS[self.network.architecture], nms_iou=0.5, max_area=0.95)

    def detect(self, image: np.ndarray, names: Sequence[str]) -> Detections:
        """Detections in an image H×W×3 uint8 RGB; `labels` index the English `names`; no threshold is applied yet."""
        import torch

        from src.data.geometry import boxes_to_original, lay_out, place
        from src.data.images import resize
        from src.models.detection.open_vocabulary import prompts_for

        if list(names) != self.network.class_names:
            network = self.network
            config = network.model.config.to_dict()
            prompts = prompts_for(network.architecture, config, names, folder=self.folder, template=network.template)
            network.set_vocabulary(names, prompts)
        size = (image.shape[0], image.shape[1])
        placed = place(size, self.spec)
        scaled = resize(image, (placed.scaled_height, placed.scaled_width), self.spec.interpolation)
        canvas = lay_out(scaled, placed, (self.spec.height, self.spec.width), self.spec.pad_value)
        device = next(self.network.parameters()).device
        batch = torch.from_numpy(np.ascontiguousarray(canvas)).permute(2, 0, 1)[None].to(device)
        found = self.network.detect(self.spec.normalize(batch))[0]
        boxes = boxes_to_original(found["boxes"].float().cpu().numpy(), size, self.spec)
        whole = Detections(boxes, found["scores"].float().cpu().numpy(), found["labels"].cpu().numpy())
        return whole.select((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))  # others lay in the padding


def load_detector(
    model: str = "grounding_dino",
    *,
    weights: str = "auto",
    weights_dir: Path | None = None,
    device: str | None = None,
    **changes: Any,
) -> ZeroShotDetector:
    """The open-vocabulary detector of conf/model/detection/<model>.yaml, with its pretrained weights.

    Args:
        weights: auto | pretrained | random | a checkpoint's folder.
        device: where it runs; None is a GPU where there is one.
        changes: keys of the YAML that are replaced.

    Raises:
        ProjectError: a model that is not open-vocabulary, or a checkpoint that is not here (with the ways out).
    """
    import inspect

    import yaml

    shipped = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in MODELS.glob("*.yaml")}
    known = sorted(name for name, options in shipped.items() if options.get("architecture") in THRESHOLDS)
    if model not in known:
        names = ", ".join(known)
        raise ProjectError(f"--model {model}: choose one that finds what words name: {names}.{nearest(model, known)}")
    options = {**shipped[model], **changes}

    import torch

    from src.data.transforms import PreprocessSpec
    from src.hub_models import prepare_network
    from src.models.detection.open_vocabulary import OpenVocabularyDetector, default_preprocess
    from src.models.detection.segmentation import GroundedSam

    network_class = GroundedSam if options["_target_"].endswith("GroundedSam") else OpenVocabularyDetector
    accepted = set(inspect.signature(network_class.__init__).parameters)
    network_options = {key: value for key, value in options.items() if key in accepted - {"weights", "image_size"}}
    prepared = prepare_network(
        network_class, network_options, weights=weights, weights_dir=weights_dir, bundled=False, class_names=["object"]
    )
    side = options["image_size"]
    height, width = (side, side) if isinstance(side, int) else side
    own = default_preprocess(options["architecture"])
    spec = PreprocessSpec(
        height=height,
        width=width,
        resize=options["resize"],
        interpolation=options["interpolation"],
        mean=tuple(options["mean"] or own["mean"]),
        std=tuple(options["std"] or own["std"]),
    )
    network = network_class(num_classes=1, image_size=[height, width], **prepared.options, **prepared.initial)
    network = network.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    return ZeroShotDetector(network, spec, folder=prepared.resolved["weights"].path)
