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


def make_class_competition(root: Path, *, good: int = 8, bad: int = 4, test: int = 3) -> Path:
    """Two categories (stripes across, stripes down), good or with a spot; the answer is a text such as 타일-good.

    Category and state stand in the label alone. test: images of each class.
    """
    rows: dict[str, list[dict[str, str]]] = {"train": [], "test": [], "solution": []}
    number = 0
    for split in ("train", "test"):
        for category, across in (("타일", True), ("wood", False)):
            for state in ("good", "spot"):
                count = test if split == "test" else (good if state == "good" else bad)
                for _ in range(count):
                    name = f"{split[:2]}{number:03d}"
                    pixels, mask = picture(number, defect=state == "spot")
                    number += 1
                    write_image(root / f"images/{name}.png", pixels.transpose(1, 0, 2).copy() if across else pixels)
                    mask_file = f"masks/{name}.png" if state == "spot" else ""
                    if mask_file:
                        write_image(root / mask_file, mask.T.copy() if across else mask)
                    truth = {"label": f"{category}-{state}", "category": category, "mask": mask_file}
                    row = {"id": name, "file": f"images/{name}.png"}
                    rows[split].append({**row, **truth} if split == "train" else {**row, "category": category})
                    if split == "test":
                        rows["solution"].append({"id": name, **truth})
    for name, table in rows.items():
        pd.DataFrame(table).to_csv(root / f"{name}.csv", index=False)
    pd.DataFrame({"id": [row["id"] for row in rows["test"]], "label": "x"}).to_csv(
        root / "sample_submission.csv", index=False
    )
    return root


def on_classes(root: Path, outputs: Path) -> list[str]:
    """Overrides that run `make_class_competition` with the class sample's spec; categories from the labels alone."""
    return [
        "task=anomaly", "competition=sample_defect_classes", f"competition.root='{root}'", "competition.bundled=false",
        "competition.data.group=null",
        f"outputs='{outputs}'", "logger=csv", "data.num_workers=0", "trainer.progress=false", "seed=0",
    ]  # fmt: skip


def on_competition(root: Path, outputs: Path) -> list[str]:
    """Overrides that run the tiny competition with the sample's spec, on our own root and not as a bundled one."""
    return [
        "task=anomaly", "competition=sample_anomaly", f"competition.root='{root}'", "competition.bundled=false",
        "competition.data.group=null",
        f"outputs='{outputs}'", "logger=csv", "data.num_workers=0", "trainer.progress=false",
    ]  # fmt: skip


DETECTION_CLASSES = ("네모", "원")
TINY_DETECTOR = (
    "model=compact", "model.backbone=resnet10t", "model.weights=random", "model.image_size=64", "model.width=16",
    "model.depth=1", "model.lr=0.003", "model.max_epochs=2", "model.score_floor=0.001", "data.batch_size=4",
)  # fmt: skip


def scene(seed: int, *, width: int = 88, height: int = 72) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    """A noisy picture with 0 to 3 bright squares (class 0) and discs (class 1), and their (class, xyxy box)."""
    random = np.random.default_rng(seed)
    pixels = np.clip(random.normal(90, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    objects = []
    for number in range(seed % 4):
        side = int(random.integers(14, 22))
        left, top = int(random.integers(0, width - side)), int(random.integers(0, height - side))
        label = (seed + number) % 2
        if label == 0:
            pixels[top : top + side, left : left + side] = (230, 60, 60)
        else:
            centre, radius = (left + side // 2, top + side // 2), side // 2
            cv2.circle(pixels, centre, radius, (60, 230, 60), -1)
        objects.append((label, [left, top, left + side, top + side]))
    return pixels, objects


def make_detection_competition(root: Path, *, train: int = 16, test: int = 6) -> Path:
    """A csv-layout competition of boxes: Korean folder with a space, ids with leading zeros, Korean classes."""
    tables: dict[str, list[dict[str, Any]]] = {"train": [], "test": [], "boxes": [], "solution_boxes": []}
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            name = f"{number:03d}" if split == "train" else f"9{number:03d}"
            file = f"사진 {split}/{name}.PNG"
            pixels, objects = scene(number + 100 * (split == "test"))
            write_image(root / file, pixels[..., ::-1])
            tables[split].append({"id": name, "file": file, "group": name})
            tables["boxes" if split == "train" else "solution_boxes"] += [
                {"id": name, "label": DETECTION_CLASSES[label], **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))}
                for label, box in objects
            ]
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(root / f"{name}.csv", index=False)
    order = [row["id"] for row in tables["test"]][::-1]
    pd.DataFrame({"id": order, "PredictionString": ""}).to_csv(root / "sample_submission.csv", index=False)
    return root


def on_detection(root: Path, outputs: Path) -> list[str]:
    """Overrides that run the tiny competition of boxes with the sample's spec."""
    return [
        "task=detection", f"competition.root='{root}'", "competition.bundled=false", "competition.data.group=null",
        "competition.data.classes=['네모','원']", f"outputs='{outputs}'", "logger=csv", "data.num_workers=0",
        "trainer.progress=false",
    ]  # fmt: skip


TINY_CAPTIONER = (
    "model=encoder_decoder", "model.backbone=resnet10t", "model.backbone_args={}", "model.weights=random",
    "model.image_size=64", "model.width=32", "model.depth=1", "model.heads=2", "model.vocab_size=200",
    "model.max_epochs=2", "data.batch_size=4", "decoding.max_tokens=12", "decoding.beams=3", "decoding.candidates=3",
)  # fmt: skip
COLOURS = {"빨간": (220, 40, 40), "파란": (40, 60, 220), "초록색": (40, 200, 60)}
SHAPES = ("네모", "원")


def drawn(seed: int, *, side: int = 72) -> tuple[np.ndarray, list[str]]:
    """A noisy picture with one bright shape of a colour, and two Korean sentences that say so."""
    random = np.random.default_rng(seed)
    pixels = np.clip(random.normal(110, 10, (side, side, 3)), 0, 255).astype(np.uint8)
    colour, shape = list(COLOURS)[seed % 3], SHAPES[seed // 3 % 2]
    if shape == "원":
        cv2.circle(pixels, (side // 2, side // 2), side // 4, COLOURS[colour], -1)
    else:
        cv2.rectangle(pixels, (side // 4, side // 4), (3 * side // 4, 3 * side // 4), COLOURS[colour], -1)
    particle = "가" if shape == "네모" else "이"
    return pixels, [f"{colour} {shape}{particle} 하나 있다.", f"사진 한가운데에 {colour} {shape}{particle} 보인다."]


def make_caption_competition(root: Path, *, train: int = 16, test: int = 6) -> Path:
    """A csv-layout competition of captions: two rows an image, Korean folder with a space, ids with leading zeros."""
    tables: dict[str, list[dict[str, Any]]] = {"train": [], "test": [], "solution": []}
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            name = f"{number:03d}" if split == "train" else f"9{number:03d}"
            file = f"사진 {split}/{name}.PNG"
            pixels, captions = drawn(number + 100 * (split == "test"))
            write_image(root / file, pixels[..., ::-1])
            if split == "test":
                tables["test"].append({"id": name, "file": file})
                tables["solution"] += [{"id": name, "caption": text} for text in captions]
            else:
                tables["train"] += [{"id": name, "file": file, "group": name, "caption": text} for text in captions]
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(root / f"{name}.csv", index=False)
    order = [row["id"] for row in tables["test"]][::-1]
    pd.DataFrame({"id": order, "caption": "사진"}).to_csv(root / "sample_submission.csv", index=False)
    return root


def on_captions(root: Path, outputs: Path) -> list[str]:
    """Overrides that run the tiny competition of captions with the sample's spec."""
    return [
        "task=caption", f"competition.root='{root}'", "competition.bundled=false", "competition.data.group=null",
        f"outputs='{outputs}'", "logger=csv", "data.num_workers=0", "trainer.progress=false",
    ]  # fmt: skip
