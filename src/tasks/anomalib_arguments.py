"""From a plain configuration to what an anomalib class takes: its arguments checked, its preprocessing read off it."""

import contextlib
import enum
import inspect
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import timm
from anomalib.models.components import AnomalibModule
from anomalib.models.components.feature_extractors import TimmFeatureExtractor
from timm.layers import PatchEmbed
from torchvision.transforms.v2 import CenterCrop, Compose, InterpolationMode, Normalize, Resize, Transform

from src.data.transforms import PreprocessSpec
from src.errors import ProjectError, nearest
from src.tasks.anomalib_weights import patched

COMPONENTS = ("pre_processor", "post_processor", "evaluator", "visualizer")


def read_preprocessing(
    cls: type[AnomalibModule],
    size: tuple[int, int] | None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[PreprocessSpec, Transform]:
    """The class's own interpolation and normalisation, at our size and without its centre crop.

    `mean` and `std` replace its own, for weights that were trained with others.
    """
    steps = _steps(cls.configure_pre_processor().transform)
    resize = next((step for step in steps if isinstance(step, Resize)), None)
    last = next((step for step in reversed(steps) if isinstance(step, Resize | CenterCrop)), None)
    default = _pair(last.size) if last is not None else (256, 256)
    size = tuple(size) if size is not None else default
    if size != default and resize is not None and _ignores_size(cls, size, resize):
        raise ProjectError(
            f"anomalib's {cls.__name__} reads pictures of {default[0]}×{default[1]} pixels only: "
            f"set model.image_size={default[0]}."
        )
    normalize = next((step for step in steps if isinstance(step, Normalize)), None)
    if normalize is None and (mean is not None or std is not None):
        raise ProjectError(
            f"anomalib's {cls.__name__} takes pictures that are not normalised: leave model.mean and model.std null."
        )
    if normalize is not None:
        mean, std = mean or normalize.mean, std or normalize.std
    interpolation = resize.interpolation if resize is not None else InterpolationMode.BILINEAR
    spec = PreprocessSpec(
        height=size[0],
        width=size[1],
        resize="squash",
        interpolation="bicubic" if interpolation == InterpolationMode.BICUBIC else "bilinear",
        mean=tuple(map(float, mean or (0, 0, 0))),
        std=tuple(map(float, std or (1, 1, 1))),
    )
    # Our batches have that size already; Resize stays, because `input_size` of the class is read off it.
    kept: list[Transform] = [Resize(size, interpolation=interpolation, antialias=True)]
    return spec, Compose(kept if normalize is None else [*kept, Normalize(mean=spec.mean, std=spec.std)])


def _steps(transform: Transform | None) -> list[Transform]:
    return list(transform.transforms) if isinstance(transform, Compose) else [transform] if transform else []


def _pair(size: Any) -> tuple[int, int]:
    values = [size] if isinstance(size, int) else list(size)
    return int(values[0]), int(values[-1])


def _ignores_size(cls: type[AnomalibModule], size: tuple[int, int], default: Resize) -> bool:
    """Whether the class's pre-processor keeps its own size when it is asked for ours."""
    try:
        steps = _steps(cls.configure_pre_processor(image_size=size).transform)
    except ValueError:  # a size smaller than its centre crop, which we leave out
        return False
    return any(_pair(step.size) == _pair(default.size) != size for step in steps if isinstance(step, Resize))


def check_arguments(cls: type[AnomalibModule], args: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Known names only; strings become the enumerations and lists the tuples that the class declares."""
    accepted = [p for p in inspect.signature(cls.__init__).parameters if p not in ("self", "kwargs", *COMPONENTS)]
    for key in args:
        if key not in accepted:
            raise ProjectError(
                f"model.args.{key}: anomalib's {cls.__name__} takes no such argument.{nearest(key, accepted)} "
                f"It takes: {', '.join(accepted) or 'none'}."
            )
    try:
        hints = typing.get_type_hints(cls.__init__)
    except NameError:  # names imported for type checking only
        hints = {}
    for key, value in args.items():
        kinds = typing.get_args(hints.get(key)) or (hints.get(key),)
        for kind in (k for k in kinds if inspect.isclass(k) and issubclass(k, enum.Enum)):
            if isinstance(value, str):
                args[key] = _member(kind, value, f"model.args.{key}")
        origins = {typing.get_origin(kind) or kind for kind in kinds}
        if isinstance(value, list) and tuple in origins and list not in origins:
            args[key] = tuple(value)
    for key, wanted in (("image_size", size[0]), ("input_shape", size)):  # FoundAD and GLASS ask for the size twice
        if key in accepted:
            args.setdefault(key, wanted)
    return args


def _member(kind: type[enum.Enum], value: str, key: str) -> enum.Enum:
    known = {str(member.value).lower(): member for member in kind}
    if value.lower() not in known:
        raise ProjectError(f"{key}={value!r} is none of {', '.join(known)}.{nearest(value, known)}")
    return known[value.lower()]


def plain(value: Any, key: str) -> Any:
    """Only what a checkpoint may hold under weights_only=True."""
    if isinstance(value, dict):
        return {str(name): plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{key}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Path | enum.Enum):
        return str(value.value if isinstance(value, enum.Enum) else value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ProjectError(f"model.{key} must be a plain value, not a {type(value).__name__}: checkpoints keep it.")


@contextlib.contextmanager
def layers_must_exist() -> Iterator[None]:
    """Inside the block a layer that the backbone lacks is an error; anomalib drops it, with a line in its log."""
    look_up = TimmFeatureExtractor._map_layer_to_idx

    def checked(extractor: TimmFeatureExtractor) -> list[int]:
        wanted = list(extractor.layers)
        found = look_up(extractor)
        absent = [layer for layer in wanted if layer not in extractor.layers]
        if absent:
            info = timm.create_model(extractor.backbone, features_only=True).feature_info.info
            known = [entry["module"] for entry in info]
            raise ProjectError(
                f"model.args.layers: {extractor.backbone} has no layer {absent[0]}.{nearest(absent[0], known)} "
                f"It has: {', '.join(known)}."
            )
        return found

    with patched(TimmFeatureExtractor, "_map_layer_to_idx", checked):
        yield


def check_patches(module: pl.LightningModule, spec: PreprocessSpec) -> None:
    for part in module.modules():
        if isinstance(part, PatchEmbed) and (spec.height % part.patch_size[0] or spec.width % part.patch_size[1]):
            step, fitting = part.patch_size[0], max(1, round(spec.height / part.patch_size[0])) * part.patch_size[0]
            raise ProjectError(
                f"model.image_size={spec.height}×{spec.width}: {type(module).__name__} cuts pictures into patches of "
                f"{step} pixels, so the size must be a multiple of {step}, for example {fitting}."
            )
