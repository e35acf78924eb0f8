"""Networks from the tiny checkpoints, and a short training for tests."""

import json
from pathlib import Path

import torch

from src.hub_models import prepare_network
from src.models.caption.image_text import ImageTextCaptioner
from src.models.caption.vision_encoder_decoder import VisionEncoderDecoderCaptioner
from tests.models.caption.tiny_checkpoints import CAPTIONS, CHECKPOINTS, kobart, kogpt2, vit

INSTRUCTION = "이 사진을 한 문장으로 설명해 줘."
REFERENCES = [[CAPTIONS[0]], [CAPTIONS[1], CAPTIONS[2]]]
_MADE: dict[tuple[Path, str], Path] = {}


def checkpoint(root: Path, name: str) -> Path:
    """The folder of a tiny checkpoint below `root`, made when it is first asked for."""
    if (root, name) not in _MADE:
        _MADE[root, name] = {**CHECKPOINTS, "vit": vit, "kogpt2": kogpt2, "kobart": kobart}[name](root / name)
    return _MADE[root, name]


def build(root: Path, name: str, **changes):
    """A network of a family from its tiny checkpoint, and the options that rebuild it (with JSON's types)."""
    if name.startswith("vit_"):
        network_class, weights = VisionEncoderDecoderCaptioner, "auto"
        options = {"encoder": "owner/vit", "decoder": "owner/decoder", "encoder_weights": str(checkpoint(root, "vit")),
                   "decoder_weights": str(checkpoint(root, name.removeprefix("vit_")))}  # fmt: skip
    else:
        network_class, weights = ImageTextCaptioner, str(changes.pop("weights", None) or checkpoint(root, name))
        options = {"checkpoint": "owner/tiny", "prompt": None if name == "blip" else INSTRUCTION}
    prepared = prepare_network(
        network_class, {**options, **changes}, weights=weights, weights_dir=None, bundled=False, class_names=[]
    )
    torch.manual_seed(0)
    size = (32, 32) if network_class.normalization(prepared.options)["std"] != [1.0] * 3 else (48, 64)
    kept = {"image_size": size, **json.loads(json.dumps(prepared.options))}
    return network_class(**kept, **prepared.initial), kept


def pictures(network, number: int = 2) -> torch.Tensor:
    """Pictures that differ as day and night."""
    random = torch.rand(number, 3, *network.image_size, generator=torch.Generator().manual_seed(3))
    brightness = torch.linspace(0, 0.7, number)[:, None, None, None]
    return (random * 0.3 + brightness) * (1 if network.image_std[0] == 1 else 2)


def train(network, images: torch.Tensor, references, steps: int, lr: float = 5e-3) -> list[float]:
    optimizer = torch.optim.Adam(network.parameter_groups(lr, 0.0))
    network.train()
    losses = []
    for _ in range(steps):
        loss = network.loss(images, references)["loss_caption"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def texts(answer) -> list[list[str]]:
    return [[candidate.text for candidate in group] for group in answer]
