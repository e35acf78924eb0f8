"""Folds reach their loaders, broken files stand aside, ranks share rows, a resumed run sees equal batches."""

import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src.data import datamodule as datamodule_module
from src.data.cache import BrokenImage
from src.data.datamodule import DataModule
from src.data.sampler import EpochSampler, ShardSampler, hash_ids
from src.data.transforms import PreprocessSpec, build_augmentation
from src.errors import ProjectError

SPEC = PreprocessSpec(16, 16)
N_TRAIN, N_TEST = 23, 7


@pytest.fixture
def manifest(tmp_path) -> pd.DataFrame:
    """23 training rows (20 to 22 are defects with masks, 19 has no label), 7 test rows; index from 100."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(N_TRAIN + N_TEST):
        split = "train" if i < N_TRAIN else "test"
        path, mask = tmp_path / f"{i}.png", None
        Image.fromarray(rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(path)
        if 20 <= i < N_TRAIN:
            mask = str(tmp_path / f"{i}_mask.png")
            Image.fromarray(np.eye(20, 24, dtype=np.uint8)).save(mask)
        label = None if split == "test" or i == 19 else int(i >= 20)
        rows.append({"id": f"{i:03d}", "path": str(path), "split": split, "label": label, "mask": mask})
    return pd.DataFrame(rows, index=range(100, 100 + len(rows))).astype({"label": "Int64"})


@pytest.fixture
def folds(manifest) -> pd.Series:
    """Fold 0 holds out ids 0 to 3 and the defects, fold 1 ids 4 to 7; the others are never held out."""
    values = [0] * 4 + [1] * 4 + [-1] * 12 + [0] * 3
    return pd.Series(values, index=manifest.index[manifest["split"] == "train"])


def module(
    manifest: pd.DataFrame | None, folds: pd.Series | None, fold: int = 0, augment: object = None, **options
):
    options = {"batch_size": 4, "num_workers": 0, "cache": "ram", "seed": 7, **options}
    return DataModule(manifest, folds, fold, SPEC, augment, **options)


def ids_of(loader) -> list[str]:
    return [name for batch in loader for name in batch["id"]]


def ids(*numbers: int) -> list[str]:
    return [f"{i:03d}" for i in numbers]


def break_files(manifest: pd.DataFrame, *positions: int) -> None:
    for position in positions:
        Path(manifest["path"].iloc[position]).write_bytes(b"\x89PNG broken")


# -- rows


def test_each_loader_has_its_rows(manifest, folds):
    data = module(manifest, folds)
    data.setup()
    assert sorted(ids_of(data.train_dataloader())) == ids(*range(4, 20))
    assert ids_of(data.val_dataloader()) == ids_of(data.oof_dataloader()) == ids(0, 1, 2, 3, 20, 21, 22)
    assert ids_of(data.test_dataloader()) == ids_of(data.predict_dataloader()) == ids(*range(23, 30))
    assert data.broken == []


def test_validation_never_comes_from_the_test_split(manifest, folds):
    for fold in (-1, 0, 1):
        data = module(manifest, folds, fold)
        seen = set(ids_of(data.val_dataloader())) | set(ids_of(data.train_dataloader()))
        assert not seen & set(ids(*range(23, 30)))


def test_another_fold_without_reading_again(manifest, folds, monkeypatch):
    data = module(manifest, folds)
    data.setup("fit")
    monkeypatch.setattr(datamodule_module, "build_store", lambda *_, **__: pytest.fail("read again"))
    data.use_fold(1)
    data.setup("fit")
    assert ids_of(data.val_dataloader()) == ids(4, 5, 6, 7)
    assert sorted(ids_of(data.train_dataloader())) == ids(*range(4), *range(8, 23))


def test_one_class_training_keeps_normal_and_unknown_rows(manifest, folds):
    data = module(manifest, folds, 1, one_class=True)
    assert sorted(ids_of(data.train_dataloader())) == ids(*range(4), *range(8, 20))
    assert 19 in [int(i) for i in ids_of(data.train_dataloader())]


def test_no_validation_rows_gives_an_empty_list(manifest, folds):
    assert module(manifest, folds, 9).val_dataloader() == []


def test_masks_only_where_asked(manifest, folds):
    plain = next(iter(module(manifest, folds).val_dataloader()))
    assert "mask" not in plain
    data = module(manifest, folds, with_masks=True)
    batches = list(data.val_dataloader())
    masks = torch.cat([batch["mask"] for batch in batches])
    assert masks.shape == (7, 1, 16, 16) and [bool(m.any()) for m in masks] == [False] * 4 + [True] * 3
    assert "mask" not in next(iter(data.test_dataloader()))
    assert torch.cat([batch["label"] for batch in batches]).tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("options", [{}, {"cache": "none"}])
def test_a_mask_of_another_size_stops_before_training(manifest, folds, options):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(manifest["mask"].iloc[21])
    with pytest.raises(ProjectError, match="21_mask.png is 5×5"):
        module(manifest, folds, with_masks=True, **options).setup("fit")


# -- broken files


@pytest.mark.parametrize("cache", ["ram", "disk", "none"])
def test_broken_images_are_set_aside(manifest, folds, tmp_path, cache):
    break_files(manifest, 0, 5, 25)
    data = module(manifest, folds, cache=cache, cache_dir=tmp_path / "cache")
    data.setup()
    assert [(b.id, b.split) for b in data.broken] == [("000", "train"), ("005", "train"), ("025", "test")]
    assert isinstance(data.broken[0], BrokenImage) and data.broken[0].path == manifest["path"].iloc[0]
    assert data.broken[0].reason and "000" not in ids_of(data.val_dataloader())
    assert "005" not in ids_of(data.train_dataloader()) and "025" not in ids_of(data.test_dataloader())
    data.setup()
    assert len(data.broken) == 3


def test_without_verification_the_file_is_named_when_it_is_met(manifest, folds):
    break_files(manifest, 1)
    data = module(manifest, folds, cache="none", verify=False)
    data.setup()
    assert data.broken == []
    with pytest.raises(ProjectError, match="1.png"):
        ids_of(data.val_dataloader())


def test_nothing_to_train_on(manifest, folds):
    with pytest.raises(ProjectError, match="no training images"):
        module(manifest[manifest["split"] == "test"], folds).setup("fit")
    everything = pd.Series(0, index=folds.index)
    with pytest.raises(ProjectError, match="fold 0 leaves no training images of 23"):
        module(manifest, everything).train_dataloader()
    only_defects = manifest.assign(label=pd.array([1] * 30, dtype="Int64"))
    with pytest.raises(ProjectError, match="no normal training images"):
        module(only_defects, folds, one_class=True).train_dataloader()
    break_files(manifest, *range(N_TRAIN))
    with pytest.raises(ProjectError, match=r"none of the 23 training images .*0\.png"):
        module(manifest, folds).setup("fit")


def test_infer_reads_paths_or_a_table_and_lists_what_is_broken(manifest):
    break_files(manifest, 2)
    data = module(None, None)
    paths = manifest["path"].iloc[:5].tolist()
    loader = data.infer_dataloader(paths)
    assert ids_of(loader) == [paths[i] for i in (0, 1, 3, 4)]
    assert [(b.id, b.split) for b in data.broken] == [(paths[2], "infer")]
    data = module(None, None)
    assert ids_of(data.infer_dataloader(manifest[["id", "path"]].iloc[:5])) == ids(0, 1, 3, 4)
    assert data.broken[0].id == "002"
    with pytest.raises(ProjectError, match="no images"):
        data.infer_dataloader([])
    with pytest.raises(ProjectError, match="none of the 1 images"):
        data.infer_dataloader([paths[2]])


# -- samplers

HASHES = hash_ids([f"{i:03d}" for i in range(N_TRAIN)])


def test_order_is_a_permutation_that_changes_with_epoch_and_seed():
    sampler = EpochSampler(HASHES, seed=1)
    orders = [list(sampler.order(epoch)) for epoch in range(4)]
    assert all(sorted(order) == list(range(N_TRAIN)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert list(EpochSampler(HASHES, seed=2).order(0)) != orders[0]
    sampler.set_epoch(2)
    assert list(sampler) == [(2, i) for i in orders[2]] and len(sampler) == N_TRAIN


def test_order_follows_the_ids_not_the_rows():
    order = EpochSampler(HASHES, seed=1).order(3)
    reversed_order = EpochSampler(HASHES[::-1].copy(), seed=1).order(3)
    assert [N_TRAIN - 1 - i for i in reversed_order] == list(order)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_make_the_same_global_batches(world_size):
    """At equal total batch size any number of GPUs sees the same samples at each step, in equally many."""
    single = [i for _, i in EpochSampler(HASHES, seed=1)]
    ranks = [list(EpochSampler(HASHES, seed=1, rank=r, world_size=world_size)) for r in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    total = 2 * world_size
    for step in range(N_TRAIN // total):
        together = {i for rank in ranks for _, i in rank[step * 2 : step * 2 + 2]}
        assert together == set(single[step * total : (step + 1) * total])
    assert {i for rank in ranks for _, i in rank} == set(range(N_TRAIN))


@pytest.mark.parametrize("world_size", [1, 2, 3, 8, 50])
def test_prediction_covers_each_row_exactly_once(world_size):
    shares = [list(ShardSampler(N_TRAIN, rank=r, world_size=world_size)) for r in range(world_size)]
    assert sorted(i for share in shares for i in share) == list(range(N_TRAIN))
    assert [len(ShardSampler(N_TRAIN, rank=r, world_size=world_size)) for r in range(world_size)] == list(
        map(len, shares)
    )


def test_resuming_inside_an_epoch_skips_what_was_used():
    whole = list(EpochSampler(HASHES, seed=1))
    for rank in range(2):
        mine = list(EpochSampler(HASHES, seed=1, rank=rank, world_size=2))
        sampler = EpochSampler(HASHES, seed=1, rank=rank, world_size=2)
        sampler.resume(0, 8)
        sampler.set_epoch(0)
        assert list(sampler) == mine[4:] and len(sampler) == 12
        assert list(sampler) == mine
    sampler = EpochSampler(HASHES, seed=1)
    sampler.resume(0, 8)
    assert list(sampler) == whole[8:]


# -- loaders


def test_workers_are_chosen_by_what_there_is_to_do(manifest, folds, monkeypatch):
    monkeypatch.setattr(datamodule_module, "cores", lambda: 1)
    flip = build_augmentation([{"name": "HorizontalFlip"}], SPEC)
    data = module(manifest, folds, augment=flip, num_workers=None)
    assert data.train_dataloader().num_workers == 1
    assert data.val_dataloader().num_workers == data.test_dataloader().num_workers == 0
    assert module(manifest, folds, num_workers=None, cache="none").val_dataloader().num_workers == 1
    for device, workers in (("cpu", 0), ("cuda", 1)):
        strategy = SimpleNamespace(root_device=torch.device(device))
        data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1, current_epoch=0)
        assert data.train_dataloader().num_workers == workers
    loader = module(manifest, folds, num_workers=2).train_dataloader()
    assert loader.num_workers == 2 and loader.persistent_workers
    assert loader.pin_memory == torch.cuda.is_available()


def test_workers_begin_after_opencv_has_used_threads():
    """Forked from a process whose OpenCV has a thread pool, as after drawing figures between two folds."""
    before, picture = cv2.getNumThreads(), np.zeros((1000, 1000, 3), np.uint8)
    hangs = 0
    try:
        cv2.setNumThreads(2)
        for _ in range(8):  # whether a worker would hang is a matter of luck
            for _ in range(5):
                cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
            worker = multiprocessing.get_context("fork").Process(target=datamodule_module._begin_worker, args=(0,))
            worker.start()
            worker.join(10)
            hangs += worker.is_alive()
            worker.kill()
    finally:
        cv2.setNumThreads(before)
    assert not hangs


def test_loaders_leave_torchs_generator_alone(manifest, folds):
    data = module(manifest, folds)
    before = torch.get_rng_state()
    ids_of(data.train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_any_number_of_workers_sees_the_same_pictures(manifest, folds):
    augment = build_augmentation([{"name": "D4", "p": 1}, {"name": "RandomGamma", "p": 1}], SPEC)
    seen = []
    for workers in (0, 2):
        loader = module(manifest, folds, augment=augment, num_workers=workers).train_dataloader()
        epochs = []
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)
            epochs.append([(batch["id"], batch["image"]) for batch in loader])
        seen.append(epochs)
    for a, b in zip(seen[0], seen[1], strict=True):
        assert all(x[0] == y[0] and torch.equal(x[1], y[1]) for x, y in zip(a, b, strict=True))
    assert any(x[0] != y[0] for x, y in zip(*seen[0], strict=True))


# -- resumption with a real Trainer


def fit(
    manifest,
    folds,
    folder: Path,
    *,
    workers: int = 0,
    checkpoint: Path | None = None,
    every: int | None = None,
):
    """Train two epochs, checkpoints into `folder`; (epoch, ids, sum of pixels) of each step."""
    import lightning.pytorch as pl

    class Watcher(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(1, 1), []

        def training_step(self, batch: dict, index: int) -> torch.Tensor:
            self.seen.append((self.current_epoch, batch["id"], int(batch["image"].sum())))
            return self.layer(torch.ones(1, 1)).sum()

        def validation_step(self, batch: dict, index: int) -> None:
            pass

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    augment = build_augmentation([{"name": "D4", "p": 1}, {"name": "RandomGamma", "p": 1}], SPEC)
    data = module(manifest, folds, augment=augment, num_workers=workers)
    keep = pl.callbacks.ModelCheckpoint(
        dirpath=folder,
        filename="{step}",
        save_top_k=-1,
        every_n_train_steps=every,
        save_on_train_epoch_end=every is None,
    )
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[keep], use_distributed_sampler=False, num_sanity_val_steps=0,
    )  # fmt: skip
    watcher = Watcher()
    trainer.fit(watcher, datamodule=data, ckpt_path=checkpoint, weights_only=checkpoint is not None or None)
    return watcher.seen


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_goes_on_with_the_same_batches(manifest, folds, tmp_path):
    """Sixteen rows in batches of four: stopped at an epoch's end, and in the middle of each epoch."""
    whole = fit(manifest, folds, tmp_path / "epochs")
    assert [epoch for epoch, _, _ in whole] == [0] * 4 + [1] * 4
    assert fit(manifest, folds, tmp_path / "steps", every=3) == whole
    for checkpoint, steps, workers in (
        (tmp_path / "epochs" / "step=4.ckpt", 4, 0),
        (tmp_path / "epochs" / "step=4.ckpt", 4, 2),
        (tmp_path / "steps" / "step=3.ckpt", 3, 0),
        (tmp_path / "steps" / "step=6.ckpt", 6, 2),
    ):
        resumed = fit(manifest, folds, tmp_path / "again", workers=workers, checkpoint=checkpoint)
        assert resumed == whole[steps:], (checkpoint.name, workers)


@pytest.mark.filterwarnings("ignore")
def test_resuming_on_other_rows_is_refused(manifest, folds, tmp_path):
    fit(manifest, folds, tmp_path / "run")
    checkpoint = tmp_path / "run" / "step=4.ckpt"
    with pytest.raises(ProjectError, match="not those of the checkpoint"):
        fit(manifest, folds.replace({1: 0}), tmp_path / "again", checkpoint=checkpoint)
    data = module(manifest, folds, seed=8)
    data.load_state_dict(torch.load(checkpoint, weights_only=True)["DataModule"])
    with pytest.raises(ProjectError, match="seed=7"):
        data.train_dataloader()
