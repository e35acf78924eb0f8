"""From one command to a validated submission on a tiny competition: outputs, resumption, inference, blending."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.errors import ProjectError
from tests.compose import TINY_MODEL, compose, make_competition, on_competition


def run_train(*overrides: str):
    from src.training import train

    return train(compose("train", *overrides))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_competition(tmp_path_factory.mktemp("data 데이터"))


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """One finished run that several tests look at."""
    outputs = tmp_path_factory.mktemp("outputs")
    return run_train(*on_competition(tiny, outputs), *TINY_MODEL, "run=first", "report=true")


def test_a_run_holds_what_others_rely_on(finished, tiny) -> None:
    folder = finished.run.path
    for name in (
        "config.yaml", "run.json", "metrics.json", "folds.csv", "submission.csv", "report.html",
        "fold_0/best.ckpt", "fold_0/last.ckpt", "predictions/oof.parquet", "predictions/test.parquet",
    ):  # fmt: skip
        assert (folder / name).is_file(), name
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["metric"] == {"name": "auroc", "value": finished.objective, "mode": "max"}
    assert metrics["threshold"]["source"] == "oof" and len(metrics["folds"]) == 1
    assert metrics["graded"]["pixel_auroc"] > 0.5
    record = json.loads((folder / "run.json").read_text())
    assert {"git", "versions", "hardware", "seed", "weights", "data_hash", "seconds", "peak_memory"} <= set(record)
    assert record["weights"]["kind"] == "random"


def test_the_submission_keeps_ids_and_the_sample_order(finished, tiny) -> None:
    lines = finished.submission.read_text().splitlines()
    expected = pd.read_csv(tiny / "sample_submission.csv", dtype=str)["id"].tolist()
    assert lines[0] == "id,score" and [line.split(",")[0] for line in lines[1:]] == expected
    assert expected[0] == "9008"


def test_the_score_is_earned_and_oof_never_saw_its_rows(finished) -> None:
    oof = pd.read_parquet(finished.run.predictions / "oof.parquet")
    folds = pd.read_csv(finished.run.path / "folds.csv", dtype={"id": str}).set_index("id")["fold"]
    assert set(oof["id"]) == set(folds[folds == 0].index)
    assert finished.objective > 0.9


def test_the_ledger_has_the_file(finished) -> None:
    from src.submission.ledger import file_hash, read_ledger

    rows = read_ledger(finished.run.path.parent.parent / "ledger.csv")
    assert rows[0]["sha256"] == file_hash(finished.submission) and rows[0]["runs"] == "first"
    assert float(rows[0]["oof"]) == pytest.approx(finished.objective)


def test_inference_equals_training(finished, tiny, tmp_path) -> None:
    from src.inference import infer

    written = pd.read_parquet(finished.run.predictions / "test.parquet").set_index("id")["score"]
    again = infer(compose("infer", f"run='{finished.run.path}'", f"out='{tmp_path}/a'", "batch_size=4"))
    scores = pd.read_parquet(again / "predictions.parquet").set_index("id")["score"]
    np.testing.assert_allclose(scores[written.index], written, atol=1e-5)

    folder = infer(
        compose(
            "infer", f"run='{finished.run.path}'", f"images='{tiny}/이미지 test'", f"out='{tmp_path}/b'", "heatmaps=2"
        )
    )
    table = pd.read_csv(folder / "predictions.csv", dtype={"id": str})
    by_stem = {Path(row.id).stem: row.score for row in table.itertuples()}
    np.testing.assert_allclose([by_stem[i] for i in written.index], written, atol=1e-5)
    assert set(table["verdict"]) == {"normal", "anomalous"}
    assert len(list((folder / "heatmaps").glob("*.png"))) == 2


def test_inference_takes_globs_and_tables(finished, tiny, tmp_path) -> None:
    from src.inference import infer

    out = infer(
        compose("infer", f"run='{finished.run.path}'", f"images='{tiny}/이미지 test/*3.PNG'", f"out='{tmp_path}/g'")
    )
    assert pd.read_csv(out / "predictions.csv")["id"].tolist() == ["9003.PNG"]
    listing = tmp_path / "new.csv"
    pd.DataFrame({"id": ["007"], "path": [str(tiny / "이미지 test/9000.PNG")]}).to_csv(listing, index=False)
    out = infer(compose("infer", f"run='{finished.run.path}'", f"images='{listing}'", f"out='{tmp_path}/t'"))
    assert pd.read_csv(out / "predictions.csv", dtype=str)["id"].tolist() == ["007"]
    with pytest.raises(ProjectError, match="no image there"):
        infer(compose("infer", f"run='{finished.run.path}'", f"images='{tmp_path}/nothing'", f"out='{tmp_path}/n'"))


def test_inference_fills_an_unreadable_image_loudly(finished, tiny, tmp_path, capsys) -> None:
    from src.inference import infer

    shutil.copy(tiny / "이미지 test/9000.PNG", tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG not really")
    out = infer(compose("infer", f"run='{finished.run.path}'", f"images='{tmp_path}'", f"out='{tmp_path}/out'"))
    table = pd.read_csv(out / "predictions.csv").set_index("id")
    oof = pd.read_parquet(finished.run.predictions / "oof.parquet")["score"]
    assert table.loc["broken.png", "score"] == pytest.approx(oof.median())
    assert isinstance(table.loc["broken.png", "read_error"], str)
    assert "WARNING" in capsys.readouterr().out


def test_a_second_run_of_the_same_name_is_refused(finished, tiny) -> None:
    with pytest.raises(ProjectError, match="exists already"):
        run_train(*on_competition(tiny, finished.run.path.parent.parent), *TINY_MODEL, "run=first")


def test_resume_keeps_what_is_finished_and_refuses_other_settings(finished, tiny, tmp_path) -> None:
    outputs = tmp_path / "o"
    shutil.copytree(finished.run.path.parent.parent, outputs)
    folder = outputs / "anomaly" / "first"
    before = (folder / "fold_0" / "best.ckpt").stat().st_mtime_ns
    (folder / "fold_0" / "test.parquet").unlink()
    (folder / "submission.csv").unlink()
    # the copy's configuration still names the old outputs folder, which is not part of what must agree
    again = run_train(*on_competition(tiny, outputs), *TINY_MODEL, "run=first", "resume=true", "report=true")
    assert (folder / "fold_0" / "best.ckpt").stat().st_mtime_ns == before
    assert again.submission.read_text() == finished.submission.read_text()
    with pytest.raises(ProjectError, match=r"model.coreset_size \(64 then, 32 now\)"):
        run_train(
            *on_competition(tiny, outputs), *TINY_MODEL, "run=first", "resume=true", "report=true",
            "model.coreset_size=32",
        )  # fmt: skip


def test_folds_cover_each_row_once_and_two_runs_blend(finished, tiny, tmp_path) -> None:
    from src.submission.build import make

    outputs = tmp_path / "o"
    folded = run_train(*on_competition(tiny, outputs), *TINY_MODEL, "run=folded", "folds=2", "report=false")
    oof = pd.read_parquet(folded.run.predictions / "oof.parquet")
    assert sorted(oof["id"]) == sorted(pd.read_csv(tiny / "train.csv", dtype=str)["id"])
    assert set(oof["fold"]) == {0, 1}
    result = make(
        compose(
            "submit",
            f"runs=['{finished.run.path}','{folded.run.path}']",
            f"outputs='{outputs}'",
            f"out='{tmp_path}/s.csv'",
        )
    )
    assert result["path"].read_text().startswith("id,score\n9008,") and result["graded"] > 0.9


def test_normal_only_training_gives_a_threshold_from_normal_scores(tiny, tmp_path) -> None:
    root = tmp_path / "root"
    shutil.copytree(tiny, root)
    table = pd.read_csv(root / "train.csv", dtype=str, keep_default_na=False)
    table[table["label"] == "normal"].to_csv(root / "train.csv", index=False)
    labels = [
        "competition.submission.format=label", "+competition.submission.labels={normal: normal, anomalous: defect}",
        "competition.metric=macro_f1",
    ]  # fmt: skip
    result = run_train(*on_competition(root, tmp_path / "o"), *TINY_MODEL, *labels, "report=false")
    metrics = json.loads((result.run.path / "metrics.json").read_text())
    assert metrics["threshold"]["source"] == "normal_quantile" and metrics["metric"]["value"] is None
    values = {line.split(",")[1] for line in result.submission.read_text().splitlines()[1:]}
    assert values <= {"normal", "defect"}


def test_no_holdout_still_gives_scores_but_no_labels(tiny, tmp_path) -> None:
    held = [*on_competition(tiny, tmp_path / "o"), *TINY_MODEL, "data.holdout=0", "report=false"]
    result = run_train(*held, "run=scores")
    assert json.loads((result.run.path / "metrics.json").read_text())["threshold"] is None
    assert result.submission.is_file()
    with pytest.raises(ProjectError, match="data.holdout=0.2"):
        run_train(
            *held,
            "competition.submission.format=label",
            "+competition.submission.labels={normal: normal, anomalous: defect}",
        )


def test_unreadable_images_are_set_aside_named_and_filled(tiny, tmp_path, capsys) -> None:
    root = tmp_path / "root"
    shutil.copytree(tiny, root)
    (root / "이미지 train" / "001.PNG").write_bytes(b"")
    (root / "이미지 test" / "9002.PNG").write_bytes(b"GIF89a nonsense")
    result = run_train(*on_competition(root, tmp_path / "o"), *TINY_MODEL, "report=true")
    printed = capsys.readouterr().out
    assert "set aside train image 001" in printed and "set aside test image 9002" in printed and "WARNING" in printed
    scores = pd.read_csv(result.submission, dtype={"id": str}).set_index("id")["score"]
    oof = pd.read_parquet(result.run.predictions / "oof.parquet")["score"]
    assert scores["9002"] == pytest.approx(oof.median(), rel=1e-6)
    report = (result.run.path / "report.html").read_text(encoding="utf-8")
    assert "9002" in report and "001" in report


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "이미지 test" / "9001.PNG").unlink(), "9001"),
        (lambda root: append(root / "train.csv", "000,이미지 train/000.PNG,normal,\n"), "000"),
        (lambda root: (root / "train.csv").write_text("id,file,label,mask\n"), "train"),
        (lambda root: keep_only(root / "train.csv", "defect"), "normal"),
        (lambda root: append(root / "sample_submission.csv", "extra,0.5\n"), "extra"),
        (lambda root: shrink_mask(root), "mask"),
    ],
    ids=[
        "missing file",
        "duplicate id",
        "empty table",
        "no normal image",
        "foreign sample row",
        "mask of another size",
    ],
)
def test_bad_input_is_one_clear_message_and_leaves_no_submission(tiny, tmp_path, spoil, message) -> None:
    root = tmp_path / "root"
    shutil.copytree(tiny, root)
    spoil(root)
    with pytest.raises(ProjectError, match=message):
        run_train(*on_competition(root, tmp_path / "o"), *TINY_MODEL, "report=false")
    assert not list((tmp_path / "o").rglob("submission.csv"))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def keep_only(path: Path, label: str) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table[table["label"] == label].to_csv(path, index=False)


def shrink_mask(root: Path) -> None:
    import cv2

    path = next((root / "masks").glob("0*.png"))
    path.write_bytes(cv2.imencode(".png", np.full((30, 30), 255, np.uint8))[1].tobytes())


def test_a_supervised_model_needs_both_classes(tiny, tmp_path) -> None:
    root = tmp_path / "root"
    shutil.copytree(tiny, root)
    keep_only(root / "train.csv", "normal")
    supervised = [
        "model=anomalib",
        "model.name=Supersimplenet",
        "model.args.supervised=true",
        "model.args.backbone=resnet10t",
        "model.args.layers=[layer1,layer2]",
        "model.weights=random",
        "model.image_size=64",
    ]
    with pytest.raises(ProjectError, match="two classes are needed"):
        run_train(*on_competition(root, tmp_path / "o"), *supervised)
    assert not (tmp_path / "o" / "anomaly").exists()
