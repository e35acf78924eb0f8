"""FastFlow (Yu et al., 2021, arXiv:2111.07677): 2-D normalizing flows over a frozen backbone's feature maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.anomaly.output import AnomalyOutput
from src.models.features import FeatureExtractor


class FastFlow(nn.Module):
    """Likelihood of each position's features under one flow a layer; trained by gradients (paper: Adam, 1e-3, 1e-5).

    image_size: (height, width) that all images have. flow_steps: coupling steps a layer. conv3x3_only: False
    alternates 3×3 and 1×1 kernels (section 3.3). hidden_ratio: hidden over input channels of a step's subnet.
    Runs on any backbone; each layer is normalised over its whole map by a trained LayerNorm first.
    """

    kind: ClassVar[str] = "gradient"

    def __init__(
        self,
        *,
        backbone: str = "resnet18",
        layers: Sequence[str | int] = ("layer1", "layer2", "layer3"),
        backbone_args: Mapping[str, Any] | None = None,
        weights: str | None = None,
        image_size: Sequence[int] = (256, 256),
        flow_steps: int = 8,
        conv3x3_only: bool = False,
        hidden_ratio: float = 1.0,
    ) -> None:
        super().__init__()
        if flow_steps < 1 or hidden_ratio <= 0:
            raise ProjectError(f"flow_steps={flow_steps} must be at least 1 and hidden_ratio={hidden_ratio} above 0.")
        self.image_size = tuple(int(side) for side in image_size)
        self.features = FeatureExtractor(backbone=backbone, layers=layers, backbone_args=backbone_args, weights=weights)
        shapes = [tuple(feature.shape[1:]) for feature in self.features(torch.zeros(1, 3, *self.image_size))]
        self.norms = nn.ModuleList(nn.LayerNorm(shape) for shape in shapes)
        self.flows = nn.ModuleList(_flow(shape, flow_steps, conv3x3_only, hidden_ratio) for shape in shapes)

    def _transform(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Per layer, hidden variables B×C×h×w and log-determinants B of the flow."""
        if tuple(images.shape[-2:]) != self.image_size:
            raise ProjectError(
                f"this FastFlow takes images of {self.image_size[0]}×{self.image_size[1]} pixels, "
                f"not {images.shape[-2]}×{images.shape[-1]}."
            )
        hidden, log_determinants = [], []
        for feature, norm, flow in zip(self.features(images), self.norms, self.flows, strict=True):
            variable, log_determinant = flow(norm(feature.float()))
            hidden.append(variable)
            log_determinants.append(log_determinant)
        return hidden, log_determinants

    def loss(self, images: Tensor) -> Tensor:
        """Negative log-likelihood of normal images B×3×H×W (normalised), up to a constant, summed over layers."""
        hidden, log_determinants = self._transform(images)
        energies = [0.5 * variable.square().sum(dim=(1, 2, 3)) for variable in hidden]
        return sum((e - log_det).mean() for e, log_det in zip(energies, log_determinants, strict=True))

    @torch.no_grad()
    def forward(self, images: Tensor) -> AnomalyOutput:
        """Normalised images B×3×H×W → scores (the map's maximum) and maps from -1 (likely) to 0 (unlikely)."""
        hidden, _ = self._transform(images)
        maps = []
        for variable in hidden:
            likelihood = torch.exp(-0.5 * variable.float().square().mean(dim=1, keepdim=True))
            maps.append(F.interpolate(-likelihood, size=self.image_size, mode="bilinear", align_corners=False))
        anomaly_map = torch.stack(maps).mean(0)
        return AnomalyOutput(anomaly_map.amax(dim=(1, 2, 3)), anomaly_map)


def _flow(shape: tuple[int, ...], steps: int, conv3x3_only: bool, hidden_ratio: float) -> nn.Module:
    """A sequence of affine coupling steps over maps C×h×w (figure 2 of the paper)."""
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import AllInOneBlock

    def subnet(kernel: int) -> Any:
        def build(inputs: int, outputs: int) -> nn.Module:
            hidden = max(1, int(inputs * hidden_ratio))
            return nn.Sequential(
                nn.Conv2d(inputs, hidden, kernel, padding="same"),
                nn.ReLU(),
                nn.Conv2d(hidden, outputs, kernel, padding="same"),
            )

        return build

    flow = SequenceINN(*shape)
    for step in range(steps):
        kernel = 1 if step % 2 == 1 and not conv3x3_only else 3
        flow.append(AllInOneBlock, subnet_constructor=subnet(kernel), affine_clamping=2.0, permute_soft=False)
        block = flow.module_list[-1]
        # FrEIA draws the permutation from NumPy's global generator; torch's makes one seed enough.
        with torch.no_grad():
            matrix = torch.eye(shape[0])[torch.randperm(shape[0])].view_as(block.w_perm)
            block.w_perm.copy_(matrix)
            block.w_perm_inv.copy_(matrix.transpose(0, 1))
        block.permute_function = _permute
    return flow


def _permute(maps: Tensor, matrix: Tensor) -> Tensor:
    """Reorder channels as a product with the permutation matrix C×C×1×1 would, without the product."""
    return maps[:, matrix.flatten(1).argmax(1)]
