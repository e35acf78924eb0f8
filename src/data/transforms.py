"""What a model wants of its pictures (PreprocessSpec), and augmentation pipelines built from plain config.

Everything used of Albumentations is behind this module.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from src.data.geometry import RESIZE_MODES
from src.data.images import INTERPOLATIONS
from src.errors import ProjectError, nearest

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class PreprocessSpec:
    """A model's own preprocessing; stored in its checkpoint, so that training and inference cannot disagree.

    `height`, `width` in pixels; `resize` squash | letterbox | crop; `interpolation` bilinear | bicubic
    (antialiased, as torchvision and Pillow) | area (OpenCV). `mean` and `std` are per RGB channel, in the
    unit range.

    Raises:
        ProjectError: a value is outside its range; the message names the field.
    """

    height: int
    width: int
    resize: str = "squash"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 16384:
                raise ProjectError(f"preprocessing: {name} must be a whole number, 1 to 16384, not {value!r}")
        for name, options in (("resize", RESIZE_MODES), ("interpolation", INTERPOLATIONS)):
            value = getattr(self, name)
            if value not in options:
                hint = nearest(value, options)
                raise ProjectError(
                    f"preprocessing: {name}={value!r} is not one of {', '.join(options)}.{hint}"
                )
        for name, low_is_allowed in (("mean", True), ("std", False)):
            values = tuple(float(value) for value in getattr(self, name))
            object.__setattr__(self, name, values)  # lists come from YAML and checkpoints
            inside = all(0 <= v <= 1 and (low_is_allowed or v > 0) for v in values)
            if len(values) != 3 or not inside:
                raise ProjectError(
                    f"preprocessing: {name} must be three numbers in the unit range, not {list(values)} "
                    "(divide 0–255 statistics by 255)"
                )

    @property
    def pad_value(self) -> tuple[int, int, int]:
        """Letterbox padding: the mean colour, RGB uint8. It normalises to 0, like a convolution's padding."""
        return tuple(round(value * 255) for value in self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Plain scalars and lists, for a checkpoint."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreprocessSpec:
        """Raises ProjectError on a key that is unknown or missing."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ProjectError(f"preprocessing: unknown key '{key}'.{nearest(key, known)}")
        for key in ("height", "width"):
            if key not in values:
                raise ProjectError(f"preprocessing: '{key}' is missing")
        return cls(**values)

    def normalize(
        self,
        images: torch.Tensor,
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format | None = None,
    ) -> torch.Tensor:
        """uint8 B×3×H×W on any device → (x / 255 − mean) / std there, as `dtype` (default float32).

        Batches arrive in channels-last memory order. The answer is contiguous unless `memory_format` says
        otherwise (`torch.channels_last` saves convolutions a conversion). Computed in float32, cast last; the
        input is kept.
        """
        import torch

        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected uint8 B×3×H×W, got {images.dtype} {tuple(images.shape)}")
        layout = memory_format or torch.contiguous_format
        scale, offset = _affine(self.mean, self.std, images.device)
        out = images.to(torch.float32, memory_format=layout).mul_(scale).add_(offset)
        return out if dtype is None else out.to(dtype)


@lru_cache(maxsize=64)
def _affine(mean: tuple, std: tuple, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalisation as x·scale + offset, kept per device: making it anew stalls a GPU at every batch."""
    import torch

    with torch.inference_mode(False):  # first use may be under inference mode, later use under autograd
        scale = [1 / (255 * s) for s in std]
        offset = [-m / s for m, s in zip(mean, std, strict=True)]
        return tuple(torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (scale, offset))


def build_augmentation(
    config: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None, spec: PreprocessSpec
) -> Augmentation | None:
    """A pipeline from config, `{transforms: [{name: HorizontalFlip, p: 0.5}, …]}` or its list; None if empty.

    `name` is any Albumentations class, the other keys are its arguments. `OneOf`, `SomeOf`, `Sequential` and
    `RandomOrder` take a nested `transforms`. A transform that needs `size` or `height` and `width` gets the
    spec's where they are not given. Normalisation does not belong here: it happens on the device.

    Raises:
        ProjectError: an unknown class, argument or value, or a pipeline whose result is not uint8 of the
        spec's size.
    """
    if isinstance(config, Mapping):
        unknown = set(config) - {"name", "transforms"}
        if unknown:
            key = sorted(unknown)[0]
            raise ProjectError(f"augment: unknown key '{key}'.{nearest(key, ['name', 'transforms'])}")
        config = config.get("transforms")
    if not config:
        return None
    return Augmentation(config, spec)


class Augmentation:
    """A seeded Albumentations pipeline: the same `key` and picture give the same result in any process."""

    def __init__(self, transforms: Sequence[Mapping[str, Any]], spec: PreprocessSpec) -> None:
        self._config, self._spec = list(transforms), spec
        library = _albumentations()
        steps = _build_transforms(transforms, spec, library, "augment, transform")
        # Seeding Albumentations by its own set_random_seed makes two new generators for each transform; all
        # transforms share these two instead, which are re-seeded in place for each sample.
        self._generator = np.random.Generator(np.random.Philox(key=0))
        self._random = random.Random(0)
        self._compose = library.Compose(steps)
        self._compose.set_random_state(self._generator, self._random)
        self._check(steps)

    def __call__(self, *, key: int, **targets: Any) -> dict[str, Any]:
        """Augment `image` (H×W×3 uint8) and, where given, `mask` (H×W uint8) alike; a dict of the same names.

        `key` is the sample's 64-bit draw, f(seed, epoch, id): see `src.data.sampler.draw_keys`.
        """
        self._seed(key)
        out = self._compose(**targets)
        if out["image"].shape != (self._spec.height, self._spec.width, 3):
            self._wrong_result(out["image"], "the pipeline")
        return out

    def __reduce__(self) -> tuple:
        return Augmentation, (self._config, self._spec)

    def _seed(self, key: int) -> None:
        bits = self._generator.bit_generator
        state = bits.state
        state["state"]["key"][:] = (key, 0)
        state["state"]["counter"][:] = 0
        state["buffer_pos"], state["has_uint32"], state["uinteger"] = 4, 0, 0
        bits.state = state
        self._random.seed(key)

    def _check(self, steps: Sequence[Any]) -> None:
        """Apply each transform to a grey picture: a config that cannot work fails now, not in a worker."""
        size = (self._spec.height, self._spec.width)
        image, mask = np.full((*size, 3), 128, np.uint8), np.zeros(size, np.uint8)
        for entry, step in zip(self._config, steps, strict=True):
            draws = 1 if size[0] == size[1] else 12  # only some quarter turns swap the sides
            for key in range(draws):
                self._seed(key)
                try:
                    result = step(image=image.copy(), mask=mask.copy(), force_apply=True)["image"]
                except Exception as error:  # a library's own words on a value that its schema let through
                    raise ProjectError(f"augment: {entry['name']} cannot be applied: {error}") from error
                if result.dtype != np.uint8 or (result.shape[:2] == size[::-1] and size[0] != size[1]):
                    self._wrong_result(result, entry["name"])
        self(key=0, image=image, mask=mask)

    def _wrong_result(self, image: np.ndarray, name: str) -> None:
        raise ProjectError(
            f"augment: {name} gives {image.dtype} {'×'.join(map(str, image.shape))}; expected uint8 "
            f"{self._spec.height}×{self._spec.width}×3, the model's input. Quarter turns need it square; "
            "crops must end at the input's size (RandomResizedCrop without size does); Normalize and "
            "ToTensorV2 are not needed."
        )


def _albumentations() -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import asks the network for a newer version otherwise
    import albumentations

    return albumentations


def _build_transforms(
    entries: Sequence[Mapping[str, Any]], spec: PreprocessSpec, library: Any, where: str
) -> list[Any]:
    return [_build_transform(entry, spec, library, f"{where} {i + 1}") for i, entry in enumerate(entries)]


def _build_transform(entry: Mapping[str, Any], spec: PreprocessSpec, library: Any, where: str) -> Any:
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise ProjectError(f"{where}: expected {{name: <Albumentations class>, …}}, got {entry!r}")
    arguments = dict(entry)
    name = arguments.pop("name")
    classes = _classes(library)
    if name not in classes:
        raise ProjectError(f"{where}: Albumentations has no transform '{name}'.{nearest(name, classes)}")
    where = f"{where} ({name})"
    known = _argument_names(classes[name])
    for key in arguments:
        if key not in known:
            hint = nearest(key, known)
            raise ProjectError(f"{where}: unknown argument '{key}'.{hint} It takes {', '.join(known)}.")
    if "transforms" in known:
        inner = arguments.get("transforms") or []
        arguments["transforms"] = _build_transforms(inner, spec, library, f"{where},")
    elif "size" in known and "size" not in arguments:
        arguments["size"] = (spec.height, spec.width)
    elif {"height", "width"} <= set(known) and not {"height", "width", "size"} & set(arguments):
        arguments |= {"height": spec.height, "width": spec.width}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Albumentations 2 only warns when it ignores what it was given
            return classes[name](**arguments)
    except (ValueError, TypeError, Warning) as error:
        raise ProjectError(f"{where}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """One line of a pydantic report, which else names schema classes and web pages."""
    details = getattr(error.__cause__, "errors", None)
    if details is None:
        return str(error)
    return "; ".join(f"{'.'.join(map(str, d['loc'][:1]))}: {d['msg']}, not {d['input']!r}" for d in details())


@lru_cache(maxsize=1)
def _classes(library: Any) -> dict[str, type]:
    bases = (library.BasicTransform, library.BaseCompose)
    found = {name: getattr(library, name) for name in dir(library)}
    return {k: v for k, v in found.items() if isinstance(v, type) and issubclass(v, bases) and v not in bases}


def _argument_names(transform: type) -> list[str]:
    import inspect

    parameters = inspect.signature(transform.__init__).parameters
    return [name for name in parameters if name not in ("self", "args", "kwargs")]
