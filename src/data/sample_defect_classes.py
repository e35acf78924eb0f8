"""Recipe of the bundled competition `sample_defect_classes`: which texture is it, and what is wrong with it.

Twelve classes, such as "brick-good" and "gravel-hole": the three photographs of `sample_anomaly`, each sound or with
one of three defects, drawn by that recipe's painters under its light and camera. Windows of the photographs, the split
between train and test, and the `group` column are as described there; the pictures are others, of another seed. Each
is made at that recipe's size and halved by the mean of four pixels, in whole numbers, so that it is the same on every
machine and a network trains on it without a GPU.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from src.data.draws import Draws
from src.data.sample_anomaly import TEXTURES, Picture, Row, load_textures, make_picture, windows

SEED = 20240915
SIZE = 112  # pixels, height and width of a picture
KINDS = ("scratch", "stain", "hole")
GOOD = "good"
COUNTS = {"train": (20, 10), "test": (10, 5)}  # pictures of a texture: good, and of each kind of defect
JPEG_QUALITY = 95


def target_of(row: Row) -> str:
    """The class of a picture."""
    return f"{row.texture}-{GOOD if row.kind == 'normal' else row.kind}"


def plan(seed: int = SEED) -> list[Row]:
    """Every picture in the order of the tables; classes are spread at random over the ids, evenly over the windows."""
    rows: list[Row] = []
    for split, (good, defects) in COUNTS.items():
        planned = []
        for texture in TEXTURES:
            own = windows(texture, split)
            for kind, count in (("normal", good), *((kind, defects) for kind in KINDS)):
                planned += [(texture, own[index % len(own)], kind) for index in range(count)]
        for texture, window, kind in Draws(seed, split, "order").shuffle(planned):
            rows.append(Row(f"{len(rows):04d}", split, texture, window, kind))
    return rows


def draw(row: Row, textures: dict[str, np.ndarray], seed: int = SEED) -> Picture:
    """One picture and its mask; a pixel of the mask is damaged where two of its four are."""
    picture = make_picture(row, textures, seed)
    image = (_sum_of_four(picture.image.astype(np.int64)) + 2) // 4
    return Picture(image.astype(np.uint8), _sum_of_four(picture.mask.astype(np.int64)) >= 2)


def write(folder: Path, seed: int = SEED) -> None:
    """train.csv (id, file, label, group, mask), test.csv, sample_submission.csv, solution.csv and pictures."""
    import cv2
    import pandas as pd

    textures, rows = load_textures(), plan(seed)
    for name in ("train", "test", "masks"):
        (folder / name).mkdir()

    def save(row: Row) -> None:
        picture = draw(row, textures, seed)
        encoded = cv2.imencode(".jpg", picture.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (folder / row.split / f"{row.id}.jpg").write_bytes(encoded.tobytes())
        if row.kind != "normal":
            mask = cv2.imencode(".png", picture.mask.astype(np.uint8) * 255)[1]
            (folder / "masks" / f"{row.id}.png").write_bytes(mask.tobytes())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(save, rows))

    table = pd.DataFrame(
        {
            "id": row.id,
            "file": f"{row.split}/{row.id}.jpg",
            "label": target_of(row),
            "group": row.group,
            "mask": "" if row.kind == "normal" else f"masks/{row.id}.png",
            "split": row.split,
        }
        for row in rows
    )
    train, test = (table[table["split"] == split].drop(columns="split") for split in COUNTS)
    train.to_csv(folder / "train.csv", index=False)
    test[["id", "file"]].to_csv(folder / "test.csv", index=False)
    test[["id", "label", "mask"]].to_csv(folder / "solution.csv", index=False)
    test[["id"]].assign(label=f"{TEXTURES[0]}-{GOOD}").to_csv(folder / "sample_submission.csv", index=False)


def _sum_of_four(values: np.ndarray) -> np.ndarray:
    """(2H, 2W, …) to (H, W, …)."""
    return values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]
