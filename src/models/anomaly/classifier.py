"""Supervised classification of pictures by any timm model: which class, how probably, and where it looks defective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import ProjectError, nearest
from src.models.anomaly.class_losses import LOSSES, class_loss, soft_targets
from src.models.anomaly.class_losses import class_weights as weigh_classes
from src.models.anomaly.filter_classifier import FilterClassifier
from src.models.anomaly.output import AnomalyOutput
from src.models.anomaly.timm_classifier import build_timm_classifier, takes_any_size, with_locations
from src.models.anomaly.unfreezing import GradualUnfreezing, hold_batch_norms, hold_frozen, layered_groups
from src.models.features import FILTER_BANK, LoadReport

SCORE_LIMIT = 1e4  # of log-odds, far beyond what float32 probabilities can tell apart


class Classifier(nn.Module):
    """A timm model fine-tuned to the competition's classes, some of which mean "nothing wrong".

    Args:
        backbone: any timm classifier, or filter_bank (fixed filters and one linear layer, no weights).
        backbone_args: reaches timm.create_model.
        weights: path of the whole model's state dict; a head of other classes in it is left out.
        class_names: the classes, in the order of logits and `probs`.
        normal_classes: those of them that mean "nothing wrong".
        dropout: before the last layer. drop_path: share of residual branches left out, rising with depth (stochastic
            depth), for models that have it; of no effect on filter_bank.
        loss: cross_entropy | focal. focal_gamma: the exponent of `focal`.
        class_weights: null | balanced | effective, see `class_losses.class_weights`; then `class_counts` are needed,
            the training images of each class.
        backbone_lr: factor on the learning rate of everything but the head. layer_decay: further factor for each block
            away from the head; 1 = none. unfreeze_every: epochs after which one more stage, from the head downwards,
            begins to learn; 0 = all learn from the start. Stages that do not learn stay in eval mode, batch statistics
            included. freeze_norm: batch norms keep their statistics throughout (small batches; weights with folded
            batch norms). These four are without effect on random weights.

    A training batch of one picture has no batch statistics to speak of: batch norms then use their running ones.

    Attributes: report, the LoadReport of the weights file or None; stages, how many `unfreeze_every` counts; any_size,
    whether pictures of other sizes than those of training can be judged (test-time scales).
    Raises ProjectError for options that do not fit together, an unknown backbone, or weights that do not fit.
    """

    kind: ClassVar[str] = "gradient"
    supervised: ClassVar[bool] = True
    filled_in: ClassVar[tuple[str, ...]] = ("class_names", "normal_classes", "class_counts")

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        backbone_args: Mapping[str, Any] | None = None,
        weights: str | None = None,
        class_names: Sequence[str] = (),
        normal_classes: Sequence[str] = (),
        class_counts: Sequence[int] = (),
        dropout: float = 0.0,
        drop_path: float = 0.0,
        loss: str = "cross_entropy",
        focal_gamma: float = 2.0,
        class_weights: str | None = None,
        backbone_lr: float = 1.0,
        layer_decay: float = 1.0,
        unfreeze_every: int = 0,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        self.class_names = _checked_classes(class_names, normal_classes)
        _check_options(
            dropout=dropout, drop_path=drop_path, loss=loss, focal_gamma=focal_gamma, backbone_lr=backbone_lr,
            layer_decay=layer_decay, unfreeze_every=unfreeze_every,
        )  # fmt: skip
        self.backbone, self.loss_name = backbone, loss
        self.gamma = focal_gamma if loss == "focal" else 0.0
        self.backbone_lr, self.layer_decay, self.freeze_norm = backbone_lr, layer_decay, freeze_norm
        self.report: LoadReport | None = None
        self._build(backbone_args, weights, dropout=dropout, drop_path=drop_path)
        # In the state dict, so that a rebuilt network knows it too; a float, so that weight averaging can treat it.
        self.register_buffer("pretrained", torch.tensor(float(weights is not None)))
        self._unfreezing = GradualUnfreezing(self.model, unfreeze_every)
        self.stages = self._unfreezing.stages
        normal = torch.tensor([name in set(normal_classes) for name in self.class_names])
        self.register_buffer("normal", normal, persistent=False)
        balance = weigh_classes(class_weights, class_counts, len(self.class_names))
        self.register_buffer("class_weights", balance, persistent=False)

    def _build(self, args: Mapping[str, Any] | None, weights: str | None, *, dropout: float, drop_path: float) -> None:
        n_classes = len(self.class_names)
        if self.backbone == FILTER_BANK:
            if args or weights is not None:
                raise ProjectError("backbone=filter_bank has fixed filters: it takes no backbone_args and no weights.")
            self.model: nn.Module = FilterClassifier(n_classes=n_classes, dropout=dropout)
            self.any_size = True
            return
        self.model, self.report = build_timm_classifier(
            self.backbone, args, n_classes=n_classes, dropout=dropout, drop_path=drop_path, weights=weights
        )
        self.any_size = takes_any_size(self.model)
        self.model.to(memory_format=torch.channels_last)

    # -- training ---------------------------------------------------------------------------------------------------
    def begin_epoch(self, epoch: int) -> None:
        """Wake the stages that learn in this epoch, counted from 0; a function of the epoch alone."""
        if self._finetunes:
            self._unfreezing.open(self.model, epoch)
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """Training mode for what learns; the rest stays in eval mode."""
        super().train(mode)
        if mode and self._finetunes:
            hold_frozen(self.model)
            if self.freeze_norm:
                hold_batch_norms(self.model)
        return self

    @property
    def _finetunes(self) -> bool:
        return bool(self.pretrained > 0.5)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups of every layer, those that wake later too: see `layered_groups`."""
        backbone_lr, layer_decay = (self.backbone_lr, self.layer_decay) if self._finetunes else (1.0, 1.0)
        return layered_groups(
            self.model, lr=lr, weight_decay=weight_decay, backbone_lr=backbone_lr, layer_decay=layer_decay
        )

    def loss(self, images: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """The loss of normalised images B×3×H×W by its name.

        Args:
            classes: int64 (B) in [0, C), or soft targets float32 (B, C) whose rows sum to 1.
        """
        targets = soft_targets(classes, len(self.class_names))
        if len(images) == 1:
            hold_batch_norms(self.model)
        logits = self._guarded(self.model, images)
        if len(images) == 1:
            self.train(self.training)
        return {self.loss_name: class_loss(logits, targets, gamma=self.gamma, weights=self.class_weights)}

    # -- answers ----------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def forward(self, images: Tensor) -> AnomalyOutput:
        """Normalised images B×3×H×W → log-odds that something is wrong, probabilities, and a map of log-odds.

        The map is the head's answer at each place of the last feature map (`timm_classifier.with_locations`), enlarged
        bilinearly; None where the model has no such map (vision transformers).
        """
        locate = self.model.with_locations if self.backbone == FILTER_BANK else self._timm_locations
        logits, places = self._guarded(locate, images)
        logits = logits.float()
        score, probs = self._log_odds(logits), logits.softmax(1)
        if places is None:
            return AnomalyOutput(score, None, probs)
        plane = self._log_odds(places.float()).unsqueeze(1)
        return AnomalyOutput(
            score, F.interpolate(plane, size=images.shape[-2:], mode="bilinear", align_corners=False), probs
        )

    def _timm_locations(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        return with_locations(self.model, images)

    def _log_odds(self, logits: Tensor) -> Tensor:
        """Logits (B, C, …) → log of defect against normal probability (B, …), finite.

        Where all classes are of one side, it is the limit of that side.
        """
        defect = logits[:, ~self.normal].logsumexp(1)
        return (defect - logits[:, self.normal].logsumexp(1)).clamp(-SCORE_LIMIT, SCORE_LIMIT)

    def _guarded(self, call: Any, images: Tensor) -> Any:
        try:
            return call(images.contiguous(memory_format=torch.channels_last))
        except AssertionError as error:
            height, width = images.shape[-2:]
            raise ProjectError(
                f"{self.backbone} does not take images of {height}×{width} pixels: {error}. Set model.image_size to a "
                "size that it takes, or model.backbone_args.img_size=[height,width] where timm's model has one."
            ) from error


def _checked_classes(names: Sequence[str], normal: Sequence[str]) -> list[str]:
    names = [str(name) for name in names]
    if len(names) < 2 or len(set(names)) != len(names):
        raise ProjectError(f"a classifier needs two classes or more, each once, but was given {names}.")
    for name in normal:
        if name not in names:
            raise ProjectError(f"normal class {name!r} is none of the classes.{nearest(name, names)}")
    return names


def _check_options(
    *, dropout: float, drop_path: float, loss: str, focal_gamma: float, backbone_lr: float, layer_decay: float,
    unfreeze_every: int,
) -> None:  # fmt: skip
    for name, value in (("dropout", dropout), ("drop_path", drop_path)):
        if not 0 <= value < 1:
            raise ProjectError(f"model.{name}={value}: expected a share from 0 to below 1.")
    if loss not in LOSSES:
        raise ProjectError(f"model.loss={loss!r} is not known.{nearest(loss, LOSSES)} Known: {', '.join(LOSSES)}.")
    if focal_gamma < 0:
        raise ProjectError(f"model.focal_gamma={focal_gamma} must be at least 0.")
    for name, value in (("backbone_lr", backbone_lr), ("layer_decay", layer_decay)):
        if not 0 < value <= 1:
            raise ProjectError(f"model.{name}={value}: expected a factor above 0, at most 1.")
    if not isinstance(unfreeze_every, int) or unfreeze_every < 0:
        raise ProjectError(f"model.unfreeze_every={unfreeze_every}: expected a number of epochs; 0 = all at once.")
