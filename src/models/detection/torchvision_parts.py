"""What torchvision's detectors stand on here: a pyramid on timm's or torchvision's backbones, anchors, a canvas."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork

from src.errors import ProjectError, nearest
from src.models.features import FeatureExtractor, LoadReport, default_normalization, feature_layers, read_state_dict

PREFIX = "torchvision/"


class TorchvisionFeatures(nn.Module):
    """Feature maps of a torchvision classifier, one a stride.

    Attributes: channels, strides, report as those of FeatureExtractor.
    Raises ProjectError for an unknown name, strides that it has not, or weights that do not fit.
    """

    def __init__(
        self, *, backbone: str, backbone_args: Mapping[str, Any] | None, strides: Sequence[int], weights: str | None
    ) -> None:
        super().__init__()
        from torchvision.models.feature_extraction import create_feature_extractor

        found = _torchvision_layers(backbone, backbone_args or {})
        _check_strides(backbone, strides, found)
        self.strides = list(strides)
        self.channels = [found[stride][1] for stride in strides]
        self.channels_last = [found[stride][2] for stride in strides]
        network = _torchvision_model(backbone, backbone_args or {})
        names = {found[stride][0]: str(stride) for stride in strides}
        self.model = create_feature_extractor(network, return_nodes=names)
        self.report: LoadReport | None = None
        if weights is not None:
            self.report = _load(self.model, set(network.state_dict()), backbone, Path(weights))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images B×3×H×W → one map B×C×h×w a stride."""
        maps = self.model(images)
        ordered = [maps[str(stride)] for stride in self.strides]
        pairs = zip(ordered, self.channels_last, strict=True)
        return [m.permute(0, 3, 1, 2).contiguous() if last else m for m, last in pairs]


class PyramidBackbone(nn.Module):
    """A backbone and torchvision's feature pyramid, as its detectors want them: ordered maps by name, `out_channels`.

    Args:
        backbone: a timm model, or `torchvision/<name>`.
        strides: pixels from cell to cell, one a map of the backbone; each twice the one before.
        extra: torchvision's block that appends coarser levels.
        levels: how many levels `extra` appends, each of twice the stride.
    Attributes: strides of all levels; report.
    """

    def __init__(
        self,
        *,
        backbone: str,
        backbone_args: Mapping[str, Any] | None,
        strides: Sequence[int],
        width: int,
        extra: ExtraFPNBlock,
        levels: int,
        weights: str | None,
    ) -> None:
        super().__init__()
        strides = sorted(int(stride) for stride in strides)
        if not strides or any(fine * 2 != coarse for fine, coarse in zip(strides, strides[1:], strict=False)):
            raise ProjectError(f"model.strides={strides}: each must be twice the one before, such as [4, 8, 16, 32].")
        if backbone.startswith(PREFIX):
            self.body: nn.Module = TorchvisionFeatures(
                backbone=backbone, backbone_args=backbone_args, strides=strides, weights=weights
            )
        else:
            deepest = {stride: name for name, stride in feature_layers(backbone, backbone_args)}
            _check_strides(backbone, strides, deepest)
            self.body = FeatureExtractor(
                backbone=backbone,
                layers=[deepest[stride] for stride in strides],
                backbone_args=backbone_args,
                weights=weights,
                trainable=True,
            )
        self.report: LoadReport | None = self.body.report
        self.out_channels = width
        self.strides = strides + [strides[-1] * 2 ** (level + 1) for level in range(levels)]
        self.fpn = FeaturePyramidNetwork(self.body.channels, width, extra_blocks=extra)
        # In the state dict, so that a rebuilt network knows it too; a float, so that weight averaging can treat it.
        self.register_buffer("pretrained", torch.tensor(float(weights is not None)))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images B×3×H×W → {"0": finest map, "1": …, names of the extra levels}, B×width×h×w in float32."""
        maps = self.body(images)
        levels = self.fpn(OrderedDict((str(index), level) for index, level in enumerate(maps)))
        # Anchors take the maps' type, and half precision cannot hold coordinates to a pixel.
        return OrderedDict((name, level.float()) for name, level in levels.items())

    def freeze_norms(self) -> None:
        """Batch norms of a pretrained body keep their statistics."""
        if self.pretrained > 0.5:
            for module in self.body.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train(False)


class StridedAnchors(AnchorGenerator):
    """Torchvision's anchors at known strides; its own divides the canvas by the map, which is wrong for small canvases.

    sizes: anchor sides in pixels, a tuple a level. ratios: height / width, the same at every level.
    """

    def __init__(self, *, strides: Sequence[int], sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> None:
        super().__init__(tuple(tuple(level) for level in sizes), (tuple(ratios),) * len(sizes))
        self.level_strides = list(strides)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Anchors (A, 4) xyxy canvas pixels of every image, from the finest level to the coarsest."""
        device = feature_maps[0].device
        self.set_cell_anchors(torch.float32, device)
        steps = [[torch.tensor(stride, device=device)] * 2 for stride in self.level_strides]
        anchors = torch.cat(self.grid_anchors([level.shape[-2:] for level in feature_maps], steps))
        return [anchors] * len(image_list.image_sizes)


class BareCanvas(nn.Module):
    """Takes the place of torchvision's transform: images are normalised and sized already. Only pads to the stride.

    divisor: pixels that height and width must divide by; what is added right and below is zero, the mean colour.
    """

    def __init__(self, *, divisor: int) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        batch = torch.stack(list(images))
        height, width = batch.shape[-2:]
        down, right = (-side % self.divisor for side in (height, width))
        padded = functional.pad(batch, (0, right, 0, down)) if down or right else batch
        return ImageList(padded, [(height, width)] * len(batch)), targets

    def postprocess(
        self, result: list[dict[str, Tensor]], image_shapes: list[tuple[int, int]], original: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Boxes stay in canvas pixels."""
        return result


def backbone_normalization(backbone: str) -> dict[str, Sequence[float]]:
    """`mean` and `std` (RGB, unit range) of a timm backbone's or a `torchvision/<name>`'s pretrained weights."""
    if not backbone.startswith(PREFIX):
        mean, std = default_normalization(backbone)
        return {"mean": mean, "std": std}
    import torchvision

    _check_name(backbone)
    preset = torchvision.models.get_model_weights(backbone.removeprefix(PREFIX)).DEFAULT.transforms()
    return {"mean": tuple(preset.mean), "std": tuple(preset.std)}


def _check_strides(backbone: str, strides: Sequence[int], found: Mapping[int, Any]) -> None:
    if missing := [stride for stride in strides if stride not in found]:
        raise ProjectError(
            f"model.strides={list(strides)}: {backbone} has no map of stride {missing[0]}, only of "
            f"{sorted(found)}. Choose among them, or another backbone."
        )


def _check_name(backbone: str) -> None:
    from torchvision import models

    name, known = backbone.removeprefix(PREFIX), models.list_models(module=models)
    if name not in known:
        raise ProjectError(f"model.backbone={backbone}: torchvision has no classifier {name!r}.{nearest(name, known)}")


def _torchvision_model(backbone: str, args: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    _check_name(backbone)
    try:
        return models.get_model(backbone.removeprefix(PREFIX), weights=None, **args)
    except (TypeError, ValueError) as error:
        raise ProjectError(f"{backbone} refuses backbone_args={dict(args)}: {error}.") from error


def _torchvision_layers(backbone: str, args: Mapping[str, Any]) -> dict[int, tuple[str, int, bool]]:
    """stride → (module, channels, whether its maps are B×h×w×C) of the last stage at that stride.

    Found by a pass over the modules of the first two levels, without memory where the network allows it; the wide
    canvas tells the axes apart.
    """
    side, found = 256, {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim != 4:
                return
            for last, (height, width, channels) in ((False, (2, 3, 1)), (True, (1, 2, 3))):
                rows = output.shape[height]
                stride = side / rows
                if output.shape[width] == 2 * rows and stride >= 2 and math.log2(stride).is_integer():
                    found[int(stride)] = (name, output.shape[channels], last)
                    return

        return hook

    def run(device: str) -> None:
        with torch.device(device), torch.no_grad():
            network = _torchvision_model(backbone, args).eval()
            for name, module in network.named_modules():
                if name and name.count(".") <= 1:
                    module.register_forward_hook(note(name))
            network(torch.zeros(1, 3, side, 2 * side))

    try:
        try:
            run("meta")
        except NotImplementedError:  # some compute with the values of their weights while they are built
            run("cpu")
    except (RuntimeError, AssertionError) as error:
        first = (str(error).splitlines() or [""])[0][:200]
        raise ProjectError(
            f"{backbone} gives no feature maps of free size: {first}. Choose another backbone."
        ) from error
    return found


def _load(features: nn.Module, known: set[str], backbone: str, path: Path) -> LoadReport:
    """Fill the features from a state dict of the whole classifier, whose parameters' names are `known`."""
    state = {name.removeprefix("module."): value for name, value in read_state_dict(path).items()}
    own = features.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    mismatched = [name for name in own if name in state and state[name].shape != own[name].shape]
    if missing or mismatched:
        raise ProjectError(
            f"weights {path} do not fit backbone {backbone}: {len(missing)} tensors are missing, {len(mismatched)} of "
            f"another shape, {(missing + mismatched)[0]} among them. Set model.backbone to what was saved."
        )
    filled = {name: state[name] for name in own if name in state}
    features.load_state_dict(filled, strict=False)  # checked above; only num_batches_tracked may be absent
    return LoadReport(
        path=str(path),
        loaded=len(filled),
        unexpected=tuple(name for name in state if name not in known),
        unused=tuple(name for name in state if name in known and name not in own),
    )
