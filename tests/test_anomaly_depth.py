"""Classes, categories, few shots, decisions and masks from one command to a validated submission, on tiny data."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.errors import ProjectError
from tests.compose import TINY_MODEL, compose, make_class_competition, make_competition, on_classes, on_competition

TINY_METRIC = ("model=metric", "model.backbone=resnet10t", "model.layers=[layer1]", "model.weights=random",
               "model.image_size=64")  # fmt: skip
TINY_CLASSIFIER = ("model=classifier", "model.backbone=resnet10t", "model.weights=random", "model.image_size=64",
                   "model.backbone_lr=1.0", "model.lr=0.003", "trainer.max_epochs=6", "data.batch_size=8")  # fmt: skip
CATEGORY = "competition.data.category=category"


def run_train(*overrides: str):
    from src.training import train

    return train(compose("train", *overrides))


def metrics_of(result) -> dict:
    return json.loads((result.run.path / "metrics.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_competition(tmp_path_factory.mktemp("data"), normal=16, labelled=8)


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Path:
    return make_class_competition(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def told_classes(classes, outputs):
    return run_train(*on_classes(classes, outputs), *TINY_METRIC, "run=metric", "data.holdout=0.4")


@pytest.fixture(scope="module")
def classifier(classes, outputs):
    return run_train(*on_classes(classes, outputs), *TINY_CLASSIFIER, "run=net", "data.holdout=0.4", "report=false")


def test_a_submission_of_classes(told_classes, classes) -> None:
    table = pd.read_csv(told_classes.submission, dtype=str)
    truth = pd.read_csv(classes / "solution.csv", dtype=str).set_index("id")["label"]
    assert set(table["label"]) <= set(truth) and len(table) == 12
    assert (truth[table["id"]].to_numpy() == table["label"].to_numpy()).mean() >= 0.75
    metrics = metrics_of(told_classes)
    assert metrics["metric"]["name"] == "macro_f1" and metrics["class_rule"]["metric"] == "macro_f1"
    assert metrics["classes"]["normal"] == ["wood-good", "타일-good"]
    assert np.sum(metrics["classes"]["graded"]["confusion"]) == 12
    assert metrics["graded"]["metric"] == metrics["classes"]["graded"]["macro_f1"] > 0.7
    oof = pd.read_parquet(told_classes.run.predictions / "oof.parquet")
    assert np.allclose(np.array(oof["probs"].tolist()).sum(axis=1), 1)
    assert (told_classes.run.path / "report.html").is_file()


def test_a_classifier_learns_classes_and_comes_back(classifier, classes, tmp_path) -> None:
    from src.inference import infer

    metrics = metrics_of(classifier)
    assert metrics["graded"]["metric"] > 0.4  # four classes: 0.1 by chance
    out = infer(compose("infer", f"run={classifier.run.path}", f"images={classes / 'test.csv'}", f"out={tmp_path}"))
    again = pd.read_csv(out / "predictions.csv", dtype={"id": str}).set_index("id")
    first = pd.read_parquet(classifier.run.predictions / "test.parquet").set_index("id")
    assert np.allclose(again["score"], first["score"][again.index], atol=1e-4)
    submitted = pd.read_csv(classifier.submission, dtype=str).set_index("id")["label"]
    assert (again["class"] == submitted[again.index]).all()


def test_runs_of_classes_blend_with_a_detector(classifier, told_classes, classes, outputs, capsys) -> None:
    from src.submission.build import make

    detector = run_train(
        *on_classes(classes, outputs), *TINY_MODEL, "run=detector", "data.holdout=0.4", "submission=false",
        "report=false",
    )  # fmt: skip
    capsys.readouterr()
    runs = ",".join(str(result.run.path) for result in (detector, told_classes, classifier))
    made = make(compose("submit", f"runs=[{runs}]", f"outputs={outputs}", "out=" + str(outputs / "blend.csv")))
    said = capsys.readouterr().out
    assert said.count("worth") == 4 and "alone undefined" in said  # a detector alone tells no class
    table = pd.read_csv(made["path"], dtype=str)
    truth = pd.read_csv(classes / "solution.csv", dtype=str).set_index("id")["label"]
    assert (truth[table["id"]].to_numpy() == table["label"].to_numpy()).mean() >= 0.7
    assert 0 <= made["oof"] <= 1 and 0 <= made["graded"] <= 1


def test_without_held_out_rows_the_likeliest_class_is_submitted_and_graded(classes, tmp_path) -> None:
    result = run_train(*on_classes(classes, tmp_path), *TINY_METRIC, "run=all", "data.holdout=0")
    metrics = metrics_of(result)
    assert metrics["class_rule"]["kind"] == "argmax" and metrics["metric"]["value"] is None
    assert metrics["threshold"] is None and metrics["classes"]["oof"] is None
    assert metrics["graded"]["metric"] == metrics["classes"]["graded"]["macro_f1"] > 0.7


def test_inference_knows_the_categories_that_the_run_knew(classes, outputs, tmp_path) -> None:
    from src.inference import infer

    result = run_train(
        *on_classes(classes, outputs), *TINY_METRIC, "run=told", CATEGORY, "data.holdout=0.4", "report=false"
    )
    submitted = pd.read_csv(result.submission, dtype=str).set_index("id")["label"]
    told = pd.read_csv(classes / "test.csv", dtype=str)
    for source in ([], [f"images={classes / 'test.csv'}"]):
        out = infer(compose("infer", f"run={result.run.path}", f"out={tmp_path / str(len(source))}", *source))
        again = pd.read_csv(out / "predictions.csv", dtype=str).set_index("id")
        assert (again["category"] == told.set_index("id")["category"][again.index]).all()
        assert (again["class"] == submitted[again.index]).all()
    # A category that is told wrong leaves none but its own classes.
    told["category"] = told["category"].map({"타일": "wood", "wood": "타일"})
    told["file"] = [str(classes / file) for file in told["file"]]
    told.to_csv(tmp_path / "swapped.csv", index=False)
    out = infer(compose("infer", f"run={result.run.path}", f"images={tmp_path / 'swapped.csv'}", f"out={tmp_path}"))
    again = pd.read_csv(out / "predictions.csv", dtype=str)
    assert (again["class"].str.partition("-")[0] == again["category"]).all()


def test_classes_of_several_categories_limit_nothing() -> None:
    from src.flows.anomaly_decision import Classes, allowed_classes, class_categories

    train = pd.DataFrame({"target": ["a-ok", "a-bad", "b-ok", None], "category": ["a", "a", "b", "b"]})
    names = ["a-bad", "a-ok", "b-ok"]
    assert class_categories(train, names) == ["a", "a", "b"]
    rows = pd.DataFrame({"id": ["1", "2", "3"], "category": ["b", None, "c"]})
    classes = Classes(tuple(names), ("a-ok", "b-ok"), True, ("a", "a", "b"))
    assert allowed_classes(["3", "1", "2"], rows, classes).tolist() == [[True] * 3, [False, False, True], [True] * 3]
    shared = pd.DataFrame({"target": ["ok", "ok", "bad"], "category": ["a", "b", "b"]})
    assert class_categories(shared, ["bad", "ok"]) == []
    assert allowed_classes(["1"], rows, Classes(("bad", "ok"), ("ok",), True)) is None


def test_a_category_without_normal_images_has_no_model_of_its_own() -> None:
    from src.flows.anomaly_inputs import categories_to_train

    labels = pd.array([0, 0, 1], dtype="Int64")
    manifest = pd.DataFrame({"id": list("123"), "split": "train", "category": ["a", "b", "c"], "label": labels})
    with pytest.raises(ProjectError, match="1 of 3 categories have none: c"):
        categories_to_train(manifest)
    assert categories_to_train(manifest[:2]) == ["a", "b"]


def test_a_detector_alone_is_refused_for_a_submission_of_classes(classes, tmp_path) -> None:
    with pytest.raises(ProjectError, match="tells normal from anomalous alone.*submission=false"):
        run_train(*on_classes(classes, tmp_path), *TINY_MODEL, "run=x")
    with pytest.raises(ProjectError, match="tells normal from anomalous alone"):
        run_train(*on_classes(classes, tmp_path), *TINY_METRIC, "model.classes=binary", "run=x")
    assert not list(tmp_path.rglob("config.yaml"))


def test_one_model_a_category_and_scales_of_their_own(classes, tmp_path) -> None:
    common = [*on_classes(classes, tmp_path), *TINY_MODEL, "report=false", CATEGORY, "data.holdout=0.4",
              "competition.metric=auroc", "competition.submission.format=score",
              "competition.sample_submission=null"]  # fmt: skip
    result = run_train(*common, "run=each", "per_category=true")
    metrics = metrics_of(result)
    assert [row["category"] for row in metrics["categories"]["graded"]] == ["wood", "타일"]
    assert all(row["auroc"] == 1.0 for row in metrics["categories"]["graded"])
    assert metrics["graded"]["metric"] > 0.9
    with pytest.raises(ProjectError, match="per_category=true needs the category of each training image"):
        run_train(*common, "run=x", "per_category=true", "competition.data.category=null",
                  "competition.data.target_pattern=null", "competition.data.normal=[타일-good,wood-good]")  # fmt: skip


def test_few_shots_are_what_is_trained_on(tiny, tmp_path) -> None:
    result = run_train(
        *on_competition(tiny, tmp_path), *TINY_METRIC, "model.classes=binary", "run=shots", "data.shots=2",
        "data.shots_normal=all", "data.holdout=0.4", "report=false",
    )  # fmt: skip
    import torch

    state = torch.load(result.run.fold(0) / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    codes = next(value for name, value in state.items() if name.endswith("codes"))
    folds = pd.read_csv(result.run.path / "folds.csv", dtype={"id": str})
    trained = folds[folds["fold"] != 0]
    assert (codes == 1).sum() == 2 and (codes == 0).sum() == trained["id"].astype(int).lt(16).sum()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["data.shots=0"], "data.shots=0"),
        (["calibration.by_category=always"], "calibration.by_category"),
        (["calibration.map_rule={sigm: 2}"], "Did you mean 'sigma'"),
        (["calibration.map_rule={sigma: wide}"], "calibration.map_rule: sigma must be a number"),
        (["calibration.min_area=-1"], "calibration.min_area"),
        (["tta.rot90=true", "model.image_size=[64,96]"], "tta.rot90"),
        (["per_category=true"], "per_category=true needs the category"),
    ],
)
def test_options_that_mean_nothing_are_refused(tiny, tmp_path, override: list[str], message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        run_train(*on_competition(tiny, tmp_path), *TINY_MODEL, "run=x", *override)


def test_another_library_s_model_is_one_for_all_categories(classes, tmp_path) -> None:
    with pytest.raises(ProjectError, match="per_category=true is for this project's own models"):
        run_train(*on_classes(classes, tmp_path), CATEGORY, "model=stfpm", "model.weights=random", "run=x",
                  "per_category=true", "submission=false")  # fmt: skip


def test_views_and_a_fixed_map_rule_reach_training_and_inference(tiny, tmp_path, capsys) -> None:
    from src.inference import infer

    plain = run_train(*on_competition(tiny, tmp_path), *TINY_MODEL, "run=plain", "calibration.map_rule=null",
                      "report=false")  # fmt: skip
    ruled = run_train(
        *on_competition(tiny, tmp_path), *TINY_MODEL, "run=ruled", "tta.flip=true", "report=false",
        "calibration.map_rule={sigma: 2, score: top, share: 0.01}",
    )  # fmt: skip
    metrics = metrics_of(ruled)
    assert metrics["map_rule"]["sigma"] == 2 and metrics_of(plain)["map_rule"] is None
    assert "map rule  score top 1%, sigma 2 (given)" in capsys.readouterr().out
    first = pd.read_parquet(ruled.run.predictions / "test.parquet").set_index("id")
    raw = pd.read_parquet(ruled.run.fold(0) / "test.parquet").set_index("id")
    assert not np.allclose(first["score"], raw["score"][first.index]) and (first["map"] != raw["map"]).all()
    out = infer(compose("infer", f"run={ruled.run.path}", f"out={tmp_path / 'again'}"))
    again = pd.read_csv(out / "predictions.csv", dtype={"id": str}).set_index("id")
    assert np.allclose(again["score"], first["score"][again.index], rtol=1e-3)
    assert {"anomalous", "normal"} == set(again["verdict"])


def test_masks_are_submitted_and_graded(tiny, tmp_path) -> None:
    spec = ["competition.metric=seg_f1", "competition.submission.format=rle", "competition.sample_submission=null",
            "competition.submission.columns={id: id, value: rle}"]  # fmt: skip
    result = run_train(*on_competition(tiny, tmp_path), *TINY_MODEL, *spec, "run=masks", "report=false")
    metrics = metrics_of(result)
    assert metrics["pixel_threshold"]["source"] == "oof"
    assert metrics["graded"]["metric"] > 0.3 and metrics["metric"]["value"] > 0.3
    table = pd.read_csv(result.submission, dtype=str, keep_default_na=False)
    assert table["rle"].str.fullmatch(r"(\d+ \d+( \d+ \d+)*)?").all() and (table["rle"] != "").sum() >= 3


def test_thresholds_say_how_sure_they_are(tiny, tmp_path, capsys) -> None:
    label = ["competition.metric=f1", "competition.submission.format=label", "competition.sample_submission=null",
             "++competition.submission.labels={normal: normal, anomalous: defect}"]  # fmt: skip
    result = run_train(*on_competition(tiny, tmp_path), *TINY_MODEL, *label, "run=sure", "report=false")
    sure = metrics_of(result)["certainty"]
    assert sure["metric"] == "f1" and 0 <= sure["low"] <= sure["high"] <= 1
    assert "expected  f1" in capsys.readouterr().out


def make_objects(root: Path, *, test_folder: str = "test") -> Path:
    """Two objects laid out like MVTec AD: stripes across (can) and stripes down (vial)."""
    from tests.compose import picture, write_image

    for turned, name in ((True, "can"), (False, "vial")):
        for number in range(8 + 6):
            defect, split = number >= 11, "train" if number < 8 else test_folder
            pixels, mask = picture(number + 50 * turned, defect=defect)
            pixels, mask = (pixels.transpose(1, 0, 2).copy(), mask.T.copy()) if turned else (pixels, mask)
            kind = "spot" if defect else "good"
            write_image(root / name / split / kind / f"{number:03d}.png", pixels)
            if defect:
                write_image(root / name / "ground_truth" / kind / f"{number:03d}_mask.png", mask)
    return root


def test_objects_of_mvtec_in_one_run(tmp_path) -> None:
    root = make_objects(tmp_path / "mvtec")
    result = run_train(
        "task=anomaly", "competition=mvtec_categories", f"competition.root={root}", *TINY_MODEL, "run=both",
        f"outputs={tmp_path / 'out'}", "logger=csv", "data.num_workers=0", "trainer.progress=false",
        "per_category=true", "data.holdout=0.3",
    )  # fmt: skip
    metrics = metrics_of(result)
    assert [row["category"] for row in metrics["categories"]["graded"]] == ["can", "vial"]
    assert metrics["categories"]["graded"][0]["n_anomalous"] == 3 and metrics["graded"]["metric"] > 0.9
    page = (result.run.path / "report.html").read_text("utf-8")
    assert "can" in page and "vial" in page
    ids = pd.read_csv(result.submission, dtype=str)["id"].tolist()
    assert "can/good/008" in ids and len(ids) == 12


def test_an_archive_of_maps_is_submitted(tmp_path) -> None:
    import tarfile

    root = make_objects(tmp_path / "mvtec")
    result = run_train(
        "task=anomaly", "competition=mvtec2", f"competition.root={root}", "competition.data.test=test",
        "competition.data.categories=[can]", *TINY_MODEL, "run=maps", f"outputs={tmp_path / 'out'}", "logger=csv",
        "data.num_workers=0", "trainer.progress=false", "data.holdout=0.3",
    )  # fmt: skip
    assert result.submission.name == "submission.tar.gz" and (result.run.path / "report.html").is_file()
    with tarfile.open(result.submission) as archive:
        names = [name for name in archive.getnames() if "." in name]
    assert sum(name.endswith(".tiff") for name in names) == sum(name.endswith(".png") for name in names) == 6
    assert metrics_of(result)["pixel_threshold"]["source"] == "normal_quantile"


def scored(fold: int, scores: list[float], first: int = 0) -> pd.DataFrame:
    ids = [f"{first + n:03d}" for n in range(len(scores))]
    return pd.DataFrame({"id": ids, "fold": fold, "score": scores, "probs": None, "map": None})


def test_models_of_different_scale_are_put_on_one_before_they_are_pooled() -> None:
    from src.flows.anomaly_scores import resettle, settle

    random = np.random.default_rng(0)
    raw = np.concatenate([random.normal(0, 1, 60), random.normal(3, 1, 20)])
    labels = [0] * 60 + [1] * 20
    oof = pd.concat([scored(0, raw.tolist()), scored(1, (50 + 20 * raw).tolist(), first=80)], ignore_index=True)
    train = pd.DataFrame({"id": oof["id"], "split": "train", "label": labels * 2, "category": None})
    test = pd.DataFrame({"id": ["a", "b"], "split": "test", "label": pd.NA, "category": None})
    tables = [scored(-1, [0.0, 4.0]).assign(id=["a", "b"]), scored(-1, [50.0, 130.0]).assign(id=["a", "b"])]
    options = {"settings": {"map_rule": "auto", "by_fold": "auto", "by_category": "auto"}, "seed": 0, "folds": [0, 1]}
    settled, tests, record = settle(oof, tables, pd.concat([train, test]), "auroc", Path("unused"), **options)
    assert record["fold_scale"]["value"] > record["fold_scale"]["plain"] + 0.1 and record["map_rule"] is None
    assert np.corrcoef(settled["score"][:80], settled["score"][80:])[0, 1] > 0.999
    first, second = (table["score"].to_numpy() for table in tests)  # the same pictures, judged on one scale
    assert abs(first[0] - second[0]) < 0.1 and 0.6 < first[1] / second[1] < 1.6
    again = resettle(tables, test, record, Path("unused"), folds=[0, 1])
    assert all(np.array_equal(one["score"], two["score"]) for one, two in zip(again, tests, strict=True))
    only = resettle(tables[1:], test, record, Path("unused"), folds=[1])
    assert np.array_equal(only[0]["score"], tests[1]["score"])

    alike = pd.concat([scored(0, raw.tolist()), scored(1, raw.tolist(), first=80)], ignore_index=True)
    same, _, record = settle(alike, tables, pd.concat([train, test]), "auroc", Path("unused"), **options)
    assert record["fold_scale"] is None and np.array_equal(same["score"], alike["score"])
