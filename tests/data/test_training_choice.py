"""Few shots a class, nested by number; even draws of uneven classes; classes of a manifest."""

import numpy as np
import pandas as pd
import pytest
import torch

from src.class_set import class_set
from src.data.dataset import ImageDataset
from src.data.sampler import REPEAT, EpochSampler, hash_ids
from src.data.training_choice import TrainingChoice
from src.data.transforms import PreprocessSpec, build_augmentation
from src.errors import ProjectError


def manifest(counts: dict[str, int], *, classes: bool = False) -> pd.DataFrame:
    rows = [
        {"id": f"{target}-{n}", "path": "x.png", "split": "train", "target": target, "label": int("good" not in target)}
        for target, count in counts.items()
        for n in range(count)
    ]
    rows += [{"id": "free", "path": "x.png", "split": "train", "target": None, "label": pd.NA}]
    frame = pd.DataFrame(rows).astype({"label": "Int64"})
    frame["target"] = frame["target"].astype(object).where(frame["target"].notna(), None)
    frame.attrs["classes"] = sorted(counts) if classes else None
    return frame


UNEVEN = {"tile-good": 50, "tile-crack": 7, "wood-good": 30, "wood-hole": 1}


def test_classes_are_the_targets_where_the_competition_asks_for_them() -> None:
    found = class_set(manifest(UNEVEN, classes=True), "auto")
    assert found.names == ("tile-crack", "tile-good", "wood-good", "wood-hole")
    assert found.normal == ("tile-good", "wood-good") and found.normal_mask.tolist() == [False, True, True, False]
    codes = found.codes(manifest(UNEVEN))
    assert np.bincount(codes[codes >= 0]).tolist() == [7, 50, 30, 1] and codes[-1] == -1
    binary = class_set(manifest(UNEVEN), "auto")
    assert binary.names == ("normal", "anomalous") and binary.codes(manifest(UNEVEN)).sum() == 8 - 1


def test_one_class_is_refused() -> None:
    with pytest.raises(ProjectError, match="two classes are needed"):
        class_set(manifest({"tile-good": 5}), "binary")
    with pytest.raises(ProjectError, match="two classes or more; the training targets: tile-good"):
        class_set(manifest({"tile-good": 5}), "targets")
    with pytest.raises(ProjectError, match="Did you mean 'targets'"):
        class_set(manifest(UNEVEN), "target")


def kept(choice: TrainingChoice, seed: int = 0) -> pd.Series:
    rows = manifest(UNEVEN)
    return rows[choice.keep(rows, seed)]


def test_so_many_shots_a_class_and_fewer_are_among_more() -> None:
    five = kept(TrainingChoice(shots=5))
    assert five["target"].value_counts().to_dict() == {
        "tile-good": 5, "tile-crack": 5, "wood-good": 5, "wood-hole": 1,
    }  # fmt: skip
    assert "free" in set(five["id"])  # a row without a label is of no class
    assert set(kept(TrainingChoice(shots=2))["id"]) < set(five["id"])
    assert set(five["id"]) != set(kept(TrainingChoice(shots=5), seed=1)["id"])
    normal = kept(TrainingChoice(shots=1, shots_normal="all"))["target"].value_counts()
    assert normal["tile-good"] == 50 and normal["tile-crack"] == 1
    assert kept(TrainingChoice(shots_normal=3))["target"].value_counts().to_dict() == {
        "tile-good": 3, "tile-crack": 7, "wood-good": 3, "wood-hole": 1,
    }  # fmt: skip


def test_shots_do_not_depend_on_the_order_of_the_rows() -> None:
    rows = manifest(UNEVEN)
    turned = rows.iloc[::-1]
    choice = TrainingChoice(shots=3)
    assert set(rows[choice.keep(rows, 4)]["id"]) == set(turned[choice.keep(turned, 4)]["id"])


@pytest.mark.parametrize("value", [0, -1, 1.5, "some", True])
def test_odd_numbers_of_shots_are_refused(value: object) -> None:
    with pytest.raises(ProjectError, match="data.shots"):
        TrainingChoice(shots=value)
    with pytest.raises(ProjectError, match="data.shots_normal"):
        TrainingChoice(shots_normal=value)


def test_a_class_without_training_rows_is_named() -> None:
    classes = class_set(manifest(UNEVEN, classes=True), "targets")
    rows = manifest({"tile-good": 3, "tile-crack": 2, "wood-good": 2})
    with pytest.raises(ProjectError, match="1 of 4 classes have no training image in this fold: wood-hole"):
        TrainingChoice(classes=classes).keep(rows, 0)
    assert TrainingChoice(classes=classes).keep(manifest(UNEVEN), 0).sum() == 88  # the unlabelled row is left out


def test_balanced_epochs_hold_equally_many_of_each_class() -> None:
    codes = np.repeat([0, 1, 2], [90, 9, 1])
    hashes = hash_ids([f"{n}" for n in range(100)])
    sampler = EpochSampler(hashes, seed=3, classes=codes)
    counts = [np.bincount(codes[sampler.order(epoch)], minlength=3) for epoch in range(3)]
    assert all(count.sum() == 100 and count.min() == 33 and count.max() == 34 for count in counts)
    assert {int(count.argmax()) for count in counts} == {0, 1, 2}  # the remainder goes round
    drawn = list(sampler)
    assert len(drawn) == len(set(drawn)) == 100  # a sample that comes again comes with another epoch number
    assert sum(row == 99 for _, row in drawn) in (33, 34)
    shares = [np.mean(codes[sampler.order(e)[:30]] == 2) for e in range(40)]
    assert 0.25 < np.mean(shares) < 0.42  # spread over the epoch, not at its end


def test_balanced_order_is_shared_by_ranks_and_goes_on() -> None:
    codes = np.repeat([0, 1], [9, 3])
    hashes = hash_ids([f"{n}" for n in range(12)])
    whole = list(EpochSampler(hashes, seed=1, classes=codes))
    parts = [list(EpochSampler(hashes, seed=1, rank=r, world_size=2, classes=codes)) for r in range(2)]
    assert [pair for both in zip(*parts, strict=True) for pair in both] == whole
    resumed = EpochSampler(hashes, seed=1, classes=codes)
    resumed.resume(0, 5)
    assert list(resumed) == whole[5:]


def test_a_repeated_sample_is_augmented_otherwise(tmp_path) -> None:
    import cv2

    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.arange(32 * 32, dtype=np.uint8).reshape(32, 32))
    rows = pd.DataFrame([{"id": "a", "path": str(path), "label": 1, "category": "tile"}])
    spec = PreprocessSpec(32, 32)
    augment = build_augmentation([{"name": "RandomResizedCrop", "scale": [0.2, 0.9]}], spec)
    data = ImageDataset(rows, spec, augment=augment, classes=np.array([2]))
    first, again, same = data[0, 0], data[REPEAT, 0], data[REPEAT, 0]
    assert not torch.equal(first["image"], again["image"]) and torch.equal(again["image"], same["image"])
    assert first["class"].item() == 2 and first["category"] == "tile"
