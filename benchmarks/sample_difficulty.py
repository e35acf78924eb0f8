"""How hard the bundled sample is: test AUROC of simple one-class methods, nearest neighbours of normal training images.

python benchmarks/sample_difficulty.py       about a minute; compare with `graded` of `python train.py task=anomaly`
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.competition import read_competition
from src.data.images import read_image
from src.data.sample import ensure_sample
from src.manifest import read_manifest, read_solution
from src.metrics.anomaly import auroc
from src.models.anomaly.neighbors import NeighborIndex

BANK = 6000  # random normal patches


def statistics(images: Tensor) -> Tensor:
    """Brightness, contrast, edge energy and extremes of each grey picture: N×6."""
    grey = images.mean(1)
    flat = grey.flatten(1)
    edges = [grey.diff(dim=d).abs().mean((1, 2)) for d in (1, 2)]
    extremes = [flat.quantile(q, dim=1) for q in (0.01, 0.99)]
    return torch.stack([flat.mean(1), flat.std(1), *edges, *extremes], 1)


def raw_patches(images: Tensor) -> Tensor:
    """Grey patches of 8×8 at half size: N×P×64."""
    return F.unfold(F.avg_pool2d(images.mean(1, keepdim=True), 2), 8, stride=4).transpose(1, 2)


def random_features(images: Tensor) -> Tensor:
    """A random convolutional network's features: N×P×64."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, 1, 1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU())
    return torch.cat([network((part - 0.5) / 0.25).flatten(2).transpose(1, 2) for part in images.split(32)])


@torch.no_grad()
def main() -> None:
    competition = read_competition("sample_anomaly")
    ensure_sample(competition)
    manifest = read_manifest(competition)
    normal = manifest[(manifest["split"] == "train") & (manifest["label"] == 0)]
    test = manifest[manifest["split"] == "test"].merge(read_solution(competition)[["id", "label"]], on="id")
    labels = test["label_y"].to_numpy(np.int64)
    paths = [*normal["path"], *test["path"]]
    images = torch.from_numpy(np.stack([read_image(p) for p in paths])).permute(0, 3, 1, 2).float() / 255
    count = len(normal)

    table = statistics(images)
    table = (table - table[:count].mean(0)) / table[:count].std(0)
    scores = {"picture statistics": torch.cdist(table[count:], table[:count]).amin(1)}
    for name, features in (("raw 8×8 patches", raw_patches), ("random convolutions", random_features)):
        patches = features(images)
        bank = patches[:count].reshape(-1, patches.shape[2])
        bank = bank[torch.randperm(len(bank), generator=torch.Generator().manual_seed(0))[:BANK]]
        queries = patches[count:].reshape(-1, patches.shape[2])
        scores[name] = NeighborIndex(bank).distances(queries).view(len(test), -1).amax(1)
    for name, values in scores.items():
        print(f"{name:<22} test AUROC {auroc(values.numpy(), labels):.3f}")


if __name__ == "__main__":
    main()
