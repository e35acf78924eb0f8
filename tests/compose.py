"""The configuration of a command line, composed in this process, and a tiny competition to run it on."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from src.cli import CONF, expand_arguments

TINY_MODEL = (
    "model=patchcore", "model.backbone=resnet10t", "model.layers=[layer1]", "model.weights=random",
    "model.image_size=64", "model.coreset_size=64", "model.blur_sigma=1.0",
)  # fmt: skip


def compose(config_name: str, *overrides: str) -> dict[str, Any]:
    """What the entry point hands to the project for these overrides."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra_compose(config_name, overrides=expand_arguments(list(overrides)))
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=False)


def picture(seed: int, *, defect: bool, size: int = 72) -> tuple[np.ndarray, np.ndarray]:
    """A striped grey picture, with a bright square where it is defective, and the square's mask."""
    random = np.random.default_rng(seed)
    stripes = 110 + 40 * np.sin(np.arange(size) / 3 + random.uniform(0, 6))
    pixels = np.clip(stripes[None, :] + random.normal(0, 6, (size, size)), 0, 255)
    mask = np.zeros((size, size), np.uint8)
    if defect:
        top, left = random.integers(8, size - 28, 2)
        mask[top : top + 18, left : left + 18] = 255
        pixels[mask > 0] = 245
    return np.repeat(pixels[..., None].astype(np.uint8), 3, axis=2), mask


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix.lower(), pixels)[1].tobytes())  # imwrite cannot name Korean on Windows


def make_competition(root: Path, *, normal: int = 14, labelled: int = 4, test: int = 9) -> Path:
    """A csv-layout competition: Korean folder with a space, ids with leading zeros, upper-case suffix, masks."""
    rows: dict[str, list[dict[str, str]]] = {"train": [], "test": [], "solution": []}
    for split, count in (("train", normal + labelled), ("test", test)):
        for number in range(count):
            defect = number >= normal if split == "train" else number % 3 == 0
            name = f"{number:03d}" if split == "train" else f"9{number:03d}"
            file = f"이미지 {split}/{name}.PNG"
            pixels, mask = picture(number + 1000 * (split == "test"), defect=defect)
            write_image(root / file, pixels)
            mask_file = f"masks/{name}.png" if defect else ""
            if defect:
                write_image(root / mask_file, mask)
            truth = {"label": "defect" if defect else "normal", "mask": mask_file}
            row = {"id": name, "file": file}
            rows[split].append({**row, **truth} if split == "train" else row)
            if split == "test":
                rows["solution"].append({"id": name, **truth})
    for name, table in rows.items():
        pd.DataFrame(table).to_csv(root / f"{name}.csv", index=False)
    order = [row["id"] for row in rows["test"]][::-1]
    pd.DataFrame({"id": order, "score": 0.5}).to_csv(root / "sample_submission.csv", index=False)
    return root


def on_competition(root: Path, outputs: Path) -> list[str]:
    """Overrides that run the tiny competition with the sample's spec, on our own root and not as a bundled one."""
    return [
        "task=anomaly", "competition=sample_anomaly", f"competition.root='{root}'", "competition.bundled=false",
        "competition.data.group=null",
        f"outputs='{outputs}'", "logger=csv", "data.num_workers=0", "trainer.progress=false",
    ]  # fmt: skip
