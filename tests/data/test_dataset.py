"""Samples and batches: shapes, types, masks, labels; caches that share pixels; broken files found at once."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from src.data import cache as cache_module
from src.data.cache import build_masks, build_store
from src.data.dataset import ImageDataset, collate
from src.data.images import ImageError, read_mask, read_resized
from src.data.transforms import PreprocessSpec, build_augmentation
from src.errors import ProjectError

SPEC = PreprocessSpec(20, 30)


@pytest.fixture
def rows(tmp_path) -> pd.DataFrame:
    """Six pictures of different sizes; row 1 and 2 have masks, row 2 is anomalous, row 3 unknown."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "그림 들"
    folder.mkdir()
    table = []
    for i in range(6):
        height, width = 40 + i, 50 + 2 * i
        Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(folder / f"{i}.png")
        mask = None
        if i in (1, 2):
            mask = str(folder / f"{i}_mask.png")
            Image.fromarray((rng.random((height, width)) > 0.7).astype(np.uint8) * 255).save(mask)
        table.append(
            {
                "id": f"{i:03d}",
                "path": str(folder / f"{i}.png"),
                "mask": mask,
                "label": [0, 0, 1, None, 0, 0][i],
            }
        )
    return pd.DataFrame(table).astype({"label": "Int64"})


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a
    )


def test_sample(rows):
    dataset = ImageDataset(rows, SPEC, with_masks=True)
    assert len(dataset) == 6
    sample = dataset[2]
    assert set(sample) == {"image", "id", "original_size", "label", "mask"}
    assert sample["image"].dtype == torch.uint8 and sample["image"].shape == (3, 20, 30)
    assert (sample["image"].permute(1, 2, 0).numpy() == read_resized(rows.path[2], SPEC)[0]).all()
    assert sample["id"] == "002" and sample["original_size"].tolist() == [42, 54]
    assert sample["original_size"].dtype == torch.int64
    assert sample["mask"].dtype == torch.uint8 and sample["mask"].shape == (1, 20, 30)
    assert (sample["mask"][0].numpy() == read_mask(rows["mask"][2], spec=SPEC)).all() and sample["mask"].any()
    assert not dataset[0]["mask"].any()
    assert [dataset[i]["label"].item() for i in range(6)] == [0, 0, 1, -1, 0, 0]
    assert "mask" not in ImageDataset(rows, SPEC)[0]
    assert ImageDataset(rows[["id", "path"]], SPEC)[0]["label"].item() == -1


def test_batch(rows):
    dataset = ImageDataset(rows, SPEC, with_masks=True)
    batch = next(iter(DataLoader(dataset, batch_size=4, collate_fn=collate)))
    assert batch["image"].shape == (4, 3, 20, 30) and batch["image"].dtype == torch.uint8
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["id"] == ["000", "001", "002", "003"]
    assert batch["original_size"].shape == (4, 2) and batch["label"].tolist() == [0, 0, 1, -1]
    assert batch["mask"].shape == (4, 1, 20, 30)
    for i in range(4):
        assert torch.equal(batch["image"][i], dataset[i]["image"])
    assert SPEC.normalize(batch["image"]).is_contiguous()


@pytest.mark.parametrize("mode", ["ram", "disk", "none"])
def test_every_cache_gives_the_same_samples(rows, tmp_path, mode):
    plain = ImageDataset(rows, SPEC, with_masks=True)
    store = build_store(rows.path, SPEC, mode=mode, cache_dir=tmp_path / "cache")
    masks = build_masks(rows["mask"].dropna().tolist(), SPEC)
    cached = ImageDataset(rows, SPEC, with_masks=True, cache=store, masks=masks)
    assert store.mode == cached.cache_mode == mode and not store.broken
    copied = pickle.loads(pickle.dumps(cached))
    for i in range(6):
        assert same(plain[i], cached[i]) and same(plain[i], copied[i])


def test_a_cached_picture_cannot_be_spoilt_by_its_user(rows):
    dataset = ImageDataset(rows, SPEC, cache=build_store(rows.path, SPEC, mode="ram"))
    before = dataset[0]["image"].clone()
    dataset[0]["image"].zero_()
    assert torch.equal(dataset[0]["image"], before)


def test_disk_cache_is_found_again_and_follows_the_files(rows, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "cache"
    first = build_store(rows.path, SPEC, mode="disk", cache_dir=folder)
    assert "6 images" in capsys.readouterr().err
    assert first.file.parent == folder and len(list(folder.iterdir())) == 2
    monkeypatch.setattr(cache_module, "read_resized", lambda *_: pytest.fail("decoded again"))
    second = build_store(rows.path, SPEC, mode="disk", cache_dir=folder)
    assert second.file == first.file and second.size(rows.path[3]) == (43, 56)
    assert str(first.file) in capsys.readouterr().err
    monkeypatch.undo()
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(
        rows.path[0]
    )  # a changed file, another spec: other caches
    changed = build_store(rows.path, SPEC, mode="disk", cache_dir=folder)
    other = build_store(rows.path, PreprocessSpec(20, 30, "letterbox"), mode="disk", cache_dir=folder)
    assert len({first.file, changed.file, other.file}) == 3
    assert not changed.read(rows.path[0])[0].any()
    changed.file.with_suffix(".json").unlink()  # an index is what says that the pixels are whole
    decoded = []
    real = read_resized
    monkeypatch.setattr(cache_module, "read_resized", lambda *a: decoded.append(a) or real(*a))
    build_store(rows.path, SPEC, mode="disk", cache_dir=folder)
    assert len(decoded) == 6


def test_an_interrupted_disk_cache_leaves_nothing(rows, tmp_path, monkeypatch):
    def stop(path: str, spec: PreprocessSpec) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "read_resized", stop)
    with pytest.raises(KeyboardInterrupt):
        build_store(rows.path, SPEC, mode="disk", cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("mode", ["ram", "disk", "none"])
def test_broken_files_are_found_in_the_pass(rows, tmp_path, mode):
    Path(rows.path[1]).write_bytes(Path(rows.path[1]).read_bytes()[:500])
    Path(rows.path[4]).unlink()
    for _ in range(2):  # the second time the disk's index tells
        store = build_store(rows.path, SPEC, mode=mode, cache_dir=tmp_path / "cache")
        assert list(store.broken) == [1, 4] and store.broken[4] == "no such file"
        assert "truncated" in store.broken[1]
        assert store.read(rows.path[5])[1] == (45, 60)


def test_auto_chooses_by_free_memory(rows, tmp_path, monkeypatch):
    n_bytes = 6 * 20 * 30 * 3

    def chosen(free: int, **options) -> str:
        monkeypatch.setattr(cache_module, "available_memory", lambda: free)
        return build_store(rows.path, SPEC, cache_dir=tmp_path / "cache", **options).mode

    assert chosen(n_bytes * 5) == "ram"
    assert chosen(n_bytes * 3) == "disk"
    assert chosen(n_bytes * 3, large="none") == "none"
    assert chosen(n_bytes * 5, processes=2) == "disk"
    assert cache_module.available_memory() > 0


def test_a_full_disk(rows, tmp_path, monkeypatch):
    class Usage:
        free = 100

    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(ProjectError, match="cache_dir"):
        build_store(rows.path, SPEC, mode="disk", cache_dir=tmp_path / "cache")
    monkeypatch.setattr(cache_module, "available_memory", lambda: 0)
    assert build_store(rows.path, SPEC, mode="auto", cache_dir=tmp_path / "cache").mode == "none"


def test_unknown_cache_mode(rows):
    with pytest.raises(ProjectError, match="Did you mean 'ram'"):
        build_store(rows.path, SPEC, mode="rma")


def test_one_closing_line_when_nobody_watches(rows, capsys):
    build_store(rows.path, SPEC, mode="ram", what="train images")
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert shown.err.startswith("read 6 train images in ") and "0 unreadable; kept in memory" in shown.err


def test_mask_store_is_exact_and_small(rows):
    paths = rows["mask"].dropna().tolist()
    spec = PreprocessSpec(33, 29, "letterbox")
    store = build_masks(paths, spec)
    assert store.bits.shape == (2, 33, 4)
    for path, size in zip(paths, [(41, 52), (42, 54)], strict=True):
        assert (store.read(path) == read_mask(path, spec=spec)).all() and store.sizes[path] == size
    Path(paths[0]).write_bytes(b"")
    with pytest.raises(ImageError, match="empty"):
        build_masks(paths, spec)


def test_a_mask_of_another_size_is_named(rows):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(rows["mask"][1])
    dataset = ImageDataset(rows, SPEC, with_masks=True)
    with pytest.raises(ProjectError, match="1_mask.png is 5×5"):
        dataset[1]


def test_augmentation_depends_on_epoch_and_id_only(rows):
    augment = build_augmentation(
        [{"name": "D4", "p": 1}, {"name": "RandomBrightnessContrast", "p": 1}], PreprocessSpec(24, 24)
    )
    spec = PreprocessSpec(24, 24)
    dataset = ImageDataset(rows, spec, augment=augment, seed=5, with_masks=True)
    first = {(epoch, i): dataset[epoch, i] for epoch in range(3) for i in range(6)}
    shuffled = ImageDataset(rows.iloc[::-1], spec, augment=augment, seed=5, with_masks=True)
    for (epoch, i), sample in reversed(first.items()):
        assert same(sample, shuffled[epoch, 5 - i])
    assert not torch.equal(first[0, 0]["image"], first[1, 0]["image"])
    other_seed = ImageDataset(rows, spec, augment=augment, seed=6)
    assert any(not torch.equal(other_seed[0, i]["image"], first[0, i]["image"]) for i in range(6))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_either_kind_share_the_cache(rows, tmp_path, method):
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    store = build_store(rows.path, SPEC, mode="ram")
    disk = build_store(rows.path, SPEC, mode="disk", cache_dir=tmp_path)
    dataset = ImageDataset(rows, SPEC, cache=store)
    assert len(pickle.dumps(ImageDataset(rows, SPEC, cache=disk))) < 5000  # a path, not pixels
    loader = DataLoader(
        dataset, batch_size=3, collate_fn=collate, num_workers=1, multiprocessing_context=method
    )
    batches = list(loader)
    if method == "spawn":
        assert store.memory.is_shared()  # moved to shared memory once, not copied to each worker
    for i in range(6):
        assert torch.equal(batches[i // 3]["image"][i % 3], dataset[i]["image"])


def test_index_beside_the_pixels_is_plain_json(rows, tmp_path):
    store = build_store(rows.path, SPEC, mode="disk", cache_dir=tmp_path)
    assert json.loads(store.file.with_suffix(".json").read_text())["sizes"][0] == [40, 50]
