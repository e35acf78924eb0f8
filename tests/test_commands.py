"""The README's commands, as they stand there: they compose, and the first one ends in a validated submission."""

import re
import shlex
import time

import pandas as pd
import pytest

from tests.compose import compose
from tests.conftest import REPOSITORY, run_command

READMES = ("README.md", "README.ko.md")
SCRIPTS = {"train.py": "train", "infer.py": "infer", "make_submission.py": "submit"}


def commands(readme: str) -> list[str]:
    """Every command line of this project in code blocks and in inline code."""
    text = (REPOSITORY / readme).read_text(encoding="utf-8")
    found = re.findall(r"python (?:train|infer|make_submission)\.py[^\n`|#&]*", text)
    return sorted({command.strip() for command in found})


def test_both_languages_say_the_same_commands() -> None:
    assert commands("README.md") == commands("README.ko.md") and len(commands("README.md")) >= 10


@pytest.mark.parametrize("command", commands("README.md"))
def test_command_composes(command: str) -> None:
    script, *arguments = shlex.split(command)[1:]
    filled = [re.sub(r"<[^>]*>", "x", argument) for argument in arguments]
    if "-m" in filled:  # one of the runs: the last value of each list
        filled = [re.sub(r"=[^\[{]*,", "=", argument) for argument in filled if argument != "-m"]
    assert compose(SCRIPTS[script], *[a for a in filled if a != "competition=mine"])  # mine: the reader's own file


def test_runs_are_compared_as_documented() -> None:
    from src.compare import read_arguments

    for readme in READMES:
        found = re.findall(r"python -m src\.compare ([^\n`|#]*)", (REPOSITORY / readme).read_text("utf-8"))
        assert found and all(read_arguments(shlex.split(line))["runs"] for line in found)


def test_documented_options_exist() -> None:
    """Options named in the README's tables are keys of the configuration."""
    from src.cli import flat_keys

    known = {
        key
        for choices in (
            ["task=anomaly"],
            ["task=anomaly", "model=classifier"],
            ["task=detection"],
            ["task=detection", "model=yolov8"],
            ["task=caption", "model=llava"],
        )
        for key in flat_keys(compose("train", *choices))
    }
    for readme in READMES:
        named = re.findall(r"`((?:data|trainer|threshold|model)\.[\w.]+)=", (REPOSITORY / readme).read_text("utf-8"))
        assert named and set(named) - {"model.backbone_args.pad_type", "model.name"} <= known


def test_the_first_command_ends_in_a_validated_submission(tmp_path) -> None:
    start = time.monotonic()
    done = run_command("train.py", "task=anomaly", f"outputs={tmp_path}", "run=first", timeout=900)
    seconds = time.monotonic() - start
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    closing = {line.split()[0]: line for line in lines}
    assert closing["submission"].endswith("(valid)") and closing["run"].endswith("first")
    graded = float(closing["graded"].split()[2])
    assert graded >= 0.95, f"graded {graded}"
    assert seconds < 600
    table = pd.read_csv(tmp_path / "anomaly" / "first" / "submission.csv", dtype={"id": str})
    assert len(table) == 160 and table["id"].str.len().eq(4).all()

    checked = run_command(
        "make_submission.py", f"check={tmp_path}/anomaly/first/submission.csv", "competition=sample_anomaly"
    )
    assert checked.returncode == 0 and f"graded    auroc {graded:.4f}" in checked.stdout
    broken = tmp_path / "broken.csv"
    broken.write_text(table.astype({"id": int}).to_csv(index=False))
    refused = run_command("make_submission.py", f"check={broken}", "competition=sample_anomaly")
    assert refused.returncode == 1 and "leading zeros" in refused.stderr


def run_detection(outputs, *arguments: str) -> tuple[dict[str, str], float]:
    """The closing lines of `python train.py task=detection`, by their first word, and the seconds that it took."""
    start = time.monotonic()
    done = run_command("train.py", "task=detection", f"outputs={outputs}", "run=first", *arguments, timeout=3600)
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: line for line in done.stdout.strip().splitlines()}, time.monotonic() - start


def graded_of(closing: dict[str, str], name: str) -> float:
    return float(re.search(rf"{name} (\d\.\d+)", closing["graded"]).group(1))


def test_the_detection_command_ends_in_a_validated_submission(tmp_path) -> None:
    """Two epochs of the README's command: all of it but the quality, which the slow test below holds."""
    closing, _ = run_detection(tmp_path, "model.max_epochs=2", "logger=csv")
    assert closing["submission"].endswith("(valid)")
    table = pd.read_csv(tmp_path / "detection" / "first" / "submission.csv", dtype=str, keep_default_na=False)
    assert len(table) == 150 and table["id"].str.len().eq(4).all() and table["PredictionString"].str.len().gt(0).any()
    checked = run_command(
        "make_submission.py", f"check={tmp_path}/detection/first/submission.csv", "competition=sample_detection"
    )
    assert checked.returncode == 0 and f"graded    map50 {graded_of(closing, 'map50'):.4f}" in checked.stdout


@pytest.mark.slow
def test_the_detection_command_reaches_its_bars(tmp_path) -> None:
    closing, seconds = run_detection(tmp_path)
    assert graded_of(closing, "map50") >= 0.90, closing["graded"]
    assert graded_of(closing, "count_exact") >= 0.80, closing["graded"]
    assert seconds < 600


def run_captions(outputs, *arguments: str) -> tuple[dict[str, str], float]:
    """The closing lines of `python train.py task=caption`, by their first word, and the seconds that it took."""
    start = time.monotonic()
    done = run_command("train.py", "task=caption", f"outputs={outputs}", "run=first", *arguments, timeout=3600)
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: line for line in done.stdout.strip().splitlines()}, time.monotonic() - start


def test_the_caption_command_ends_in_a_validated_submission(tmp_path) -> None:
    """The README's command with a baseline that is not trained: all of it but the quality (see the slow test)."""
    closing, _ = run_captions(tmp_path, "model=template", "model.image_size=64", "logger=csv", "report=false")
    assert closing["submission"].endswith("(valid)") and "morpheme" in closing["signature"]
    table = pd.read_csv(tmp_path / "caption" / "first" / "submission.csv", dtype=str, keep_default_na=False)
    assert len(table) == 200 and table["id"].str.len().eq(4).all() and table["caption"].nunique() == 1
    checked = run_command(
        "make_submission.py", f"check={tmp_path}/caption/first/submission.csv", "competition=sample_caption"
    )
    assert checked.returncode == 0 and f"graded    cider_d {graded_of(closing, 'cider_d'):.4f}" in checked.stdout


@pytest.mark.slow
def test_the_caption_command_reaches_its_bars(tmp_path) -> None:
    closing, seconds = run_captions(tmp_path)
    assert graded_of(closing, "cider_d") >= 3.0, closing["graded"]
    assert seconds < 900
