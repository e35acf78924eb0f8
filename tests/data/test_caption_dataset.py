"""Caption samples: captions seen equally often, pictures mirrored with their words, loaders of what has captions."""

import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src.data.caption_dataset import CaptionDataset
from src.data.datamodule import DataModule
from src.data.dataset import collate
from src.data.mirror import MirrorWithWords
from src.data.transforms import PreprocessSpec, build_augmentation
from src.errors import ProjectError

SPEC = PreprocessSpec(24, 32)
MIRROR = [{"name": "MirrorWithWords", "p": 0.5}]
N = 12


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> pd.DataFrame:
    """Twelve pictures, dark at the left and light at the right; 3 has no captions, 10 and 11 are test rows."""
    folder, out = tmp_path_factory.mktemp("pictures"), []
    for i in range(N):
        image = np.zeros((30, 40 + i, 3), np.uint8)
        image[:, 20:] = 200
        path = folder / f"{i}.png"
        Image.fromarray(image).save(path)
        texts = [f"{i}번 사진 왼쪽이 어둡다.", f"{i}번 사진 오른쪽이 밝다.", f"{i}번 사진"] if i != 3 else []
        split = "train" if i < 10 else "test"
        captions = texts if split == "train" else None
        out.append({"id": f"{i:02d}", "path": str(path), "split": split, "captions": captions})
    return pd.DataFrame(out, index=range(100, 100 + N))


@pytest.fixture
def folds(rows: pd.DataFrame) -> pd.Series:
    """Fold 0 holds out 2 to 4, 3 among them."""
    values = [0 if 2 <= i <= 4 else -1 for i in range(10)]
    return pd.Series(values, index=rows.index[rows["split"] == "train"])


def test_a_sample(rows: pd.DataFrame) -> None:
    sample = CaptionDataset(rows, SPEC)[1]
    assert list(sample) == ["image", "id", "original_size", "captions"]
    assert sample["image"].shape == (3, 24, 32) and sample["image"].dtype == torch.uint8
    assert sample["original_size"].tolist() == [30, 41]
    assert sample["captions"] == ["1번 사진 왼쪽이 어둡다.", "1번 사진 오른쪽이 밝다.", "1번 사진"]
    assert CaptionDataset(rows, SPEC)[3]["captions"] == CaptionDataset(rows, SPEC)[11]["captions"] == []
    assert CaptionDataset(rows[["id", "path"]], SPEC)[0]["captions"] == []


def test_a_batch(rows: pd.DataFrame) -> None:
    dataset = CaptionDataset(rows, SPEC)
    batch = collate([dataset[0], dataset[3]])
    assert batch["captions"] == [dataset.captions[0], []] and batch["image"].shape == (2, 3, 24, 32)


def test_a_sample_keeps_its_own_list(rows: pd.DataFrame) -> None:
    dataset = CaptionDataset(rows, SPEC)
    dataset[0]["captions"].append("x")
    assert len(dataset[0]["captions"]) == 3 == len(rows["captions"].iloc[0])


@pytest.mark.parametrize("count", [1, 2])
def test_captions_take_turns(rows: pd.DataFrame, count: int) -> None:
    """So many a sample, all different; after three epochs each was seen equally often; another start an id and seed."""
    dataset = CaptionDataset(rows, SPEC, captions_per_image=count, seed=5)
    seen = [dataset[epoch, 1]["captions"] for epoch in range(3)]
    assert [len(set(texts)) for texts in seen] == [count] * 3
    assert set(Counter(text for texts in seen for text in texts).values()) == {count}
    firsts = [dataset[0, row]["captions"][0].partition(" ")[2] for row in range(10) if row != 3]
    assert len(set(firsts)) > 1
    other = CaptionDataset(rows, SPEC, captions_per_image=count, seed=6)
    assert any(dataset[0, row]["captions"] != other[0, row]["captions"] for row in range(10))
    again = CaptionDataset(rows.iloc[::-1], SPEC, captions_per_image=count, seed=5)
    assert again[2, N - 2]["captions"] == seen[2]
    assert dataset[0, 3]["captions"] == [] and CaptionDataset(rows, SPEC, captions_per_image=9)[0]["captions"]


def test_words_are_mirrored_with_the_picture(rows: pd.DataFrame) -> None:
    dataset = CaptionDataset(rows, SPEC, augment=build_augmentation(MIRROR, SPEC), seed=1)
    mirrored = 0
    for epoch in range(40):
        sample = dataset[epoch, 0]
        dark_left = bool(sample["image"][:, :, 0].max() < 100)
        assert sample["captions"][0] == f"0번 사진 {'왼쪽' if dark_left else '오른쪽'}이 어둡다."
        assert sample["captions"][1] == f"0번 사진 {'오른쪽' if dark_left else '왼쪽'}이 밝다."
        mirrored += not dark_left
    assert 10 <= mirrored <= 30
    assert dataset.captions[0][0] == "0번 사진 왼쪽이 어둡다."


def test_mirroring_is_a_function_of_the_key(rows: pd.DataFrame) -> None:
    config = [*MIRROR, {"name": "RandomBrightnessContrast", "p": 1.0}, *MIRROR]
    augment = build_augmentation(config, SPEC)
    image, captions = np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3), ["왼쪽"]
    results = []
    for pipeline in (augment, pickle.loads(pickle.dumps(augment))):
        results.append([pipeline(key=key, image=image.copy(), captions=captions) for key in range(8)])
    for first, second in zip(*results, strict=True):
        assert np.array_equal(first["image"], second["image"]) and first["captions"] == second["captions"]
    assert {tuple(result["captions"]) for result in results[0]} == {("왼쪽",), ("오른쪽",)}
    mask = np.zeros((24, 32), np.uint8)
    mask[:, :4] = 1
    whole = build_augmentation([{"name": "MirrorWithWords", "p": 1.0}], SPEC)(key=1, image=image, mask=mask)
    assert whole["mask"][:, -4:].all() and not whole["mask"][:, :-4].any()
    assert np.array_equal(whole["image"], image[:, ::-1])


@pytest.mark.parametrize(
    "config",
    [
        [{"name": "HorizontalFlip", "p": 0.5}],
        [{"name": "OneOf", "transforms": [{"name": "D4"}, {"name": "RandomGamma"}]}],
    ],
)
def test_a_plain_mirror_needs_captions_without_sides(rows: pd.DataFrame, config: list) -> None:
    spec = PreprocessSpec(24, 24)
    augment = build_augmentation(config, spec)
    with pytest.raises(ProjectError, match=r"name sides, as '왼쪽이' of the image '00'.*MirrorWithWords, p: 0.5"):
        CaptionDataset(rows, spec, augment=augment)
    plain = rows.assign(captions=[["개가 달린다."]] * N)
    assert CaptionDataset(plain, spec, augment=augment)[0]["captions"] == ["개가 달린다."]


def test_what_is_refused(rows: pd.DataFrame) -> None:
    with pytest.raises(ProjectError, match="captions_per_image must be 1 or more"):
        CaptionDataset(rows, SPEC, captions_per_image=0)
    mixing = build_augmentation([{"name": "MixUp", "p": 0.5}], SPEC)
    with pytest.raises(ProjectError, match="MixUp needs boxes"):
        CaptionDataset(rows, SPEC, augment=mixing)
    with pytest.raises(ProjectError, match="MirrorWithWords is for pictures with captions"):
        build_augmentation(MIRROR, SPEC).check_boxes()
    with pytest.raises(ProjectError, match=r"transform 1 \(MirrorWithWords\): p must be a number, 0 to 1, not 2"):
        build_augmentation([{"name": "MirrorWithWords", "p": 2}], SPEC)
    with pytest.raises(ProjectError, match=r"unknown argument 'prob'.* It takes p"):
        build_augmentation([{"name": "MirrorWithWords", "prob": 1}], SPEC)
    with pytest.raises(ProjectError, match="MirrorWithWords changes captions: put it into the list itself"):
        build_augmentation([{"name": "OneOf", "transforms": MIRROR}], SPEC)
    with pytest.raises(ProjectError, match="Did you mean 'MirrorWithWords'"):
        build_augmentation([{"name": "MirorWithWord"}], SPEC)
    with pytest.raises(ValueError, match="p must be"):
        MirrorWithWords(p=True)


@pytest.mark.parametrize("name", ["caption", "caption_light"])
def test_shipped_augments_keep_captions_true(rows: pd.DataFrame, name: str) -> None:
    from pathlib import Path

    import yaml

    config = yaml.safe_load((Path(__file__).parents[2] / "conf" / "augment" / f"{name}.yaml").read_text())
    dataset = CaptionDataset(rows, SPEC, augment=build_augmentation(config, SPEC))
    for epoch in range(10):
        sample = dataset[epoch, 2]
        dark_left = sample["image"][:, :, :4].float().mean() < sample["image"][:, :, -4:].float().mean()
        assert sample["captions"][0].split()[2] == ("왼쪽이" if dark_left else "오른쪽이")


# loaders -----------------------------------------------------------------------------------------------------


def module(rows: pd.DataFrame | None, folds: pd.Series | None, **options) -> DataModule:
    options = {"batch_size": 4, "num_workers": 0, "cache": "ram", "seed": 7, "targets": "caption"} | options
    return DataModule(rows, folds, 0, SPEC, build_augmentation(MIRROR, SPEC), **options)


def of(loader) -> dict[str, list[str]]:
    return {name: texts for batch in loader for name, texts in zip(batch["id"], batch["captions"], strict=True)}


def test_loaders(rows: pd.DataFrame, folds: pd.Series) -> None:
    """Training sees one caption of each captioned row outside the fold; validation all, in order, not mirrored."""
    data = module(rows, folds, captions_per_image=1)
    data.setup()
    train, val, test = of(data.train_dataloader()), of(data.val_dataloader()), of(data.test_dataloader())
    assert sorted(train) == ["00", "01", "05", "06", "07", "08", "09"] and {len(t) for t in train.values()} == {1}
    assert val == {f"{i:02d}": rows["captions"].iloc[i] for i in (2, 3, 4)}
    assert test == {"10": [], "11": []}
    assert of(module(rows, folds).train_dataloader())["00"][2] == "0번 사진"


def test_rows_without_captions_are_not_trained_on(rows: pd.DataFrame, folds: pd.Series) -> None:
    outside = folds.where(folds.index != 103, -1)
    data = module(rows, outside)
    assert "03" not in of(data.train_dataloader()) and "03" not in of(data.val_dataloader())
    bare = rows.assign(captions=[[]] * N)
    with pytest.raises(ProjectError, match="leaves no training images with captions of 10"):
        module(bare, folds).train_rows()


def test_new_pictures(rows: pd.DataFrame) -> None:
    loader = module(None, None).infer_dataloader(rows["path"].tolist()[:3])
    assert of(loader) == {path: [] for path in rows["path"].tolist()[:3]}


def test_a_resumed_epoch_sees_the_same_captions(rows: pd.DataFrame, folds: pd.Series) -> None:
    whole = [batch["captions"] for batch in module(rows, folds, captions_per_image=1).train_dataloader()]
    data = module(rows, folds, captions_per_image=1)
    data.setup("fit")
    from src.data.datamodule import _row_hash

    rest = {"epoch": 0, "consumed": 4, "seed": 7, "rows": _row_hash(data.train_rows()["id"])}
    data.load_state_dict(rest)
    assert [batch["captions"] for batch in data.train_dataloader()] == whole[1:]
