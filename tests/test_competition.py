"""The competition spec: what loads, and what each mistake is answered with."""

import copy
import os
import sys
from pathlib import Path

import pytest

from src.competition import available_competitions, load_competition, read_competition
from src.errors import ProjectError

SPEC = {
    "name": "mine",
    "task": "anomaly",
    "data": {
        "layout": "csv",
        "train": "train.csv",
        "test": "test.csv",
        "images": "images",
        "id": "id",
        "path": "file",
        "target": "label",
        "normal": ["normal"],
        "group": "lot",
        "mask": "mask",
    },
    "sample_submission": "sample_submission.csv",
    "solution": "solution.csv",
    "metric": "auroc",
    "submission": {"format": "score", "columns": {"id": "id", "value": "score"}},
    "rules": "dacon",
}


DROP = "(drop this key)"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "train.csv").write_text("id,file,label,lot,mask\n1,a.png,normal,x,\n")
    (tmp_path / "test.csv").write_text("id,file\n2,b.png\n")
    (tmp_path / "sample_submission.csv").write_text("id,score\n2,0\n")
    (tmp_path / "solution.csv").write_text("id,label\n2,normal\n")
    return tmp_path


def load(root: Path, /, **changes):
    """Load SPEC with changes: dots are double underscores; DROP removes a key."""
    config = copy.deepcopy(SPEC) | {"root": str(root)}
    for key, value in changes.items():
        target, (*parents, last) = config, key.split("__")
        for parent in parents:
            target = target[parent]
        if value == DROP:
            del target[last]
        else:
            target[last] = value
    return load_competition(config, source="conf/competition/mine.yaml")


def test_a_whole_spec_loads(root: Path) -> None:
    spec = load(root)
    assert (spec.name, spec.task, spec.metric, spec.rules, spec.bundled) == ("mine", "anomaly", "auroc", "dacon", False)
    assert spec.root == root
    assert spec.data.normal == ("normal",)
    assert spec.images_root == root / "images"
    assert spec.submission.columns == {"id": "id", "value": "score"}
    assert spec.submission.sample == root / "sample_submission.csv"
    assert spec.solution == root / "solution.csv"
    with pytest.raises(AttributeError):
        spec.name = "other"


def test_the_minimum_takes_defaults(root: Path) -> None:
    data = {"layout": "csv", "train": "train.csv", "test": "test.csv", "id": "id", "path": "file"}
    spec = load(root, data=data, rules=DROP, sample_submission=DROP, solution=None)
    assert (spec.rules, spec.solution, spec.submission.sample) == ("none", None, None)
    assert (spec.data.images, spec.data.target, spec.data.normal) == (".", None, ())
    assert spec.images_root == root


MISTAKES = [
    ({"metrik": "auroc"}, ["metrik: unknown key", "Did you mean 'metric'?"]),
    ({"data__grup": "lot"}, ["data.grup: unknown key", "Did you mean 'group'?"]),
    ({"submission__columns": {"id": "id", "valu": "s"}}, ["submission.columns.valu: unknown key", "'value'"]),
    ({"submission__columns": {"id": "id"}}, ["submission.columns.value: not given", "{id: id, value: score}"]),
    ({"name": DROP}, ["name: not given"]),
    ({"data": DROP}, ["data: not given"]),
    ({"data__id": DROP}, ["data.id: not given"]),
    ({"data__normal": DROP}, ["data.normal: not given", "normal: [good]"]),
    ({"data__normal": []}, ["data.normal: not given"]),
    ({"metric": DROP}, ["metric: not given"]),
    ({"root": DROP}, ["root: not given", "competition.root=/path/to"]),
    ({"root": "???"}, ["root: not given", "competition.root=/path/to"]),
    ({"data__train": "???"}, ["data.train: not given"]),
    ({"data__normal": "???"}, ["data.normal: not given"]),
    ({"name": 7}, ["name: expected a text, found the number 7"]),
    ({"name": ""}, ["name: expected a text, found an empty text"]),
    ({"data__id": True}, ["data.id: expected a text, found the truth value true"]),
    ({"data__normal": [False]}, ["data.normal: expected a text", "the truth value false", "Quote it"]),
    ({"data__train": ["a"]}, ["data.train: expected a text, found the list"]),
    ({"data": "csv"}, ["data: expected keys with values, found the text 'csv'"]),
    ({"bundled": "yes"}, ["bundled: expected true or false, found the text 'yes'"]),
    ({"bundled": True}, ["bundled: true is for the samples"]),
    ({"task": "anomoly"}, ["task: 'anomoly' is not one of", "Did you mean 'anomaly'?"]),
    ({"data__layout": "cvs"}, ["data.layout: 'cvs' is not one of csv, folder, mvtec", "Did you mean 'csv'?"]),
    ({"submission__format": "scores"}, ["submission.format: 'scores'", "Did you mean 'score'?"]),
    ({"submission__format": "label"}, ["submission.labels: not given", "anomalous: defect"]),
    ({"rules": "daycon"}, ["rules: 'daycon'", "Did you mean 'dacon'?"]),
    ({"metric": "auroq"}, ["metric: metric 'auroq' is not known", "Did you mean 'auroc'?"]),
    ({"data__layout": "folder"}, ["data.images: the layout folder does not use it"]),
    ({"data__train": "../train.csv"}, ["data.train: '../train.csv' leaves the root"]),
    ({"data__images": "images/../../x"}, ["data.images: 'images/../../x' leaves the root"]),
    ({"solution": "/etc/passwd"}, ["solution: '/etc/passwd' leaves the root"]),
    ({"sample_submission": "..\\s.csv"}, ["sample_submission: '..\\s.csv' leaves the root"]),
    ({"data__test": "train.csv"}, ["data.test: 'train.csv' is the training data"]),
    ({"data__path": "{id.png"}, ["data.path: '{id.png'", "images/{id}.png"]),
    ({"data__path": "{}.png"}, ["data.path: '{}.png'", "name of a column"]),
    ({"data__path": "{id:04}.png"}, ["data.path: '{id:04}.png'", "name of a column"]),
    ({"root": "/nonexistent/place"}, ["root: the folder /nonexistent/place does not exist", "competition.root="]),
    ({"data__train": "trian.csv"}, ["data.train:", "trian.csv does not exist", "Did you mean 'train.csv'?"]),
    ({"data__train": "images"}, ["data.train:", "is a folder, and a table is needed"]),
    ({"data__images": "image"}, ["data.images:", "image does not exist", "Did you mean 'images'?"]),
    ({"data__images": "test.csv"}, ["data.images:", "is a file, and a folder is needed"]),
    ({"solution": "solutions.csv"}, ["solution:", "Did you mean 'solution.csv'?"]),
    ({"data__id": "idx"}, ["data.id:", "train.csv has no column 'idx'", "Did you mean 'id'?"]),
    ({"data__path": "{id}/{fil}.png"}, ["data.path:", "no column 'fil'", "Did you mean 'file'?"]),
    ({"data__target": "labels"}, ["data.target:", "no column 'labels'", "Did you mean 'label'?"]),
    ({"data__group": "lots"}, ["data.group:", "Did you mean 'lot'?"]),
    ({"data__mask": "masks"}, ["data.mask:", "Did you mean 'mask'?"]),
    ({"submission__columns": {"id": "id", "value": "label"}}, ["submission.columns:", "the columns id, score"]),
    ({"submission__columns": {"value": "score", "id": "id"}}, ["submission.columns:", "score, id", "in its order"]),
]


@pytest.mark.parametrize(("changes", "texts"), MISTAKES, ids=[str(changes)[:60] for changes, _ in MISTAKES])
def test_a_mistake_names_file_key_and_remedy(root: Path, changes: dict, texts: list[str]) -> None:
    with pytest.raises(ProjectError) as caught:
        load(root, **changes)
    message = str(caught.value)
    assert message.startswith("conf/competition/mine.yaml: ")
    for text in texts:
        assert text in message
    assert "\n" not in message


CLASS = {"metric": "macro_f1", "submission__format": "class"}
CLASS_MISTAKES = [
    (CLASS | {"metric": "auroc"}, ["metric: 'auroc' needs scores, and the format class writes labels.", "macro_f1"]),
    (CLASS | {"metric": "pixel_auroc"}, ["metric: 'pixel_auroc' needs maps, and the format class writes labels."]),
    (CLASS | {"metric": "f1"}, ["metric: 'f1' compares two classes", "balanced_accuracy, or submission.format: label"]),
    (CLASS | {"metric": "recall"}, ["metric: 'recall' compares two classes"]),
    (CLASS | {"metric": "macro"}, ["metric: ", "Did you mean 'macro_f1'?"]),
    (CLASS | {"data__target": None}, ["submission.format: 'class' writes the values of data.target"]),
    (CLASS | {"submission__options": {"labels": "name"}}, ["submission.options.labels: the format 'class' has no"]),
    ({"data__target_pattern": "{category}{state}"}, ["data.target_pattern: '{category}{state}': text must stand"]),
    ({"data__target_pattern": "{category}"}, ["data.target_pattern:", "the state, which data.normal lists, is needed"]),
    ({"data__target_pattern": 7}, ["data.target_pattern: expected a text, found the number 7"]),
    ({"data__target_pattern": "{state}", "data__target": None}, ["data.target_pattern: it splits the values of"]),
    ({"data__category": "lots"}, ["data.category: ", "train.csv has no column 'lots'", "Did you mean 'lot'?"]),
    ({"data__categories": "all"}, ["data.categories: the layout csv does not use it"]),
]


@pytest.mark.parametrize(("changes", "texts"), CLASS_MISTAKES, ids=[str(changes)[:90] for changes, _ in CLASS_MISTAKES])
def test_a_mistake_in_classes_and_categories(root: Path, changes: dict, texts: list[str]) -> None:
    (root / "sample_submission.csv").write_text("id,score\n2,normal\n")
    with pytest.raises(ProjectError) as caught:
        load(root, **changes)
    for text in ["conf/competition/mine.yaml: ", *texts]:
        assert text in str(caught.value)


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy", "balanced_accuracy", "f1_macro"])
def test_a_spec_of_classes(root: Path, metric: str) -> None:
    spec = load(root, submission__format="class", metric=metric, data__target_pattern="{category}-{state}")
    assert spec.submission.format == "class" and spec.data.target_pattern == "{category}-{state}"
    assert load(root, data__category="lot").data.category == "lot"  # which the test table need not have


def test_classes_csv_reads_the_files_of_dacon_235894(tmp_path: Path) -> None:
    (tmp_path / "train_df.csv").write_text(
        "index,file_name,class,state,label\n0,10000.png,transistor,good,transistor-good\n"
        "1,10001.png,metal_nut,color,metal_nut-color\n"
    )
    (tmp_path / "test_df.csv").write_text("index,file_name\n0,20000.png\n")
    (tmp_path / "sample_submission.csv").write_text("index,label\n0,tile-good\n")
    for name in ("train/10000", "train/10001", "test/20000"):
        (tmp_path / f"{name}.png").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").touch()
    from src.manifest import read_manifest

    for category in (None, "class"):
        manifest = read_manifest(read_competition("classes_csv", {"root": str(tmp_path), "data.category": category}))
        assert manifest["category"].tolist() == ["transistor", "metal_nut", None]
        assert manifest["label"].tolist()[:2] == [0, 1]
        assert manifest.attrs["classes"] == ["metal_nut-color", "transistor-good"]


def test_scalars_become_texts_where_texts_are_meant(root: Path) -> None:
    labels = {"normal": 0, "anomalous": 1}
    spec = load(root, data__normal=0, submission__format="label", submission__labels=labels)
    assert spec.data.normal == ("0",)
    assert spec.submission.labels == {"normal": "0", "anomalous": "1"}


def test_the_order_of_columns_is_kept(root: Path) -> None:
    (root / "sample_submission.csv").write_text("score,id\n0,2\n")
    spec = load(root, submission__columns={"value": "score", "id": "id"})
    assert list(spec.submission.columns.values()) == ["score", "id"]


def test_an_alias_of_a_metric_becomes_its_name(root: Path) -> None:
    assert load(root, metric="roc_auc").metric == "auroc"


def test_a_table_of_another_separator_is_named(root: Path) -> None:
    (root / "train.csv").write_text("id;file;label;lot;mask\n1;a.png;normal;x;\n")
    with pytest.raises(ProjectError, match="not separated by commas"):
        load(root)


def test_a_root_that_is_an_archive(root: Path) -> None:
    (root / "data.zip").write_bytes(b"PK")
    with pytest.raises(ProjectError, match="is a file: unpack it"):
        load(root / "data.zip")


def test_relative_roots_start_at_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    repository = Path(__file__).resolve().parents[1]
    assert read_competition("sample_anomaly").root == repository / "data/sample/anomaly"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_competition("sample_anomaly", {"root": "~/x"}).root == tmp_path / "x"


def test_a_linked_root_stays_as_written(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(root)
    assert load(link).root == link


def test_decomposed_names_on_the_disk_are_found(root: Path) -> None:
    import unicodedata

    (root / "train.csv").rename(root / unicodedata.normalize("NFD", "학습.csv"))
    spec = load(root, data__train="학습.csv")
    assert spec.locate("학습.csv").is_file()


def test_mvtec_without_root_and_with_a_folder_of_categories(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"mvtec\.yaml: root: not given.*competition\.root=/path/to"):
        read_competition("mvtec")
    for category in ("bottle", "cable"):
        (tmp_path / category / "train" / "good").mkdir(parents=True)
    with pytest.raises(ProjectError, match=r"holds categories \(bottle, cable\).*competition\.root=.*/bottle"):
        read_competition("mvtec", {"root": str(tmp_path)})
    with pytest.raises(ProjectError, match=r"data\.test: .*/bottle/test does not exist"):
        read_competition("mvtec", {"root": str(tmp_path / "bottle")})


def test_folders_within_one_another_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train/test/good").mkdir(parents=True)
    with pytest.raises(ProjectError, match=r"folder\.yaml: data\.test: .*lie in one another"):
        read_competition("folder", {"root": str(tmp_path), "data.test": "train/test"})
    with pytest.raises(ProjectError, match="lie in one another"):
        read_competition("folder", {"root": str(tmp_path), "data.train": "."})


def test_unknown_names_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="Did you mean 'sample_anomaly'"):
        read_competition("sample_anomly")
    path = tmp_path / "broken.yaml"
    path.write_text("name: [unclosed\n")
    with pytest.raises(ProjectError, match=r"broken\.yaml: could not read it as YAML"):
        read_competition(path)
    path.write_text("")
    with pytest.raises(ProjectError, match=r"broken\.yaml: the file: expected keys"):
        read_competition(path)
    with pytest.raises(ProjectError, match="could not read"):
        read_competition(tmp_path / "absent.yaml")


def test_every_shipped_file_is_a_valid_spec(root: Path) -> None:
    """Each passes all checks of keys; what may be left is a root to give."""
    shipped = {"sample_anomaly", "sample_defect_classes", "mvtec", "mvtec_categories", "folder"}
    shipped |= {"forkme", "classes_csv"}
    assert shipped <= set(available_competitions())
    for name in available_competitions():
        try:
            read_competition(name)
        except ProjectError as error:
            assert ".yaml: root: " in str(error)


def test_forkme_works_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("id,label\n007,normal\n")
    (tmp_path / "test.csv").write_text("id\n008\n")
    spec = read_competition("forkme", {"root": str(tmp_path)})
    assert spec.data.path == "images/{id}.png"


def test_loading_needs_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys; from src.competition import read_competition; read_competition('sample_anomaly');"
        "print([m for m in ('torch', 'pandas', 'sklearn', 'scipy', 'lightning') if m in sys.modules])"
    )
    repository = Path(__file__).resolve().parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


# detection ---------------------------------------------------------------------------------------------------

BOXES = {"file": "boxes.csv", "label": "label", "columns": ["x1", "y1", "x2", "y2"]}
DETECTION = {
    "task": "detection",
    "data": {
        "layout": "csv",
        "train": "train.csv",
        "test": "test.csv",
        "id": "id",
        "path": "file",
        "boxes": BOXES,
        "counts": {"file": "counts.csv", "columns": ["사과", "컵"]},
        "classes": ["사과", "컵"],
    },
    "sample_submission": DROP,
    "solution": DROP,
    "metric": "map50",
    "submission": {"format": "prediction_string", "columns": {"id": "id", "value": "PredictionString"}},
}


@pytest.fixture
def objects(root: Path) -> Path:
    (root / "boxes.csv").write_text("id,label,x1,y1,x2,y2\n")
    (root / "counts.csv").write_text("id,사과,컵\n")
    return root


def load_objects(root: Path, /, **changes):
    """As `load`, from DETECTION."""
    config = copy.deepcopy(DETECTION)
    whole = {key: value for key, value in changes.items() if "__" not in key}
    nested = {key: value for key, value in changes.items() if "__" in key}
    return load(root, **(config | whole), **nested)


def test_a_spec_of_boxes_and_counts(objects: Path) -> None:
    spec = load_objects(objects)
    boxes, counts = spec.data.boxes, spec.data.counts
    assert (boxes.file, boxes.id, boxes.label, boxes.columns) == ("boxes.csv", "id", "label", ("x1", "y1", "x2", "y2"))
    assert (boxes.convention, boxes.normalized, boxes.format, boxes.empty) == ("xyxy", False, "columns", ())
    assert (counts.file, counts.id, counts.columns) == ("counts.csv", "id", {"사과": "사과", "컵": "컵"})
    assert (spec.data.classes, spec.data.class_ids, spec.submission.options) == (("사과", "컵"), None, {})


def test_classes_are_composed_and_may_have_numbers(objects: Path) -> None:
    import unicodedata

    names = {"3": unicodedata.normalize("NFD", "사과"), 7: " 컵 "}
    data = load_objects(objects, data__classes=names).data
    assert (data.classes, data.class_ids) == (("사과", "컵"), (3, 7))


@pytest.mark.parametrize(
    ("form", "columns", "sample"),
    [
        ("counts", {"id": "test_id"}, "test_id,사과,컵"),
        ("counts", {"id": "id", "컵": "cups"}, "id,cups,사과"),
        ("count_long", {"id": "id", "value": "n"}, "id,n"),
        ("rle", {"id": "id", "value": "mask"}, "id,mask"),
        ("coco", None, None),
    ],
)
def test_headers_of_the_formats(objects: Path, form: str, columns: dict | None, sample: str | None) -> None:
    if sample is not None:
        (objects / "sample.csv").write_text(sample + "\n")
    submission = {"format": form, "columns": columns}
    spec = load_objects(objects, submission=submission, sample_submission="sample.csv" if sample else None)
    assert spec.submission.columns == (columns or {})
    if form == "counts":
        (objects / "sample.csv").write_text("id,apple,cup\n")
        with pytest.raises(ProjectError, match=r"submission\.columns: .*the columns id, apple, cup.*a pair for each"):
            load_objects(objects, submission=submission, sample_submission="sample.csv")


def test_a_sample_submission_of_json(objects: Path) -> None:
    (objects / "sample.json").write_text("[]")
    spec = load_objects(objects, submission={"format": "coco"}, sample_submission="sample.json")
    assert spec.submission.sample == objects / "sample.json"


FOLDER = {"layout": "voc", "train": "images", "test": "images/x"}
OBJECT_MISTAKES = [
    ({"data__boxes__columns": ["x1", "y1", "x2"]}, ["data.boxes.columns: expected four columns, or one", "found 3"]),
    ({"data__boxes__columns": ["x1", "x1", "x2", "y2"]}, ["data.boxes.columns: expected four columns"]),
    ({"data__boxes__columns": ["x", "y1", "x2", "y2"]}, ["data.boxes.columns:", "boxes.csv has no column 'x'"]),
    ({"data__boxes__label": "lable"}, ["data.boxes.label:", "Did you mean 'label'?"]),
    ({"data__boxes__id": "image"}, ["data.boxes.id:", "no column 'image'"]),
    ({"data__boxes__file": "box.csv"}, ["data.boxes.file:", "box.csv does not exist", "Did you mean 'boxes.csv'?"]),
    ({"data__boxes__file": None}, ["data.boxes.columns:", "train.csv has no column 'x1'"]),
    ({"data__boxes__file": "../b.csv"}, ["data.boxes.file: '../b.csv' leaves the root"]),
    ({"data__boxes__convention": "xyhw"}, ["data.boxes.convention: 'xyhw' is not one of", "Did you mean 'xywh'?"]),
    ({"data__boxes__colums": ["x"]}, ["data.boxes.colums: unknown key", "Did you mean 'columns'?"]),
    ({"data__boxes__format": "prediction_string"}, ["data.boxes.columns: the format prediction_string needs one"]),
    ({"data__counts__columns": DROP}, ["data.counts.columns: not given", "{label: class, count: count}"]),
    ({"data__counts__label": "class"}, ["data.counts.label: is for one row a class"]),
    ({"data__counts__columns": ["사과", "cup"]}, ["data.counts.columns:", "counts.csv has no column 'cup'"]),
    ({"data__classes": ["a", "a"]}, ["data.classes: 'a' is named twice"]),
    ({"data__classes": "classes.csv"}, ["data.classes: 'classes.csv' has none of the suffixes .txt"]),
    ({"data__classes": "classes.txt"}, ["data.classes:", "classes.txt does not exist"]),
    ({"data__classes": {"a": "b"}}, ["data.classes: 'a' is no number"]),
    ({"data__target": "label"}, ["data.target: the task detection does not use it"]),
    ({"data__tags": "tags"}, ["data.tags:", "train.csv has no column 'tags'"]),
    ({"data__annotations": "x"}, ["data.annotations: the layout csv does not use it"]),
    ({"data__layout": "mvtec"}, ["data.layout: 'mvtec' is not a layout of the task detection", "csv, coco, voc, yolo"]),
    ({"metric": "auroc"}, ["metric: 'auroc' is for the task anomaly. For detection: ", "map50"]),
    ({"data__boxes": None}, ["metric: 'map50' compares boxes, and the data give counts alone", "count_mae"]),
    ({"data__boxes": None, "data__counts": None}, ["data.boxes: not given", "data.counts"]),
    ({"submission__options": {"oder": "x"}}, ["submission.options.oder: the format 'prediction_string' has no such"]),
    ({"submission__options": "x"}, ["submission.options: expected keys with values, found the text 'x'"]),
    ({"submission": {"format": "counts", "columns": {"컵": "n"}}}, ["submission.columns: the format 'counts' needs"]),
    (
        {"submission": {"format": "counts", "columns": {"id": "id", "컴": "n"}}},
        ["submission.columns.컴: no class of that name", "Classes: 사과, 컵"],
    ),
    ({"data": FOLDER}, ["data.test: the folders 'images' and 'images/x' lie in one another"]),
    ({"data": FOLDER | {"test": "test", "id": "id"}}, ["data.id: 'id' is not one of stem, file_name"]),
    ({"data": FOLDER | {"test": "train.csv"}}, ["data.test:", "train.csv is a file, and a folder is needed"]),
    ({"data": FOLDER | {"test": "a.txt"}}, ["data.test:", "a.txt does not exist"]),
    (
        {"data": {"layout": "coco", "train": "images", "test": "b"}},
        ["data.train:", "is a folder, and a file is needed"],
    ),
    ({"data": {"layout": "coco", "train": "train.csv", "test": "test.csv", "images": "{split}"}}, ["data.images:"]),
    ({"data": {"layout": "yolo", "train": "images"}}, ["data.test: not given"]),
]


@pytest.mark.parametrize(("changes", "texts"), OBJECT_MISTAKES, ids=[str(c)[:60] for c, _ in OBJECT_MISTAKES])
def test_a_mistake_in_a_spec_of_objects(objects: Path, changes: dict, texts: list[str]) -> None:
    with pytest.raises(ProjectError) as caught:
        load_objects(objects, **changes)
    message = str(caught.value)
    assert message.startswith("conf/competition/mine.yaml: ")
    for text in texts:
        assert text in message


def test_the_format_class_is_for_anomaly(objects: Path) -> None:
    with pytest.raises(ProjectError, match=r"submission\.format: 'class' is a format of the task anomaly; this is det"):
        load_objects(objects, submission={"format": "class", "columns": {"id": "id", "value": "label"}})


def test_anomaly_does_not_take_objects(root: Path) -> None:
    with pytest.raises(ProjectError, match=r"data\.boxes: the task anomaly does not use it"):
        load(root, data__boxes=BOXES)
    with pytest.raises(ProjectError, match=r"metric: 'map50' is for the task detection\. For anomaly: auroc"):
        load(root, metric="map50")


def test_boxes_csv_works_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("id\n007\n")
    (tmp_path / "test.csv").write_text("id\n008\n")
    (tmp_path / "boxes.csv").write_text("id,label,x1,y1,x2,y2\n007,a,1,1,2,2\n")
    assert read_competition("boxes_csv", {"root": str(tmp_path)}).data.boxes.convention == "xyxy"
