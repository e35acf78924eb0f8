"""Detection samples: boxes on the canvas and back, unknown against absent boxes, mixing that ends and resumes."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from src.data.cache import build_store
from src.data.datamodule import DataModule
from src.data.dataset import ImageDataset, collate
from src.data.detection_dataset import DetectionDataset
from src.data.geometry import boxes_to_canvas, boxes_to_original
from src.data.transforms import PreprocessSpec, build_augmentation
from src.errors import ProjectError

SPEC = PreprocessSpec(48, 64, "letterbox")
N = 12
MIXED = [
    {"name": "Mosaic4", "scale": [0.5, 1.0], "p": 0.7},
    {"name": "HorizontalFlip", "p": 0.5},
    {"name": "ScaleJitter", "scale": [0.8, 1.2], "p": 0.5},
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> pd.DataFrame:
    """Twelve pictures; 3 has boxes unknown but tags, 4 none at all, 5 an ignored region. Index from 100."""
    folder, rng, out = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), []
    for i in range(N):
        width, height = 80 + i, 60 + 2 * i
        image = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
        image[20:40, 10:50] = 255
        path = folder / f"{i}.png"
        Image.fromarray(image).save(path)
        boxes, labels = np.array([[10, 20, 50, 40], [0, 0, width, height]], float), np.array([i % 3, 2])
        ignored, tags = np.array([False, i == 5]), np.array([0, 4])
        if i == 3:
            boxes, labels, ignored = None, None, None
        if i == 4:
            boxes, labels, ignored, tags = np.empty((0, 4)), np.empty(0, np.int64), None, np.empty(0, np.int64)
        targets = {"boxes": boxes, "labels": labels, "ignored": ignored, "tags": tags}
        out.append({"id": f"{i:02d}", "path": str(path), "split": "train" if i < 10 else "test", **targets})
    return pd.DataFrame(out, index=range(100, 100 + N))


def equal(first: dict, second: dict) -> bool:
    return all(torch.equal(first[k], second[k]) if torch.is_tensor(first[k]) else first[k] == second[k] for k in first)


def test_a_sample(rows):
    sample = DetectionDataset(rows, SPEC)[1]
    assert list(sample) == ["image", "id", "original_size", "boxes", "labels", "tags", "has_boxes", "window"]
    assert sample["image"].shape == (3, 48, 64) and sample["image"].dtype == torch.uint8
    assert sample["original_size"].tolist() == [62, 81] and sample["window"].tolist() == [0, 0, 81, 62]
    assert sample["boxes"].dtype == torch.float32 and sample["labels"].tolist() == [1, 2]
    assert sample["tags"].tolist() == [0, 1, 2, 4] and sample["has_boxes"].item() is True
    back = boxes_to_original(sample["boxes"].numpy(), (62, 81), SPEC)
    assert back == pytest.approx(np.array(rows["boxes"].iloc[1]), abs=1e-4)
    x1, y1, x2, y2 = sample["boxes"][0].round().int().tolist()
    inside = sample["image"][:, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
    assert inside.min() > 150 and sample["image"][:, y2 + 2 :, x2 + 2 :].float().mean() < 120


def test_unknown_absent_and_ignored_boxes(rows):
    dataset = DetectionDataset(rows, SPEC)
    unknown, absent, ignored = dataset[3], dataset[4], dataset[5]
    assert not unknown["has_boxes"] and unknown["boxes"].shape == (0, 4) and unknown["tags"].tolist() == [0, 4]
    assert absent["has_boxes"] and absent["boxes"].shape == (0, 4) and absent["tags"].tolist() == []
    assert ignored["labels"].tolist() == [2] and len(ignored["boxes"]) == 1
    bare = DetectionDataset(rows[["id", "path"]], SPEC)[0]
    assert not bare["has_boxes"] and bare["tags"].shape == (0,) and bare["labels"].dtype == torch.int64
    joined = pd.concat([rows, pd.DataFrame({"id": ["x"], "path": [rows["path"].iloc[0]]})], ignore_index=True)
    assert not DetectionDataset(joined, SPEC)[N]["has_boxes"]


def test_a_batch(rows):
    dataset = DetectionDataset(rows, SPEC)
    batch = collate([dataset[i] for i in (0, 3, 4)])
    assert batch["image"].shape == (3, 3, 48, 64) and batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert [b.shape[0] for b in batch["boxes"]] == [2, 0, 0] and isinstance(batch["labels"], list)
    assert batch["has_boxes"].tolist() == [True, False, True] and batch["original_size"].shape == (3, 2)
    assert batch["window"].shape == (3, 4) and batch["id"] == ["00", "03", "04"]


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["squash", "letterbox", "crop"]),
    size=st.tuples(st.integers(1, 900), st.integers(1, 900)),
    canvas=st.tuples(st.integers(8, 300), st.integers(8, 300)),
    corners=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_boxes_to_the_canvas_and_back(mode, size, canvas, corners):
    spec = PreprocessSpec(*canvas, mode)
    (x1, x2), (y1, y2) = sorted(corners[:2]), sorted(corners[2:])
    boxes = np.array([[x1, y1, x2, y2]]) * [size[1], size[0], size[1], size[0]]
    assert boxes_to_original(boxes_to_canvas(boxes, size, spec), size, spec) == pytest.approx(boxes, abs=1e-6)
    assert boxes_to_canvas(np.empty((0, 4)), size, spec).shape == (0, 4)


def test_crop_mode_drops_what_it_cuts_away(rows):
    wide = rows.iloc[:1].assign(boxes=[np.array([[0, 0, 6, 60], [30, 10, 50, 50.0]])], labels=[np.array([0, 1])])
    sample = DetectionDataset(wide, PreprocessSpec(48, 32, "crop"))[0]
    assert sample["labels"].tolist() == [1] and sample["boxes"].max() <= 48


def test_rows_keep_their_boxes(rows):
    dataset = DetectionDataset(rows, SPEC)
    first = dataset[0]
    kept = first["boxes"].clone()
    first["boxes"].zero_()
    first["labels"].zero_()
    assert torch.equal(dataset[0]["boxes"], kept) and dataset[0]["labels"].tolist() == [0, 2]


# -- mixing


def test_samples_depend_on_epoch_and_id_only(rows):
    augment = build_augmentation(MIXED, SPEC)
    store = build_store(rows["path"], SPEC, mode="ram")
    dataset = DetectionDataset(rows, SPEC, augment=augment, seed=5, cache=store)
    first = {(epoch, i): dataset[epoch, i] for epoch in range(3) for i in range(N)}
    shuffled = DetectionDataset(rows.iloc[::-1], SPEC, augment=augment, seed=5)
    for (epoch, i), sample in reversed(first.items()):
        assert equal(sample, shuffled[epoch, N - 1 - i])
    other = DetectionDataset(rows, SPEC, augment=augment, seed=6, cache=store)
    assert sum(not equal(other[0, i], first[0, i]) for i in range(N)) > N // 2


def test_mixing_ends_with_the_close(rows):
    augment = build_augmentation([{"name": "Mosaic4", "scale": [0.5, 0.5], "p": 1}], SPEC)
    dataset = DetectionDataset(rows, SPEC, augment=augment, close_mosaic_epoch=2)
    plain = DetectionDataset(rows, SPEC)
    assert not torch.equal(dataset[1, 0]["image"], plain[0]["image"])
    assert torch.equal(dataset[2, 0]["image"], plain[0]["image"]) and equal(dataset[7, 1], plain[1])


def test_pictures_without_known_boxes_are_never_mixed(rows):
    augment = build_augmentation([{"name": "Mosaic4", "scale": [0.5, 0.5], "p": 1}], SPEC)
    dataset = DetectionDataset(rows, SPEC, augment=augment)
    plain = DetectionDataset(rows, SPEC)
    assert all(equal(dataset[epoch, 3], plain[3]) for epoch in range(5))
    only = DetectionDataset(rows.iloc[3:5], SPEC, augment=augment)
    for epoch in range(3):
        assert only[epoch, 1]["boxes"].shape == (0, 4)  # its partners are itself
        assert only[epoch, 1]["tags"].tolist() == []


def test_tags_of_a_mosaic(rows):
    augment = build_augmentation([{"name": "Mosaic4", "scale": [0.5, 0.5], "p": 1}], SPEC)
    dataset = DetectionDataset(rows.iloc[[0, 1, 2, 6]], SPEC, augment=augment)
    for epoch in range(5):
        sample = dataset[epoch, 0]
        assert set(sample["labels"].tolist()) | {4} <= set(sample["tags"].tolist()) <= {0, 1, 2, 4}


def test_anomaly_pictures_refuse_it(rows):
    with pytest.raises(ProjectError, match="Mosaic4 is for pictures with boxes"):
        ImageDataset(rows, SPEC, augment=build_augmentation(MIXED, SPEC))


# -- the datamodule


def module(rows: pd.DataFrame, **options) -> DataModule:
    folds = pd.Series([0, 0, *[1] * 8], index=rows.index[:10])
    augment = build_augmentation(MIXED, SPEC)
    options = {"batch_size": 4, "num_workers": 0, "cache": "ram", "targets": "detection", **options}
    return DataModule(rows, folds, 0, SPEC, augment, **options)


def test_loaders_of_detection(rows):
    data = module(rows)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch["boxes"], list) and batch["image"].shape == (4, 3, 48, 64)
    val = next(iter(data.val_dataloader()))
    assert val["id"] == ["00", "01"] and torch.equal(val["boxes"][0], DetectionDataset(rows, SPEC)[0]["boxes"])
    test = next(iter(data.test_dataloader()))
    assert test["id"] == ["10", "11"]
    found = next(iter(data.infer_dataloader([rows["path"].iloc[0]])))
    assert found["window"].tolist() == [[0, 0, 80, 60]] and found["has_boxes"].tolist() == [False]
    with pytest.raises(ValueError, match="targets"):
        module(rows, targets="boxes")


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_sees_the_same_mosaics(rows, tmp_path):
    """Stopped in the middle of the epoch before mosaics end; two workers go on."""
    import lightning.pytorch as pl

    class Watcher(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(1, 1), []

        def training_step(self, batch: dict, index: int) -> torch.Tensor:
            boxes = [tuple(b.flatten().tolist()) for b in batch["boxes"]]
            self.seen.append((self.current_epoch, batch["id"], int(batch["image"].sum()), boxes))
            return self.layer(torch.ones(1, 1)).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def fit(folder: str, workers: int = 0, checkpoint: str | None = None) -> list:
        keep = pl.callbacks.ModelCheckpoint(
            dirpath=tmp_path / folder, filename="{step}", save_top_k=-1, every_n_train_steps=3
        )
        trainer = pl.Trainer(
            max_epochs=4, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[keep], use_distributed_sampler=False, limit_val_batches=0,
        )  # fmt: skip
        watcher = Watcher()
        data = module(rows, num_workers=workers, close_mosaic_epoch=2)
        trainer.fit(watcher, datamodule=data, ckpt_path=checkpoint, weights_only=checkpoint is not None or None)
        return watcher.seen

    whole = fit("whole")
    assert len(whole) == 8
    assert fit("again", workers=2, checkpoint=tmp_path / "whole" / "step=3.ckpt") == whole[3:]


def test_shipped_augmentations_on_real_pictures(shared_data):
    """coco128: every box stays on the canvas, and most objects keep one."""
    from pathlib import Path

    conf = Path(__file__).resolve().parents[2] / "conf" / "augment"
    pictures = sorted((shared_data / "coco128" / "images" / "train2017").glob("*.jpg"))[:24]
    table = []
    for path in pictures:
        width, height = Image.open(path).size
        label_file = shared_data / "coco128" / "labels" / "train2017" / f"{path.stem}.txt"
        values = np.loadtxt(label_file, ndmin=2) if label_file.is_file() else np.empty((0, 5))
        centre, half = values[:, 1:3], values[:, 3:] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1) * [width, height, width, height]
        table.append({"id": path.stem, "path": str(path), "boxes": boxes.clip(0), "labels": values[:, 0].astype(int)})
    spec = PreprocessSpec(160, 160, "letterbox")
    store = build_store([row["path"] for row in table], spec, mode="ram")
    total = sum(len(row["boxes"]) for row in table)
    for name in ("detection", "detection_light", "detection_strong"):
        augment = build_augmentation(yaml.safe_load((conf / f"{name}.yaml").read_text(encoding="utf-8")), spec)
        dataset = DetectionDataset(pd.DataFrame(table), spec, augment=augment, cache=store)
        kept = 0
        for epoch in range(2):
            for i in range(len(table)):
                sample = dataset[epoch, i]
                boxes = sample["boxes"]
                assert (boxes >= 0).all() and (boxes <= 160).all() and (boxes[:, 2:] - boxes[:, :2] >= 0.99).all()
                kept += len(boxes)
        assert kept > 0.6 * 2 * total
