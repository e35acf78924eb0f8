"""Feature maps of any timm backbone (or of the built-in filter bank), frozen or not, with weights from a local file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import ProjectError, nearest

FILTER_BANK = "filter_bank"
_WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "student")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What a weights file gave to a backbone; names are those of the timm model.

    `unused` are tensors that the backbone knows but the chosen layers do not need, the classifier's among them.
    """

    path: str
    loaded: int
    missing: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.loaded} tensors loaded"]
        for name in ("missing", "mismatched", "unexpected", "unused"):
            names = getattr(self, name)
            if names:
                parts.append(f"{len(names)} {name} ({_some(names)})")
        return f"{self.path}: " + ", ".join(parts)


def default_normalization(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (RGB, unit range) that the backbone's pretrained weights expect."""
    if backbone == FILTER_BANK:
        from src.models.filter_bank import DEFAULT_MEAN, DEFAULT_STD

        return tuple(DEFAULT_MEAN), tuple(DEFAULT_STD)
    import timm

    check_backbone(backbone)
    cfg = timm.get_pretrained_cfg(backbone)
    if cfg is None:  # a model that timm never published weights for
        from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    return tuple(cfg.mean), tuple(cfg.std)


class FeatureExtractor(nn.Module):
    """Feature maps of chosen layers; in eval mode and without gradients, unless it is `trainable`.

    `layers` are timm's own feature names ("layer2", "blocks.4", "stages.1") or their indices, in any order; the
    part of the backbone after the last of them is dropped. `weights` is the path of a .safetensors, .pth or .pt
    state dict; None leaves random values, to be filled by a checkpoint. `backbone="filter_bank"` uses fixed
    classical filters, without weights. Vision transformers accept any image size that their patches divide, and
    give the blocks' raw tokens as maps (as timm's `features_only` does).

    Attributes: channels and strides, one int a layer; report, the LoadReport or None.
    Raises ProjectError for an unknown backbone or layer, an unreadable file, or weights that do not fit.
    """

    def __init__(
        self,
        *,
        backbone: str,
        layers: Sequence[str | int],
        backbone_args: Mapping[str, Any] | None = None,
        weights: str | None = None,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        layers = [layers] if isinstance(layers, str | int) else list(layers)
        self.backbone, self.layers = backbone, layers
        self.trainable = trainable
        self.report: LoadReport | None = None
        self._memory_format = torch.contiguous_format
        if not layers or len(set(layers)) != len(layers):
            raise ProjectError(f"layers={layers} must name at least one layer of {backbone}, each once.")
        if backbone == FILTER_BANK:
            from src.models.filter_bank import LAYERS, FilterBank

            if weights is not None:
                raise ProjectError("backbone=filter_bank has fixed filters: leave its weights empty.")
            names = [LAYERS[_layer_index(backbone, layer, list(LAYERS))] for layer in layers]
            if backbone_args:
                raise ProjectError(f"backbone=filter_bank takes no backbone_args, but was given {dict(backbone_args)}.")
            self.model = FilterBank(layers=names)
            self.channels, self.strides = list(self.model.channels), list(self.model.strides)
            self._order, self._channels_last = list(range(len(layers))), False
        else:
            self._build(dict(backbone_args or {}), weights)
        if not trainable:
            self.requires_grad_(False)
            self.eval()

    def _build(self, args: dict[str, Any], weights: str | None) -> None:
        check_backbone(self.backbone)
        for key in ("features_only", "out_indices", "pretrained", "in_chans", "checkpoint_path"):
            if key in args:
                raise ProjectError(f"backbone_args.{key} is set by the project; remove it (layers picks features).")
        with torch.device("meta"):  # names and shapes only: costs no memory and no time
            full = _create(self.backbone, args)
            if hasattr(full, "dynamic_img_size"):
                args.setdefault("dynamic_img_size", True)
            names = [info["module"] for info in getattr(full, "feature_info", [])]
            names = _feature_names(self.backbone, args) or names
        indices = [_layer_index(self.backbone, layer, names) for layer in self.layers]
        if len(set(indices)) != len(indices):
            raise ProjectError(f"layers={self.layers} name one layer of {self.backbone} twice.")
        self.model = _create(self.backbone, args, features_only=True, out_indices=tuple(sorted(indices)))
        self._order = [sorted(indices).index(index) for index in indices]
        info = self.model.feature_info
        channels, strides = info.channels(), info.reduction()
        self.channels = [int(channels[position]) for position in self._order]
        self.strides = [int(strides[position]) for position in self._order]
        self._channels_last = str(getattr(self.model, "output_fmt", "NCHW")).endswith("NHWC")
        _drop_unused_blocks(self.model)
        if weights is not None:
            self.report = load_backbone_weights(self.model, full, self.backbone, Path(weights))
        self._memory_format = torch.channels_last  # up to twice as fast on a CPU, and patches lie in rows
        self.model.to(memory_format=self._memory_format)

    def train(self, mode: bool = True) -> FeatureExtractor:
        """A frozen one stays in eval mode whatever is asked: batch norm must not follow the competition's batches."""
        return super().train(mode and self.trainable)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images B×3×H×W → one map B×C×h×w a layer, in the order of `layers`."""
        try:
            with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
                features = self.model(images.contiguous(memory_format=self._memory_format))
        except AssertionError as error:
            height, width = images.shape[-2:]
            raise ProjectError(
                f"{self.backbone} does not take images of {height}×{width} pixels: {error}. "
                f"Choose another model image size (its largest stride is {max(self.strides)})."
            ) from error
        maps = [features[position] for position in self._order]
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps] if self._channels_last else maps


def feature_layers(backbone: str, backbone_args: Mapping[str, Any] | None = None) -> list[tuple[str, int]]:
    """(name, stride in pixels) of every layer that timm offers as a feature map, from the first to the last.

    Raises ProjectError for an unknown backbone, or one without feature maps.
    """
    check_backbone(backbone)
    with torch.device("meta"):
        model = _create(backbone, dict(backbone_args or {}), features_only=True)
    return [(info["module"], int(info["reduction"])) for info in model.feature_info.info]


def check_backbone(backbone: str) -> None:
    """Raises ProjectError for a name that the installed timm does not know; suggests the nearest."""
    import timm

    if not timm.is_model(backbone):
        raise ProjectError(
            f"unknown backbone {backbone!r}: it is no model of the installed timm {timm.__version__}."
            f"{nearest(backbone, [*timm.list_models(), FILTER_BANK])}"
        )


def _create(backbone: str, args: Mapping[str, Any], **kwargs: Any) -> nn.Module:
    import timm

    try:
        return timm.create_model(backbone, pretrained=False, **args, **kwargs)
    except TypeError as error:
        raise ProjectError(f"timm's {backbone} refuses backbone_args={dict(args)}: {error}.") from error
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise ProjectError(f"timm cannot give feature maps of {backbone}: {error}. Choose another.") from error


def _feature_names(backbone: str, args: Mapping[str, Any]) -> list[str]:
    """The layers that timm's features_only form offers (they differ from the plain model's for some families)."""
    model = _create(backbone, args, features_only=True)
    return [info["module"] for info in model.feature_info.info]


def _layer_index(backbone: str, layer: str | int, names: list[str]) -> int:
    if isinstance(layer, int) and not isinstance(layer, bool):
        if not -len(names) <= layer < len(names):
            raise ProjectError(f"layer {layer} of {backbone} does not exist: it has 0 to {len(names) - 1} {names}.")
        return layer % len(names)
    if layer not in names:
        raise ProjectError(f"{backbone} has no layer {layer!r}. Its layers: {', '.join(names)}.{nearest(layer, names)}")
    return names.index(layer)


def _drop_unused_blocks(model: nn.Module) -> None:
    """timm's EfficientNet and MobileNet families compute every stage, wanted or not; cut those after the last."""
    stages = getattr(model, "_stage_out_idx", None)
    blocks = getattr(model, "blocks", None)
    if stages and isinstance(blocks, nn.Sequential) and getattr(model, "feature_hooks", None) is None:
        del blocks[max(stages) :]


def _some(names: Sequence[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors, .pth or .pt file, freed of usual wrappers. Nothing in the file is executed."""
    if not path.is_file():
        raise ProjectError(f"weights file {path} does not exist. Give the path of a .safetensors, .pth or .pt file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ProjectError(
            f"could not read weights from {path}: {type(error).__name__}: {str(error).splitlines()[0][:200]}. "
            "Expected a whole state dict (.safetensors, .pth or .pt); copy or download it again."
        ) from error
    for _ in range(2):
        wrapper = next((key for key in _WRAPPERS if isinstance(content, dict) and key in content), None)
        if wrapper is not None and isinstance(content[wrapper], Mapping):
            content = content[wrapper]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ProjectError(f"{path} holds no state dict (a mapping of names to tensors), but {type(content).__name__}.")
    return tensors


def _strip_prefix(state: dict[str, Tensor], known: set[str]) -> dict[str, Tensor]:
    """Drop the wrapper prefix ("module.", "model.backbone.", …) under which most names are the model's own."""
    prefixes = {""}
    for anchor in sorted(known)[:8]:
        prefixes |= {name[: -len(anchor)] for name in state if name.endswith("." + anchor)}

    def overlap(prefix: str) -> int:
        return sum(name.startswith(prefix) and name[len(prefix) :] in known for name in state)

    best = max(sorted(prefixes), key=overlap)
    if not best or overlap(best) <= overlap(""):
        return {name.removeprefix("module."): value for name, value in state.items()}
    return {name.removeprefix(best): value for name, value in state.items()}


def load_backbone_weights(
    model: nn.Module, full: nn.Module, backbone: str, path: Path, *, replaceable: Collection[str] = ()
) -> LoadReport:
    """Fill the feature model from a state dict of the whole timm model `full` (on the meta device).

    Tensors named in `replaceable` (a classifier of other classes) stay as they are where the file lacks them or holds
    them in another shape.
    """
    shapes = {name: value.shape for name, value in full.state_dict().items()}
    state = _strip_prefix(read_state_dict(path), set(shapes))
    convert = getattr(sys.modules[type(full).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            state = convert(state, full)
        except Exception as error:
            raise ProjectError(f"{path} does not fit backbone {backbone}: timm cannot convert it ({error}).") from error
    # features_only wraps modules: "blocks.0.0.conv" may be called "blocks_0.0.conv" or "model.blocks.0.0.conv".
    own = {name.replace(".", "_"): name for name in shapes}
    filled, missing, mismatched = {}, [], []
    for name, value in model.state_dict().items():
        flat = name.replace(".", "_")
        source = own.get(flat) or own.get(flat.removeprefix("model_")) or own.get(flat.removeprefix("body_"), name)
        if name in replaceable and (source not in state or state[source].shape != value.shape):
            continue
        if source not in state:
            if not name.endswith("num_batches_tracked"):
                missing.append(source)
        elif state[source].shape != value.shape:
            mismatched.append(f"{source} {tuple(state[source].shape)} instead of {tuple(value.shape)}")
        else:
            filled[name] = state[source]
    wanted = {own.get(name.replace(".", "_").removeprefix("model_"), name) for name in filled}
    report = LoadReport(
        path=str(path),
        loaded=len(filled),
        missing=tuple(missing),
        mismatched=tuple(mismatched),
        unexpected=tuple(name for name in state if name not in shapes),
        unused=tuple(n for n in state if n in shapes and n not in wanted and not n.endswith("num_batches_tracked")),
    )
    if missing or mismatched:
        faults = [f"{len(missing)} missing ({_some(missing)})"] if missing else []
        faults += [f"{len(mismatched)} of another shape ({_some(mismatched, 2)})"] if mismatched else []
        if report.unexpected:
            faults.append(f"{len(report.unexpected)} unknown ({_some(report.unexpected, 2)})")
        total = len(filled) + len(missing) + len(mismatched)
        raise ProjectError(
            f"weights {path} do not fit backbone {backbone}: of the {total} feature tensors, {'; '.join(faults)}. "
            "Most likely the file belongs to another backbone or to other backbone_args: "
            "set the model's backbone (and backbone_args) to those it was saved from."
        )
    model.load_state_dict(filled, strict=False)  # checked above; only num_batches_tracked may be absent
    _logger.info("%s", report)
    return report
