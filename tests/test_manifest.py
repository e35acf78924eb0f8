"""The manifest: three layouts read right, and each thing that can be wrong with tables and folders."""

import os
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from src.competition import Competition, load_competition, read_competition
from src.errors import ProjectError
from src.manifest import ANOMALY_COLUMNS, data_hash, read_manifest, read_solution, require_classes

REPOSITORY = Path(__file__).resolve().parents[1]


def touch(path: Path, content: bytes = b"image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def csv_spec(root: Path, train: str | bytes, test: str = "id,file\nt,t.png\n", /, **changes) -> Competition:
    """A csv competition with these tables; `changes` go to `data`, and t.png exists."""
    (root / "train.csv").write_bytes(train if isinstance(train, bytes) else train.encode())
    (root / "test.csv").write_text(test)
    touch(root / "t.png")
    data = {"layout": "csv", "train": "train.csv", "test": "test.csv", "id": "id", "path": "file"}
    config = {
        "name": "mine",
        "task": "anomaly",
        "root": str(root),
        "data": data | {"target": "label", "normal": ["ok"]} | changes,
        "solution": "solution.csv" if (root / "solution.csv").exists() else None,
        "metric": "auroc",
        "submission": {"format": "score", "columns": {"id": "id", "value": "score"}},
    }
    return load_competition(config, source="conf/competition/mine.yaml")


def split(manifest: pd.DataFrame, name: str) -> pd.DataFrame:
    return manifest[manifest["split"] == name].reset_index(drop=True)


# csv ---------------------------------------------------------------------------------------------------------


def test_a_table_becomes_a_manifest(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "masks/b.png"):
        touch(tmp_path / name)
    text = "id,file,label,lot,mask\n007,a.png,ok,x,\n2,b.png,crack,,masks/b.png\n1,c.png,,x,\n"
    manifest = read_manifest(csv_spec(tmp_path, text, group="lot", mask="mask"))
    assert tuple(manifest.columns) == ANOMALY_COLUMNS
    assert manifest["id"].tolist() == ["007", "2", "1", "t"]
    assert manifest["path"].tolist() == [str(tmp_path / name) for name in ("a.png", "b.png", "c.png", "t.png")]
    assert manifest["split"].tolist() == ["train"] * 3 + ["test"]
    assert manifest["target"].tolist() == ["ok", "crack", None, None]
    assert manifest["label"].tolist() == [0, 1, pd.NA, pd.NA]
    assert manifest["group"].tolist() == ["x", None, "x", None]
    assert manifest["mask"].tolist() == [None, str(tmp_path / "masks/b.png"), None, None]
    assert manifest["source"].tolist() == ["train.csv:2", "train.csv:3", "train.csv:4", "test.csv:2"]
    assert str(manifest["label"].dtype) == "Int64"


@pytest.mark.parametrize("name", ["007", "1e5", "NA", "null", "nan", "None", "True", "00.10", "3,5", "가 나"])
def test_an_id_is_text_whatever_it_looks_like(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "a.png")
    manifest = read_manifest(csv_spec(tmp_path, f'id,file,label\n"{name}",a.png,ok\n'))
    assert manifest["id"].tolist() == [name, "t"]


def test_test_labels_do_not_enter(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    touch(tmp_path / "m.png")
    text = "id,file,label,mask,lot\na,a.png,ok,,1\n"
    test = "id,file,label,mask,lot\nt,t.png,crack,m.png,2\n"
    row = split(read_manifest(csv_spec(tmp_path, text, test, mask="mask", group="lot")), "test").loc[0]
    assert row["target"] is None
    assert row["mask"] is None
    assert row["label"] is pd.NA


def test_without_targets_all_are_normal(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    manifest = read_manifest(csv_spec(tmp_path, "id,file\na,a.png\n", target=None))
    assert split(manifest, "train")["label"].tolist() == [0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_korean_tables(tmp_path: Path, encoding: str) -> None:
    touch(tmp_path / "이미지" / "정상 001.png")
    text = "아이디,파일,판정\n똠방각하,이미지/정상 001.png,정상\n"
    columns = {"id": "아이디", "path": "파일", "target": "판정"}
    spec = csv_spec(tmp_path, text.encode(encoding), "아이디,파일\nt,t.png\n", normal="정상", **columns)
    manifest = read_manifest(spec)
    assert manifest["id"][0] == "똠방각하"
    assert manifest["label"][0] == 0
    assert Path(manifest["path"][0]).is_file()


def test_a_table_in_no_known_encoding(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"data\.train: .*neither UTF-8 nor cp949.*CSV UTF-8"):
        csv_spec(tmp_path, "id,file,label\na,a.png,ok\n".encode("utf-16"))


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_either_unicode_form_of_a_name(tmp_path: Path, on_disk: str, in_table: str) -> None:
    name = "검사 결과/불량품.PNG"
    made = touch(tmp_path / unicodedata.normalize(on_disk, name))
    row = f"id,file,label\na,{unicodedata.normalize(in_table, name)},ok\n"
    found = read_manifest(csv_spec(tmp_path, row))["path"][0]
    assert found == str(made)
    assert Path(found).is_file()


def test_another_case_of_the_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "x/a.JPG")
    touch(tmp_path / "b.png")
    manifest = read_manifest(csv_spec(tmp_path, "id,file,label\na,x/a.jpg,ok\nb,b.PNG,ok\n"))
    assert manifest["path"].tolist()[:2] == [str(tmp_path / "x/a.JPG"), str(tmp_path / "b.png")]


def test_an_exact_name_wins_and_two_inexact_ones_do_not(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.JPG", "b.JPG", "b.Jpg"):
        touch(tmp_path / name)
    assert read_manifest(csv_spec(tmp_path, "id,file,label\na,a.jpg,ok\n"))["path"][0] == str(tmp_path / "a.jpg")
    with pytest.raises(ProjectError, match="1 of 1 image files are missing"):
        read_manifest(csv_spec(tmp_path, "id,file,label\nb,b.jpg,ok\n"))


@pytest.mark.parametrize("entry", ["x\\a.png", "./x/a.png", "x//a.png", "x/../x/a.png", "{root}/x/a.png"])
def test_ways_to_write_a_path(tmp_path: Path, entry: str) -> None:
    touch(tmp_path / "x/a.png")
    entry = entry.format(root=tmp_path)
    manifest = read_manifest(csv_spec(tmp_path, f"id,file,label\na,{entry},ok\n"))
    assert manifest["path"][0] == str(tmp_path / "x/a.png")


def test_paths_start_at_the_images_folder_and_may_climb_to_the_root(tmp_path: Path) -> None:
    touch(tmp_path / "img/a.png")
    touch(tmp_path / "other/b.png")
    test = "id,file\nt,../t.png\n"
    spec = csv_spec(tmp_path, "id,file,label\na,a.png,ok\nb,../other/b.png,ok\n", test, images="img")
    paths = read_manifest(spec)["path"].tolist()
    assert paths == [str(tmp_path / name) for name in ("img/a.png", "other/b.png", "t.png")]


@pytest.mark.parametrize("entry", ["../secret.png", "x/../../secret.png", "..\\secret.png", "/etc/passwd", "C:\\a.png"])
def test_a_path_that_leaves_the_root(tmp_path: Path, entry: str) -> None:
    touch(tmp_path / "secret.png")
    (tmp_path / "root").mkdir()
    with pytest.raises(ProjectError, match=r"mine\.yaml: data\.path: 1 image paths leave.*train\.csv:2 '") as caught:
        read_manifest(csv_spec(tmp_path / "root", f"id,file,label\na,{entry},ok\n"))
    assert entry in str(caught.value)


def test_a_root_and_folders_that_are_links(tmp_path: Path) -> None:
    touch(tmp_path / "disk/pictures/a.png")
    (tmp_path / "real").mkdir()
    (tmp_path / "real/images").symlink_to(tmp_path / "disk/pictures")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    spec = csv_spec(tmp_path / "link", "id,file,label\na,images/a.png,ok\n")
    assert read_manifest(spec)["path"][0] == str(tmp_path / "link/images/a.png")


def test_a_template_makes_paths_of_columns(tmp_path: Path) -> None:
    touch(tmp_path / "train/x/007.png")
    touch(tmp_path / "test/y/008.png")
    spec = csv_spec(tmp_path, "id,lot\n007,x\n", "id,lot\n008,y\n", path="{split}/{lot}/{id}.png", target=None)
    assert read_manifest(spec)["path"].tolist() == [
        str(tmp_path / "train/x/007.png"),
        str(tmp_path / "test/y/008.png"),
    ]


def test_missing_files_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "a0.png")
    rows = "".join(f"{i},a{i}.png,ok\n" for i in range(9))
    with pytest.raises(ProjectError) as caught:
        read_manifest(csv_spec(tmp_path, "id,file,label\n" + rows))
    message = str(caught.value)
    assert "mine.yaml: data.path: 8 of 9 image files are missing" in message
    assert "train.csv:3 'a1.png', train.csv:4 'a2.png'" in message
    assert "train.csv:7 'a5.png' and 3 more" in message
    assert "'a6.png'" not in message
    assert "Did you mean 'a0.png'" in message
    assert "data.images" in message


def test_missing_files_that_lie_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path / "pictures/a.png")
    with pytest.raises(ProjectError, match=r"'a\.png' is in the folder 'pictures'.*data\.images"):
        read_manifest(csv_spec(tmp_path, "id,file,label\na,a.png,ok\n"))
    with pytest.raises(ProjectError, match="There is no folder 'nowhere'"):
        read_manifest(csv_spec(tmp_path, "id,file,label\na,nowhere/a.png,ok\n"))


def test_an_empty_path_a_folder_and_a_broken_link_are_missing_files(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ProjectError, match="3 of 3 image files are missing"):
        read_manifest(csv_spec(tmp_path, "id,file,label\na,,ok\nb,folder.png,ok\nc,broken.png,ok\n"))


def test_a_missing_mask(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    spec = csv_spec(tmp_path, "id,file,label,mask\na,a.png,ok,m.png\n", mask="mask")
    with pytest.raises(ProjectError, match=r"data\.mask: 1 of 1 mask files are missing.*train\.csv:2 'm\.png'"):
        read_manifest(spec)


WRONG_TABLES = [
    ("id,file,label\n", "data.train: the training set is empty: no rows in"),
    ("id,file,label\na,a.png,ok\na,b.png,ok\nb,c.png,ok\n", "train.csv:2, train.csv:3: the id 'a' occurs 2 times"),
    ("id,file,label\na,a.png,ok\n ,b.png,ok\n", "data.id: 1 rows have no id: train.csv:3"),
    ("id,file,label\na,a.png,ok\nb,a.png,ok\n", "train.csv:2, train.csv:3: the image"),
    ("id,file,label\na,a.png,crack\nb,b.png,OK\n", "data.normal: no training image is normal: ok is not among"),
    ("id,file,label\na,a.png\n", "row 2: 2 cells where the header has 3 columns"),
    ("id,file,label\na,a.png,ok,extra\n", "row 2: 4 cells where the header has 3 columns"),
    ('id,file,label\na,"a.png,ok\n', "row 2: unreadable"),
    ("id,file,label,id\na,a.png,ok,a\n", "column 'id' appears twice"),
    ("", "train.csv is empty: its first line must name the columns"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_TABLES, ids=[message for _, message in WRONG_TABLES])
def test_a_wrong_table(tmp_path: Path, text: str, message: str) -> None:
    for name in ("a.png", "b.png", "c.png"):
        touch(tmp_path / name)
    with pytest.raises(ProjectError) as caught:
        read_manifest(csv_spec(tmp_path, text))
    assert message in str(caught.value)


def test_no_normal_image_lists_the_targets(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        touch(tmp_path / name)
    spec = csv_spec(tmp_path, "id,file,label\na,a.png,good\nb,b.png,good\nc,c.png,bad\n", normal="goood")
    with pytest.raises(ProjectError, match=r"Did you mean 'good'\? Targets found: 'good' \(2\), 'bad' \(1\)"):
        read_manifest(spec)


def test_an_empty_test_table(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    with pytest.raises(ProjectError, match=r"mine\.yaml: data\.test: the test set is empty"):
        read_manifest(csv_spec(tmp_path, "id,file,label\na,a.png,ok\n", "id,file\n"))


def test_spreadsheet_habits(tmp_path: Path) -> None:
    """Blank lines, empty columns at the end, Windows line ends, a line break within quotes; rows keep their lines."""
    for name in ("a.png", "b.png", "c.png"):
        touch(tmp_path / name)
    text = 'id,file,label,,\r\na,a.png,ok,,\r\n\r\n"b\nb",b.png,ok,,\r\nc,c.png,ok,,,,\r\n'
    manifest = split(read_manifest(csv_spec(tmp_path, text)), "train")
    assert manifest["id"].tolist() == ["a", "b\nb", "c"]
    assert manifest["source"].tolist() == ["train.csv:2", "train.csv:4", "train.csv:6"]


def test_a_table_with_tabs(tmp_path: Path) -> None:
    touch(tmp_path / "a,b.png")
    (tmp_path / "train.tsv").write_text("id\tfile\tlabel\n01\ta,b.png\tok\n")
    manifest = read_manifest(csv_spec(tmp_path, "", train="train.tsv"))
    assert manifest["id"][0] == "01"
    assert manifest["source"][0] == "train.tsv:2"


# folder ------------------------------------------------------------------------------------------------------


def folder_spec(root: Path, **changes) -> Competition:
    return read_competition("folder", {"root": str(root)} | {f"data.{key}": value for key, value in changes.items()})


def test_folders_by_class(tmp_path: Path) -> None:
    names = ["good/img10.png", "good/img2.JPEG", "good/deep/x.webp", "스크래치 큰/가.TIF"]
    for name in [*names, "good/notes.txt", "good/.hidden.png", "__MACOSX/good/._img2.png", ".cache/a.png"]:
        touch(tmp_path / "train" / name)
    touch(tmp_path / "test/2.bmp")
    touch(tmp_path / "test/10.bmp")
    manifest = read_manifest(folder_spec(tmp_path, normal="good"))
    train = split(manifest, "train")
    assert train["id"].tolist() == ["good/deep/x", "good/img2", "good/img10", "스크래치 큰/가"]
    assert train["target"].tolist() == ["good", "good", "good", "스크래치 큰"]
    assert train["label"].tolist() == [0, 0, 0, 1]
    assert train["source"][1] == "train/good/img2.JPEG"
    test = split(manifest, "test")
    assert test["id"].tolist() == ["2", "10"]
    assert read_solution(folder_spec(tmp_path, normal="good")) is None


def test_folder_ids_are_composed_and_unique(tmp_path: Path) -> None:
    touch(tmp_path / "train" / unicodedata.normalize("NFD", "정상/각.png"))
    touch(tmp_path / "train/정상/b.png")
    touch(tmp_path / "train/정상/b.jpg")
    touch(tmp_path / "test/a.png")
    train = split(read_manifest(folder_spec(tmp_path, normal="정상")), "train")
    assert sorted(train["id"]) == ["정상/b.jpg", "정상/b.png", unicodedata.normalize("NFC", "정상/각")]
    assert set(train["label"]) == {0}


def test_a_flat_training_folder_is_all_normal(tmp_path: Path) -> None:
    touch(tmp_path / "train/a.png")
    touch(tmp_path / "test/a.png")
    spec = folder_spec(tmp_path)
    assert split(read_manifest(spec), "train")["label"].tolist() == [0]
    touch(tmp_path / "train/crack/b.png")
    with pytest.raises(ProjectError, match=r"data\.train: images beside class folders: train/a\.png"):
        read_manifest(spec)


def test_test_folders_by_class_are_graded_but_not_seen(tmp_path: Path) -> None:
    for name in ("train/good/a.png", "test/good/a.png", "test/crack/b.png"):
        touch(tmp_path / name)
    spec = folder_spec(tmp_path)
    test = split(read_manifest(spec), "test")
    assert test["id"].tolist() == ["crack/b", "good/a"]
    assert test["label"].isna().all()
    assert test["target"].isna().all()
    solution = read_solution(spec)
    assert solution["id"].tolist() == test["id"].tolist()
    assert solution["label"].tolist() == [1, 0]
    assert solution["target"].tolist() == ["crack", "good"]


def test_test_folders_that_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path / "train/good/a.png")
    touch(tmp_path / "test/monday/a.png")
    assert read_solution(folder_spec(tmp_path)) is None


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(ProjectError, match=r"folder\.yaml: data\.test: .*test does not exist"):
        folder_spec(tmp_path)
    touch(tmp_path / "test/readme.txt")
    spec = folder_spec(tmp_path)
    with pytest.raises(ProjectError, match=r"data\.train: the training set is empty: no images \(\.jpg, "):
        read_manifest(spec)
    touch(tmp_path / "train/good/a.png")
    with pytest.raises(ProjectError, match=r"data\.test: the test set is empty: no images"):
        read_manifest(spec)
    touch(tmp_path / "test/a.png")
    with pytest.raises(ProjectError, match=r"data\.normal: no training image is normal.*'good' \(1\)"):
        read_manifest(folder_spec(tmp_path, normal="fine"))


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path / "train/good/a.png")
    touch(tmp_path / "test/a.png")
    (tmp_path / "train/good/again").symlink_to(tmp_path / "train")
    assert len(split(read_manifest(folder_spec(tmp_path)), "train")) == 1


# mvtec -------------------------------------------------------------------------------------------------------


def mvtec_root(root: Path) -> Path:
    for name in (
        "train/good/000.png",
        "test/good/000.png",
        "test/crack/000.PNG",
        "test/crack/001.png",
        "test/hole/000.jpg",
        "test/dent/000.png",
        "ground_truth/crack/000_mask.png",
        "ground_truth/hole/000.PNG",
    ):
        touch(root / name)
    return root


def test_mvtec(tmp_path: Path) -> None:
    spec = read_competition("mvtec", {"root": str(mvtec_root(tmp_path))})
    manifest = read_manifest(spec)
    assert split(manifest, "train")["id"].tolist() == ["good/000"]
    test = split(manifest, "test")
    assert test["id"].tolist() == ["crack/000", "crack/001", "dent/000", "good/000", "hole/000"]
    assert test[["target", "label", "mask", "group"]].isna().all(axis=None)
    solution = read_solution(spec)
    assert solution["label"].tolist() == [1, 1, 1, 0, 1]
    truth = tmp_path / "ground_truth"
    expected = [str(truth / "crack/000_mask.png"), None, None, None, str(truth / "hole/000.PNG")]
    assert solution["mask"].tolist() == expected


def test_mvtec_masks_whose_names_fit_nothing(tmp_path: Path) -> None:
    touch(mvtec_root(tmp_path) / "ground_truth/dent/mask_000.png")
    with pytest.raises(ProjectError, match=r"data\.mask: none of the 1 masks in ground_truth/dent"):
        read_solution(read_competition("mvtec", {"root": str(tmp_path)}))
    solution = read_solution(read_competition("mvtec", {"root": str(tmp_path), "data.mask": None}))
    assert solution["mask"].isna().all()


def test_magnetic_tiles() -> None:
    root = Path(os.environ.get("SHARED_DATA", REPOSITORY.parent / "shared/data")) / "magnetic_tile"
    if not root.is_dir():
        pytest.skip(f"no real data at {root}")
    spec = read_competition("mvtec", {"root": str(root)})
    manifest, solution = read_manifest(spec), read_solution(spec)
    assert manifest["split"].value_counts().to_dict() == {"train": 761, "test": 583}
    assert manifest["id"].groupby(manifest["split"]).nunique().to_dict() == {"train": 761, "test": 583}
    assert solution["id"].tolist() == split(manifest, "test")["id"].tolist()
    assert solution["label"].value_counts().to_dict() == {1: 392, 0: 191}
    assert (solution["mask"].notna() == (solution["label"] == 1)).all()
    assert all(Path(path).is_file() for path in solution["mask"].dropna())


# solution, classes, hash -------------------------------------------------------------------------------------


def solved(root: Path, text: str, **changes) -> Competition:
    for name in ("a.png", "1.png", "2.png", "m.png"):
        touch(root / name)
    (root / "solution.csv").write_text(text)
    return csv_spec(root, "id,file,label\na,a.png,ok\n", "id,file\n02,2.png\n01,1.png\n", **changes)


def test_a_solution_comes_in_the_order_of_the_test_table(tmp_path: Path) -> None:
    (tmp_path / "train.csv").touch()
    spec = solved(tmp_path, "id,label,Usage\n01,ok,Public\n02,crack,Private\n")
    solution = read_solution(spec)
    assert list(solution.columns) == ["id", "target", "label", "mask", "category"]
    assert solution["id"].tolist() == ["02", "01"]
    assert solution["label"].tolist() == [1, 0]
    assert solution["mask"].isna().all()


def test_masks_of_a_solution(tmp_path: Path) -> None:
    text = "id,label,mask\n01,ok,\n02,crack,m.png\n"
    solved(tmp_path, text)
    spec = csv_spec(tmp_path, "id,file,label,mask\na,a.png,ok,\n", "id,file\n02,2.png\n01,1.png\n", mask="mask")
    assert read_solution(spec)["mask"].tolist() == [str(tmp_path / "m.png"), None]


def test_a_solution_in_a_submissions_columns(tmp_path: Path) -> None:
    spec = solved(tmp_path, "id,score\n01,0\n02,1\n", target=None)
    assert read_solution(spec)["label"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\n1,ok\n02,crack\n", "does not fit the test set: 1 id is missing ('01'), 1 id is unknown ('1')"),
        ("id,label\n01,ok\n", "1 id is missing ('02')"),
        ("id,label\n01,ok\n02,\n", "solution.csv:3: no value in the column 'label'"),
        ("id,label\n01,ok\n01,ok\n02,ok\n", "solution.csv:2, solution.csv:3: the id '01' occurs 2 times"),
        ("id,label\n", "solution: the solution is empty"),
    ],
)
def test_a_solution_that_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProjectError) as caught:
        read_solution(solved(tmp_path, text))
    assert message in str(caught.value)


def test_no_solution(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    assert read_solution(csv_spec(tmp_path, "id,file,label\na,a.png,ok\n")) is None


def test_two_classes_where_two_are_needed(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        touch(tmp_path / name)
    with pytest.raises(ProjectError, match="2 normal and 0 anomalous"):
        require_classes(read_manifest(csv_spec(tmp_path, "id,file,label\na,a.png,ok\nb,b.png,ok\n")))
    require_classes(read_manifest(csv_spec(tmp_path, "id,file,label\na,a.png,ok\nb,b.png,no\n")))


def test_the_hash_follows_the_data_and_not_the_place(tmp_path: Path) -> None:
    def made(folder: str, content: bytes = b"x", target: str = "ok") -> str:
        root = tmp_path / folder
        for name in ("a.png", "b.png"):
            touch(root / name, content)
        return data_hash(read_manifest(csv_spec(root, f"id,file,label\na,a.png,{target}\nb,b.png,ok\n")))

    one = made("one")
    assert len(one) == 64
    assert made("other place/two") == one
    assert made("three", content=b"longer") != one
    assert made("four", target="crack") != one
    manifest = read_manifest(csv_spec(tmp_path / "one", "id,file,label\na,a.png,ok\nb,b.png,ok\n"))
    assert data_hash(manifest.iloc[::-1]) == one
    (tmp_path / "one/a.png").unlink()
    with pytest.raises(ProjectError, match=r"train\.csv:2: .*a\.png is gone"):
        data_hash(manifest)


def test_a_bundled_competition_that_was_not_made(tmp_path: Path) -> None:
    spec = read_competition("sample_anomaly", {"root": str(tmp_path / "none")})
    with pytest.raises(ProjectError, match=r"sample_anomaly\.yaml: root: the folder .* does not exist"):
        read_manifest(spec)
