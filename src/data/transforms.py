"""What a model wants of its pictures (PreprocessSpec), and augmentation pipelines built from plain config.

Everything used of Albumentations is behind this module, `transform_config` and `box_transforms`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from src.data.box_transforms import BOX_COLUMNS, VISIBLE, compose
from src.data.geometry import RESIZE_MODES
from src.data.images import INTERPOLATIONS
from src.data.mirror import NAME as MIRROR
from src.data.mirror import PLAIN, MirrorWithWords
from src.data.mosaic import Mixing
from src.data.scene import MIN_SIDE, MIN_VISIBLE, Scene
from src.data.transform_config import (
    build_own_stage,
    build_transform,
    is_mixing_entry,
    is_own_stage,
    load_library,
    transform_names,
)
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

    `name` is any Albumentations class, or `ScaleJitter`, `Mosaic4`, `MixUp`, `MirrorWithWords` of this project; the
    other keys are its arguments. `OneOf`, `SomeOf`, `Sequential` and `RandomOrder` take a nested `transforms`. A
    transform that needs `size` or `height` and `width` gets the spec's where they are not given.
    `min_visible` and `min_side` say which boxes stay (`src.data.scene.cut_boxes`). Normalisation does not
    belong here: it happens on the device.

    Raises:
        ProjectError: an unknown class, argument or value, or a pipeline whose result is not uint8 of the
        spec's size.
    """
    limits: dict[str, float] = {}
    if isinstance(config, Mapping):
        known = ["name", "transforms", "min_visible", "min_side"]
        unknown = set(config) - set(known)
        if unknown:
            key = sorted(unknown)[0]
            raise ProjectError(f"augment: unknown key '{key}'.{nearest(key, known)}")
        limits = {key: _limit(key, config[key]) for key in known[2:] if config.get(key) is not None}
        config = config.get("transforms")
    if not config:
        return None
    return Augmentation(config, spec, **limits)


class Augmentation:
    """A seeded Albumentations pipeline: the same `key` and picture give the same result in any process.

    `needs_boxes` names the steps, if any, that only `scene` can run: those that mix pictures
    (`src.data.mosaic`) and crops that look at boxes; `plain_mirrors` those that exchange left and right in the picture
    and would not in its captions. An object is dropped where less than `min_visible` of it,
    a share, or `min_side` canvas pixels of a side are left in view.
    """

    def __init__(
        self,
        transforms: Sequence[Mapping[str, Any]],
        spec: PreprocessSpec,
        *,
        min_visible: float = MIN_VISIBLE,
        min_side: float = MIN_SIDE,
    ) -> None:
        self._config, self._spec = list(transforms), spec
        self._limits = {"min_visible": min_visible, "min_side": min_side}
        library = load_library()
        # Seeding Albumentations by its own set_random_seed makes two new generators for each transform; all
        # transforms share these two instead, which are re-seeded in place for each sample.
        self._generator = np.random.Generator(np.random.Philox(key=0))
        self._random = random.Random(0)
        self._steps: list[tuple[str, Any]] = []  # the library's transforms with their names, for checks
        self._stages: list[Any] = []
        for is_own, entries in groupby(enumerate(self._config, start=1), lambda e: is_own_stage(e[1])):
            if is_own:
                self._stages += [build_own_stage(entry, spec, f"augment, transform {i}") for i, entry in entries]
                continue
            named = [
                (entry.get("name") if isinstance(entry, Mapping) else None, i, entry) for i, entry in entries
            ]
            steps = [build_transform(entry, spec, library, f"augment, transform {i}") for _, i, entry in named]
            self._steps += [(name, step) for (name, _, _), step in zip(named, steps, strict=True)]
            self._stages.append(compose(library, steps, **self._limits))
            self._stages[-1].set_random_state(self._generator, self._random)
        self.needs_boxes = [entry["name"] for entry in self._config if is_mixing_entry(entry)]
        self.plain_mirrors = [name for name in transform_names(self._config) if name in PLAIN]
        self._check(with_boxes=False)

    def __call__(self, *, key: int, **targets: Any) -> dict[str, Any]:
        """Augment `image` (H×W×3 uint8) and, where given, `mask` (H×W uint8) alike; a dict of the same names.

        Of `captions` (list of str), where given, `MirrorWithWords` exchanges left and right; nothing else touches them.
        `key` is the sample's 64-bit draw, f(seed, epoch, id): see `src.data.sampler.draw_keys`.
        """
        for number, stage in enumerate(self._stages):
            if isinstance(stage, Mixing):
                continue
            self._seed(key, number)
            if isinstance(stage, MirrorWithWords):
                targets = stage(self._random, targets)
            else:
                pixels = {name: value for name, value in targets.items() if name != "captions"}
                targets = targets | stage(**pixels)
        if targets["image"].shape != (self._spec.height, self._spec.width, 3):
            self._wrong_result(targets["image"], "the pipeline")
        return targets

    def scene(self, scene: Scene, *, key: int, partner: Callable[[int], Scene] | None = None) -> Scene:
        """Augment a picture with its boxes. Without `partner` the mixing steps are left out.

        `partner` turns a 63-bit draw into another picture, not augmented: what stands before a mixing step is
        applied to it here. So partners too are f(key).
        """
        return self._run(scene, key, len(self._stages), partner)

    def check_boxes(self) -> None:
        """Raises ProjectError where a transform cannot move boxes: called once, before training."""
        self._check(with_boxes=True)

    def _run(self, scene: Scene, key: int, n_stages: int, partner: Callable[[int], Scene] | None) -> Scene:
        for number, stage in enumerate(self._stages[:n_stages]):
            if isinstance(stage, Mixing):
                if partner is None:
                    continue
                self._seed(key, number)
                draw = stage.draw(self._random)
                if draw is not None:
                    others = [self._run(partner(pick), own, number, partner) for pick, own in draw.partners]
                    scene = stage.mix([scene, *others], draw.values, **self._limits)
            elif isinstance(stage, MirrorWithWords):
                raise ProjectError(f"augment: {MIRROR} is for pictures with captions. With boxes, use HorizontalFlip.")
            else:
                self._seed(key, number)
                scene = self._transform(stage, scene)
        return scene

    def _transform(self, stage: Any, scene: Scene) -> Scene:
        numbers = np.arange(len(scene.boxes), dtype=np.float32)
        table = np.concatenate([scene.boxes, scene.visible[:, None], numbers[:, None]], axis=1)
        out = stage(image=scene.image, bboxes=table)
        if out["image"].shape != scene.image.shape:
            self._wrong_result(out["image"], "the pipeline")
        table = out["bboxes"].astype(np.float32, copy=False).reshape(-1, BOX_COLUMNS)
        return Scene(
            image=out["image"],
            boxes=table[:, :4],
            labels=scene.labels[table[:, -1].round().astype(np.int64)],
            visible=table[:, VISIBLE],
            tags=scene.tags,
            region=(0, 0, self._spec.width, self._spec.height),
        )

    def __reduce__(self) -> tuple:
        return _rebuild, (self._config, self._spec, self._limits)

    def _seed(self, key: int, stage: int = 0) -> None:
        bits = self._generator.bit_generator
        state = bits.state
        state["state"]["key"][:] = (key, stage)
        state["state"]["counter"][:] = 0
        state["buffer_pos"], state["has_uint32"], state["uinteger"] = 4, 0, 0
        bits.state = state
        self._random.seed(key | stage << 64)

    def _check(self, *, with_boxes: bool) -> None:
        """Apply each transform to a grey picture: a config that cannot work fails now, not in a worker."""
        height, width = size = (self._spec.height, self._spec.width)
        image, mask = np.full((*size, 3), 128, np.uint8), np.zeros(size, np.uint8)
        boxes = np.array([[0.25, 0.25, 0.75, 0.75, 1, 0]], np.float32)
        for name, step in self._steps:
            draws = 1 if height == width else 12  # only some quarter turns swap the sides
            for key in range(draws):
                self._seed(key)
                extra = {"bboxes": boxes.copy()} if with_boxes or name in self.needs_boxes else {"mask": mask.copy()}
                try:
                    result = step(image=image.copy(), force_apply=True, **extra)["image"]
                except Exception as error:  # a library's own words on a value that its schema let through
                    if isinstance(error, KeyError) and error.args == ("bboxes",) and "bboxes" not in extra:
                        self.needs_boxes.append(name)
                        continue
                    when = "cannot be applied with boxes" if with_boxes else "cannot be applied"
                    raise ProjectError(f"augment: {name} {when}: {error}") from error
                if result.dtype != np.uint8 or (result.shape[:2] == size[::-1] and height != width):
                    self._wrong_result(result, name)
        if with_boxes:
            regions = np.float32([1]), np.empty(0, np.int64), (0, 0, width, height)
            scale = np.array([width, height] * 2, np.float32)
            self.scene(Scene(image, boxes[:, :4] * scale, np.zeros(1, np.int64), *regions), key=0)
        elif not self.needs_boxes:
            self(key=0, image=image, mask=mask)

    def _wrong_result(self, image: np.ndarray, name: str) -> None:
        raise ProjectError(
            f"augment: {name} gives {image.dtype} {'×'.join(map(str, image.shape))}; expected uint8 "
            f"{self._spec.height}×{self._spec.width}×3, the model's input. Quarter turns need it square; "
            "crops must end at the input's size (RandomResizedCrop without size does); Normalize and "
            "ToTensorV2 are not needed."
        )


def _rebuild(config: list, spec: PreprocessSpec, limits: dict[str, float]) -> Augmentation:
    return Augmentation(config, spec, **limits)


def _limit(key: str, value: Any) -> float:
    high = 1 if key == "min_visible" else 1000
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
        raise ProjectError(f"augment: {key} must be a number, 0 to {high}, not {value!r}")
    return float(value)
