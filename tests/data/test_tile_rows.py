"""Tiles: windows are what they say, boxes are cut to them, a picture is decoded once, the rows fit the folds."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.data import cache as cache_module
from src.data import tiles as tiles_module
from src.data.cache import build_store
from src.data.datamodule import DataModule
from src.data.detection_dataset import DetectionDataset
from src.data.tiles import expand_tiles, read_placed, windows_of, with_sizes
from src.data.transforms import PreprocessSpec
from src.errors import ProjectError

SPEC = PreprocessSpec(32, 32)


@pytest.fixture
def rows(tmp_path) -> pd.DataFrame:
    """Two pictures of 100×60 that say where each pixel is (red x, green y), one of 30×20, one unreadable."""
    y, x = np.mgrid[:60, :100]
    picture = np.dstack([x, y, 0 * x]).astype(np.uint8)
    for name in "ab":
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    Image.fromarray(picture[:20, :30]).save(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"no picture")
    boxes = [np.array([[0, 0, 20, 20], [40, 10, 60, 30], [90, 50, 100, 60.0]]), np.empty((0, 4)), None, None]
    return pd.DataFrame(
        {
            "id": list("abcd"),
            "path": [str(tmp_path / f"{name}.png") for name in "abcd"],
            "split": ["train", "train", "train", "test"],
            "group": pd.Series(["g", None, None, None], dtype=object, index=[5, 6, 7, 8]),
            "boxes": pd.Series(boxes, index=[5, 6, 7, 8]),
            "labels": pd.Series([np.array([0, 1, 1]), np.empty(0, int), None, None], index=[5, 6, 7, 8]),
            "ignored": pd.Series([np.array([False, False, True]), None, None, None], index=[5, 6, 7, 8]),
            "counts": pd.Series([np.array([1, 1]), np.array([0, 0]), None, None], index=[5, 6, 7, 8]),
            "tags": pd.Series([np.array([0, 1]), np.empty(0, int), np.array([1]), None], index=[5, 6, 7, 8]),
            "width": pd.array([100, 100, 30, pd.NA], dtype="Int64"),
            "height": pd.array([60, 60, 20, pd.NA], dtype="Int64"),
        },
        index=[5, 6, 7, 8],
    )


def test_rows_of_tiles(rows):
    rows.attrs["classes"] = ["x", "y"]
    tiles = expand_tiles(rows, 60, 0.2)
    assert tiles["id"].tolist() == ["a#0", "a#1", "b#0", "b#1", "c#0", "d"]
    assert tiles["parent"].tolist() == list("aabbcd") and tiles.index.tolist() == [5, 5, 6, 6, 7, 8]
    assert tiles["window"].tolist() == [(0, 0, 60, 60), (40, 0, 100, 60)] * 2 + [(0, 0, 30, 20), None]
    assert tiles["width"].tolist()[:5] == [60, 60, 60, 60, 30] and tiles.attrs["classes"] == ["x", "y"]
    assert tiles["group"].tolist() == ["g", "g", "b", "b", "c", "d"]
    first, second = tiles.iloc[0], tiles.iloc[1]
    assert first["boxes"].tolist() == [[0, 0, 20, 20], [40, 10, 60, 30]] and first["labels"].tolist() == [0, 1]
    assert second["boxes"].tolist() == [[0, 10, 20, 30], [50, 50, 60, 60]]
    assert second["ignored"].tolist() == [False, True] and second["counts"].tolist() == [0, 1]
    assert second["tags"].tolist() == [1] and tiles.iloc[3]["counts"].tolist() == [0, 0]
    unknown = tiles.iloc[4]
    assert unknown["boxes"] is None and unknown["counts"] is None and unknown["tags"] is None


def test_what_is_cut_too_far_is_ignored(rows):
    one = rows.iloc[:1].assign(boxes=[np.array([[30, 0, 50, 10.0]])], labels=[np.array([1])], ignored=[None])
    tiles = expand_tiles(one, 60, 0.2, min_visible=0.6)
    assert tiles["boxes"].iloc[1].tolist() == [[0, 0, 10, 10]] and tiles["ignored"].iloc[1].tolist() == [True]
    assert tiles["counts"].iloc[0].tolist() == [0, 1] and tiles["counts"].iloc[1].tolist() == [0, 0]


def test_empty_tiles_of_training_may_go(rows):
    assert expand_tiles(rows, 60, 0.2, keep_empty=False)["id"].tolist() == ["a#0", "a#1", "c#0", "d"]


def test_rows_are_expanded_once_and_need_sizes(rows):
    with pytest.raises(ProjectError, match="tiles already"):
        expand_tiles(expand_tiles(rows, 60, 0.2), 60, 0.2)
    with pytest.raises(ProjectError, match="width and height"):
        expand_tiles(rows[["id", "path"]], 60, 0.2)
    sized = with_sizes(rows[["id", "path"]])
    assert sized["width"].tolist() == [100, 100, 30, pd.NA] and sized["height"].tolist()[:3] == [60, 60, 20]
    assert expand_tiles(sized, 60, 0.2)["id"].tolist()[-2:] == ["c#0", "d"]
    empty = expand_tiles(rows.iloc[:0], 60, 0.2)
    assert len(empty) == 0 and "window" in empty


@pytest.mark.parametrize("window", [(0, 0, 10), (5, 0, 5, 9), (-1, 0, 5, 5), (0.5, 0, 5, 5), "0 0 5 5"])
def test_windows_are_checked(rows, window):
    with pytest.raises(ProjectError, match="row a: window"):
        windows_of(rows.iloc[:1].assign(window=[window]))


@pytest.mark.parametrize("mode", ["ram", "disk", "none"])
def test_pixels_of_a_window(rows, tmp_path, mode):
    tiles = expand_tiles(rows.iloc[:3], 60, 0.2)
    spec = PreprocessSpec(60, 60, "letterbox")
    paths, windows = tiles["path"].tolist(), windows_of(tiles)
    for _ in range(2):  # the second time from the disk's file
        store = build_store(paths, spec, windows=windows, mode=mode, cache_dir=tmp_path / "cache")
        assert not store.broken
        image, size = store.read(paths[1], windows[1])
        assert size == (60, 60) and image[7, 3].tolist() == [43, 7, 0] and image[59, 59].tolist() == [99, 59, 0]
        assert store.read(paths[4], windows[4])[1] == (20, 30)
    alone, _ = read_placed(paths[1], windows[1], spec)
    assert (alone == image).all()


def test_a_picture_is_decoded_once(rows, monkeypatch):
    tiles = expand_tiles(rows.iloc[:2], 30, 0.0)
    assert len(tiles) == 16
    decoded: list = []
    for module in (cache_module, tiles_module):
        real = module.read_image
        monkeypatch.setattr(module, "read_image", lambda path, real=real: decoded.append(path) or real(path))
    tiles_module._decoded.cache_clear()
    store = build_store(tiles["path"], SPEC, windows=windows_of(tiles), mode="ram")
    DetectionDataset(tiles, SPEC, cache=store)[3]
    assert sorted(decoded) == rows["path"].tolist()[:2]
    decoded.clear()
    uncached = DetectionDataset(tiles, SPEC)
    assert [uncached[i]["id"] for i in range(16)] == tiles["id"].tolist() and len(decoded) == 2


def test_windows_change_the_disk_cache(rows, tmp_path):
    path = rows["path"].iloc[0]
    first = build_store([path], SPEC, windows=[(0, 0, 9, 9)], mode="disk", cache_dir=tmp_path)
    other = build_store([path], SPEC, windows=[(0, 0, 9, 8)], mode="disk", cache_dir=tmp_path)
    whole = build_store([path], SPEC, mode="disk", cache_dir=tmp_path)
    assert len({first.file, other.file, whole.file}) == 3


def test_a_window_outside_of_its_picture_is_broken(rows):
    path = rows["path"].iloc[2]
    store = build_store([path, path], SPEC, windows=[(0, 0, 30, 20), (0, 0, 31, 20)], mode="ram")
    assert list(store.broken) == [1] and "30×20" in store.broken[1]


def test_samples_of_tiles(rows):
    tiles = expand_tiles(rows.iloc[:1], 60, 0.2)
    sample = DetectionDataset(tiles, PreprocessSpec(120, 120))[1]
    assert sample["window"].tolist() == [40, 0, 100, 60] and sample["original_size"].tolist() == [60, 60]
    assert sample["boxes"].tolist() == [[0, 20, 40, 60]] and sample["labels"].tolist() == [1]


def test_the_datamodule_cuts_tiles(rows):
    folds = pd.Series([0, 1, 1], index=[5, 6, 7])
    data = DataModule(
        rows, folds, 0, SPEC, targets="detection", tiles={"size": 60, "overlap": 0.2}, num_workers=0, batch_size=2
    )
    data.setup()
    assert [name for batch in data.val_dataloader() for name in batch["id"]] == ["a#0", "a#1"]
    assert sorted(name for batch in data.train_dataloader() for name in batch["id"]) == ["b#0", "b#1", "c#0"]
    assert data.val_rows()["boxes"].iloc[1].tolist()[0] == [0, 10, 20, 30]
    assert [(b.id, b.split) for b in data.broken] == [("d", "test")] and len(data.test_rows()) == 0
    found = DataModule(None, None, 0, SPEC, targets="detection", tiles={"size": 60, "overlap": 0.2}, num_workers=0)
    batch = next(iter(found.infer_dataloader(rows["path"].tolist())))
    assert [name.rpartition("#")[2] for name in batch["id"]] == ["0", "1", "0", "1", "0"]
    assert batch["window"].tolist()[1] == [40, 0, 100, 60]
    assert [b.id for b in found.broken] == [rows["path"].iloc[3]]
