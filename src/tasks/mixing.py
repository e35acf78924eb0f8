"""MixUp, CutMix and label smoothing of a training batch, on the device, after normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from src.errors import ProjectError, nearest

KEYS = ("mixup", "cutmix", "probability", "switch", "label_smoothing")


class Mixing:
    """timm's Mixup around a batch: images mixed in pairs, targets made soft.

    With `probability` a whole batch is mixed with itself in reverse order, by one share λ: MixUp (Zhang et al. 2018,
    "mixup: Beyond Empirical Risk Minimization", λ from Beta(mixup, mixup)), or CutMix (Yun et al. 2019, a box of λ's
    area from Beta(cutmix, cutmix)), where both are asked for CutMix with probability `switch`. Label smoothing ε puts
    1 − ε + ε/C on the true class and ε/C on each other one, in every batch, mixed or not. The last image of an odd
    batch is not mixed.

    timm draws from numpy's global generator, whose state checkpoints hold (`callbacks.GeneratorState`): a resumed run
    mixes the same batches alike.

    Raises:
        ProjectError: a value outside its range, or options of which one makes another useless.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        probability: float = 0.0,
        switch: float = 0.5,
        label_smoothing: float = 0.0,
    ) -> None:
        from timm.data import Mixup

        for name, value in (("mixup", mixup), ("cutmix", cutmix)):
            if value < 0:
                raise ProjectError(f"model.mixing.{name}={value}: expected a Beta distribution's parameter; 0 = none.")
        for name, value in (("probability", probability), ("switch", switch)):
            if not 0 <= value <= 1:
                raise ProjectError(f"model.mixing.{name}={value}: expected a probability from 0 to 1.")
        if not 0 <= label_smoothing < 1:
            raise ProjectError(f"model.mixing.label_smoothing={label_smoothing}: expected a share from 0 to below 1.")
        if bool(probability) != bool(mixup or cutmix):
            raise ProjectError(
                f"model.mixing.probability={probability} with mixup={mixup} and cutmix={cutmix} mixes nothing. To mix, "
                "set both, such as model.mixing.mixup=0.2 model.mixing.probability=0.5; for none set all three to 0."
            )
        self.n_classes, self.label_smoothing = n_classes, label_smoothing
        self._mixup = None
        if probability:
            self._mixup = Mixup(
                mixup_alpha=mixup,
                cutmix_alpha=cutmix,
                prob=probability,
                switch_prob=switch,
                label_smoothing=label_smoothing,
                num_classes=n_classes,
            )

    @classmethod
    def from_options(cls, options: Mapping[str, Any] | None, n_classes: int) -> Mixing | None:
        """Mixing by plain options named KEYS, each of which may be left out; None where they change nothing.

        Raises:
            ProjectError: an unknown key, a value that is no number, or what the constructor refuses.
        """
        options = dict(options or {})
        for key, value in options.items():
            if key not in KEYS:
                raise ProjectError(f"model.mixing.{key} is not known.{nearest(key, KEYS)} Known: {', '.join(KEYS)}.")
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ProjectError(f"model.mixing.{key}={value!r}: expected a number.")
        mixing = cls(n_classes=n_classes, **options)
        return mixing if mixing._mixup is not None or mixing.label_smoothing else None

    def __call__(self, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Float images B×3×H×W and class numbers int64 (B) → images, soft targets (B, C) float32; the input is kept."""
        from timm.data.mixup import mixup_target

        targets = mixup_target(classes, self.n_classes, smoothing=self.label_smoothing)
        even = len(images) - len(images) % 2
        if self._mixup is None or even == 0:
            return images, targets
        mixed, soft = self._mixup(images[:even].clone(), classes[:even])
        return torch.cat([mixed, images[even:]]), torch.cat([soft, targets[even:]])
