"""Mistakes on the command line are answered quickly, by name, with the nearest right word."""

import json

import pytest

from src.cli import expand_arguments, flat_keys
from tests.compose import compose
from tests.conftest import REPOSITORY, run_command

HEAVY = ("torch", "lightning", "transformers", "anomalib", "wandb", "albumentations", "timm", "pandas", "cv2")


def modules_loaded(*arguments: str) -> tuple[list[str], str, int]:
    """Top-level modules that train.py has loaded when it ends, its error output and its exit status."""
    code = (
        "import json, runpy, sys\n"
        f"sys.argv = ['train.py', *{list(arguments)!r}]\n"
        "status = 0\n"
        "try:\n    runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit as error:\n    status = error.code\n"
        "print(json.dumps([sorted({m.split('.')[0] for m in sys.modules}), status]))\n"
    )
    done = run_command("-c", code)
    loaded, status = json.loads(done.stdout.strip().splitlines()[-1])
    return loaded, done.stderr, status or 0


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--help"], 0), (["task=anomaly", "modle.backbone=x"], 2), (["task=anomoly"], 2), ([], 2)],
)
def test_answers_without_heavy_imports(arguments: list[str], status: int) -> None:
    loaded, _, got = modules_loaded(*arguments)
    assert got == status
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["task=anomoly"], ["task=anomoly", "Did you mean 'anomaly'?"]),
        ([], ["task is not given", "anomaly"]),
        (["task=anomaly", "model=padm"], ["model=padm", "Did you mean 'padim'?", "patchcore"]),
        (["task=anomaly", "modle.backbone=x"], ["unknown key 'modle.backbone'", "Did you mean 'model.backbone'?"]),
        (["task=anomaly", "data.batchsize=3"], ["data.batchsize", "Did you mean 'data.batch_size'?"]),
        (["task=anomaly", "batch_size=3"], ["batch_size", "Did you mean 'data.batch_size'?"]),
        (
            ["task=anomaly", "competition=mvtek"],
            ["competition=mvtek", "Did you mean 'mvtec'?", "conf/competition/mvtek.yaml"],
        ),
        (["task=anomaly", "augment=hard"], ["augment=hard", "strong"]),
    ],
)
def test_mistakes_name_the_remedy(arguments: list[str], words: list[str]) -> None:
    done = run_command("train.py", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["competition.metric=auroq"], "auroc"),
        (["folds=0"], "folds=0"),
        (["fold=3"], "fold=3"),
        (["folds=2", "fold=2"], "from 0 to 1"),
        (["competition=mvtec"], "competition.root"),
        (["+competition.nonsense=1"], "nonsense"),
        (["run=a/b"], "run='a/b'"),
        (["run=never_made", "resume=true"], "no run to continue"),
        (["model.image_size=3"], "image_size"),
        (["model._target_=os.system"], "src.models"),
        (["+model.coreset=0.1"], "coreset"),
        (["model.weights=/no/such/file.pth"], "/no/such/file.pth"),
    ],
)
def test_wrong_values_are_one_message(arguments: list[str], word: str, tmp_path) -> None:
    done = run_command("train.py", "task=anomaly", f"outputs={tmp_path}", "logger=csv", *arguments)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error:") and word in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("submission.csv"))


def test_short_model_names_grow_to_their_files() -> None:
    assert expand_arguments(["task=anomaly", "model=padim"]) == ["task=anomaly", "model=anomaly/padim"]
    assert (
        expand_arguments(["-m", "task=anomaly", "model=padim,patchcore"])[2] == "model=anomaly/padim,anomaly/patchcore"
    )
    assert expand_arguments(["task=anomaly", "model=nothing"])[1] == "model=nothing"
    assert expand_arguments(["model=padim"]) == ["model=padim"]
    assert expand_arguments(["task=anomaly", "model.name=Cflow"])[1] == "model.name=Cflow"


def test_flat_keys() -> None:
    assert flat_keys({"a": {"b": 1}, "c": None}) == ["a", "a.b", "c"]


def test_scripts_exist_where_the_readme_says() -> None:
    for name in ("train.py", "infer.py", "make_submission.py"):
        done = run_command(name, "--help")
        assert done.returncode == 0 and "usage: python " + name in done.stdout
    assert (REPOSITORY / "conf" / "train.yaml").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["infer.py"], ["no run is given", "run=outputs/"]),
        (["infer.py", "run=outputs/anomaly/nope"], ["outputs/anomaly/nope", "not a run folder"]),
        (["make_submission.py"], ["nothing to do", "runs=[", "check="]),
        (["make_submission.py", "check=nope.csv"], ["check= needs the competition", "sample_anomaly"]),
        (["make_submission.py", "runs=[outputs/anomaly/nope]"], ["not a run folder"]),
    ],
)
def test_the_other_commands_say_what_they_need(arguments: list[str], words: list[str]) -> None:
    done = run_command(*arguments)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("competition.root=/자료/부품 1", "competition.root='/자료/부품 1'"),
        ("images=/data/line 3/it's*.JPG", r"images='/data/line 3/it\'s*.JPG'"),
        ("competition.root='/이미/따옴표'", "competition.root='/이미/따옴표'"),
        ("competition.data.classes=['네모','원']", "competition.data.classes=['네모','원']"),
        ("run=plain-name_1", "run=plain-name_1"),
    ],
)
def test_korean_and_spaced_values_need_no_quotes(given: str, expected: str) -> None:
    assert expand_arguments(["task=anomaly", given])[1] == expected
    assert expand_arguments([given]) == [expected]


def test_a_korean_path_arrives_as_typed() -> None:
    from tests.compose import compose

    assert compose("infer", "run=x", "images=/data/라인 3/*.JPG")["images"] == "/data/라인 3/*.JPG"


def test_lists_of_korean_words_need_no_quotes() -> None:
    given = ["task=caption", "model=koclip_bank", "model.names=[사과, 책]", "data.batch_size=4"]
    assert expand_arguments(given)[2] == "model.names=['사과','책']"
    assert compose("train", *given)["model"]["names"] == ["사과", "책"]
    assert expand_arguments(["task=anomaly", "model.layers=[layer1, 2]"])[1] == "model.layers=[layer1,2]"
