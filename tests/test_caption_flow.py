"""The caption task from the command's configuration to a validated submission, on a tiny competition."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from src.errors import ProjectError
from src.inference import infer
from src.predictions import read_predictions
from src.submission.build import make
from src.tasks.load import load_task
from src.training import train
from tests.compose import TINY_CAPTIONER, compose, make_caption_competition, on_captions


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(competition, outputs) with the finished run "a"."""
    root = make_caption_competition(tmp_path_factory.mktemp("사진 대회"))
    outputs = tmp_path_factory.mktemp("outputs")
    train(compose("train", *on_captions(root, outputs), *TINY_CAPTIONER, "run=a"))
    return root, outputs


def run_of(outputs: Path, name: str) -> Path:
    return outputs / "caption" / name


def record(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_run_ends_with_a_validated_submission(finished: tuple[Path, Path]) -> None:
    root, outputs = finished
    run = run_of(outputs, "a")
    submission = pd.read_csv(run / "submission.csv", dtype=str)
    sample = pd.read_csv(root / "sample_submission.csv", dtype=str)
    assert submission["id"].tolist() == sample["id"].tolist()
    assert submission["caption"].str.strip().ne("").all()
    metrics = record(run / "metrics.json")
    assert metrics["metric"]["name"].startswith("cider_d") and metrics["graded"]["n"] == 6
    assert "morpheme" in metrics["metric"]["signature"]
    assert set(metrics["decision"]) >= {"weights", "edits", "fallback", "summary"}
    assert metrics["degenerate"]["test"]["images"] == 6
    for name in ("oof.parquet", "test.parquet"):
        frame = read_predictions(run / "predictions" / name, "caption")
        assert all(len(texts) == len(set(texts)) for texts in frame["candidates"])
        assert all(list(s) == sorted(s, reverse=True) for s in frame["candidate_scores"])
    assert (run / "report.html").is_file() and record(run / "run.json")["submission"]["valid"]


def test_checkpoint_rebuilds_itself_and_infers_alike(finished: tuple[Path, Path]) -> None:
    _, outputs = finished
    run = run_of(outputs, "a")
    task = load_task(run / "fold_0" / "best.ckpt")
    assert type(task).__name__ == "CaptionTask" and not task.training
    out = infer(compose("infer", f"run='{run}'"))
    again = read_predictions(out / "predictions.parquet", "caption").set_index("id")
    before = read_predictions(run / "predictions" / "test.parquet", "caption").set_index("id")
    assert again.loc[before.index, "candidates"].tolist() == before["candidates"].tolist()
    table = pd.read_csv(out / "predictions.csv", dtype=str, encoding="utf-8-sig")
    submitted = pd.read_csv(run / "submission.csv", dtype=str).set_index("id")["caption"]
    assert table.set_index("id")["caption"].to_dict() == submitted.to_dict()
    assert (out / "album.html").is_file()


def test_inference_decodes_otherwise_on_request(finished: tuple[Path, Path], tmp_path: Path) -> None:
    run = run_of(finished[1], "a")
    out = infer(compose("infer", f"run='{run}'", f"out='{tmp_path}'", "decoding.candidates=1"))
    assert all(len(texts) == 1 for texts in read_predictions(out / "predictions.parquet", "caption")["candidates"])
    with pytest.raises(ProjectError, match="decoding.method"):
        infer(compose("infer", f"run='{run}'", f"out='{tmp_path / 'b'}'", "decoding.method=beem"))


def test_folds_are_pooled_and_runs_blended(finished: tuple[Path, Path], tmp_path: Path) -> None:
    root, outputs = finished
    train(compose("train", *on_captions(root, outputs), *TINY_CAPTIONER, "run=two", "folds=2", "model.max_epochs=1"))
    run = run_of(outputs, "two")
    parts = [read_predictions(run / f"fold_{k}" / "test.parquet", "caption").set_index("id") for k in (0, 1)]
    whole = read_predictions(run / "predictions" / "test.parquet", "caption")
    for row in whole.itertuples():
        union = {text for part in parts for text in part.loc[row.id, "candidates"]}
        assert set(row.candidates) == union and len(row.candidates) == len(union)
    result = make(compose("submit", f"runs=['{run_of(outputs, 'a')}','{run}']", f"outputs='{outputs}'"))
    assert result["oof"] is not None and Path(result["path"]).is_file()
    assert dict(result["prepared"].notes)["weights"]
    given = make(compose("submit", f"runs=['{run_of(outputs, 'a')}','{run}']", f"outputs='{outputs}'", "weights=[3,1]"))
    assert dict(given["prepared"].notes)["weights"] == "0.75, 0.25"


def test_resume_repeats_the_uninterrupted_run(finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from src.tasks.caption import CaptionTask

    root, outputs = finished
    once = CaptionTask.training_step

    def stops(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1 and batch_idx == 1:
            raise KeyboardInterrupt
        return once(self, batch, batch_idx)

    command = [*on_captions(root, outputs), *TINY_CAPTIONER, "run=stopped"]
    monkeypatch.setattr(CaptionTask, "training_step", stops)
    with pytest.raises(KeyboardInterrupt):
        train(compose("train", *command))
    monkeypatch.setattr(CaptionTask, "training_step", once)
    train(compose("train", *command, "resume=true"))
    states = [
        torch.load(run_of(outputs, name) / "fold_0" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("a", "stopped")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_unreadable_picture_keeps_its_row(tmp_path: Path) -> None:
    root = make_caption_competition(tmp_path / "대회")
    (root / "사진 test" / "9002.PNG").write_bytes(b"not a picture")
    train(compose("train", *on_captions(root, tmp_path), *TINY_CAPTIONER, "run=b", "model.max_epochs=1"))
    run = run_of(tmp_path, "b")
    submission = pd.read_csv(run / "submission.csv", dtype=str).set_index("id")["caption"]
    fallback = record(run / "metrics.json")["decision"]["fallback"]
    assert submission["9002"] == fallback and len(submission) == 6


def test_without_held_out_rows_nothing_is_tuned(finished: tuple[Path, Path]) -> None:
    root, outputs = finished
    train(compose("train", *on_captions(root, outputs), *TINY_CAPTIONER, "run=whole", "data.holdout=0"))
    metrics = record(run_of(outputs, "whole") / "metrics.json")
    assert metrics["metric"]["value"] is None and metrics["graded"]["n"] == 6
    assert metrics["decision"]["weights"]["model"] == 1.0


def test_baselines_run_without_weights(finished: tuple[Path, Path]) -> None:
    root, outputs = finished
    nearest = ("model=nearest", "model.weights=builtin", "model.image_size=64")
    for name, model in {"template": ("model=template",), "nearest": nearest}.items():
        train(compose("train", *on_captions(root, outputs), *model, f"run={name}"))
        metrics = record(run_of(outputs, name) / "metrics.json")
        assert metrics["graded"]["metric"] is not None
    texts = pd.read_csv(run_of(outputs, "template") / "submission.csv")["caption"]
    assert texts.nunique() == 1
    assert record(run_of(outputs, "nearest") / "run.json")["network"]["backbone"] == "filter_bank"


def test_a_scorer_stands_beside_the_candidates(finished: tuple[Path, Path], tmp_path: Path) -> None:
    from tests.models.caption.tiny_clip import save_clip

    root, outputs = finished
    clip = save_clip(tmp_path / "clip")
    scorer = ("scorer.checkpoint=owner/clip", f"scorer.weights='{clip}'")
    train(compose("train", *on_captions(root, outputs), *TINY_CAPTIONER, *scorer, "run=scored", "report=false"))
    run = run_of(outputs, "scored")
    frame = read_predictions(run / "predictions" / "test.parquet", "caption")
    assert all(len(a) == len(b) for a, b in zip(frame["candidates"], frame["image_scores"], strict=True))
    assert all(-1.001 <= value <= 1.001 for row in frame["image_scores"] for value in row)
    assert 0 <= record(run / "metrics.json")["graded"]["clip_score"] <= 2.5
    clip.rename(tmp_path / "gone")  # the checkpoint holds the scorer too
    again = read_predictions(infer(compose("infer", f"run='{run}'")) / "predictions.parquet", "caption")
    before = frame.set_index("id")["image_scores"]
    for row in again.itertuples():
        assert row.image_scores == pytest.approx(before[row.id], abs=1e-5)


def test_start_from_takes_over_what_fits(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, outputs = finished
    source = run_of(outputs, "a")
    base = [*on_captions(root, outputs), *TINY_CAPTIONER, "model.max_epochs=1"]
    train(compose("train", *base, "run=next", f"model.start_from='{source}'"))
    said = capsys.readouterr().out
    assert re.search(r"\d+ of \d+ arrays, \d+ subwords taken over from", said)
    assert "training images were learnt by the run of model.start_from" in said
    same = f"data.folds_file='{source}/folds.csv'"
    train(compose("train", *base, "run=honest", f"model.start_from='{source}'", same, "report=false"))
    assert "were learnt by the run" not in capsys.readouterr().out
    strange = tmp_path / "strange.ckpt"
    torch.save({"state_dict": {"network.x": torch.ones(3)}, "hyper_parameters": {"network": {}}}, strange)
    with pytest.raises(ProjectError, match="none of its 1 arrays"):
        train(compose("train", *base, "run=other", f"model.start_from='{strange}'"))
    with pytest.raises(ProjectError, match="no such checkpoint"):
        train(compose("train", *base, "run=none", "model.start_from=outputs/caption/nothing_here"))


def test_a_model_that_is_not_trained_refuses_epochs(finished: tuple[Path, Path]) -> None:
    root, outputs = finished
    with pytest.raises(ProjectError, match="model=template is not trained"):
        train(compose("train", *on_captions(root, outputs), "model=template", "trainer.max_epochs=3"))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("choice=best", "choice='best'"),
        ("decoding.beams=0", "decoding.beams=0"),
        ("captions_per_image=0", "captions_per_image=0"),
        ("retry.method=bim", "decoding.method='bim'"),
    ],
)
def test_wrong_options_are_refused_before_training(finished: tuple[Path, Path], override: str, says: str) -> None:
    root, outputs = finished
    with pytest.raises(ProjectError, match=says.replace("(", r"\(")):
        train(compose("train", *on_captions(root, outputs), *TINY_CAPTIONER, "run=wrong", override))
    assert not run_of(outputs, "wrong").exists()


def test_choice_first_submits_the_models_own(finished: tuple[Path, Path]) -> None:
    root, outputs = finished
    train(compose("train", *on_captions(root, outputs), *TINY_CAPTIONER, "run=first", "choice=first", "report=false"))
    run = run_of(outputs, "first")
    decision = record(run / "metrics.json")["decision"]
    assert decision["weights"] == {"model": 1.0, "consensus": 0.0, "image": 0.0}


def test_embeddings_follow_their_subwords() -> None:
    """Another vocabulary: a subword that both have keeps its embedding, whatever its number."""
    from src.models.caption.subwords import Codec, train_subwords
    from src.tasks.networks import build_network

    texts = (
        ["빨간 사과 한 개가 있다.", "파란 컵 두 개가 있다."],
        ["초록색 별이 있다.", "빨간 별 세 개가 있다.", "노란 컵."],
    )
    tokenizers = [train_subwords(each, vocab_size=60) for each in texts]
    options = {
        "_target_": "src.models.caption.encoder_decoder.EncoderDecoder", "image_size": [64, 64], "width": 16,
        "heads": 2, "depth": 1, "backbone": "resnet10t",
    }  # fmt: skip
    old, new = (build_network({**options, "tokenizer_json": each}) for each in tokenizers)
    before = new.decoder.embedding.weight.detach().clone()
    count = new.adopt_embeddings(old.decoder.embedding.weight.detach(), tokenizers[0])
    first, second = (Codec(each).vocabulary() for each in tokenizers)
    shared = set(first) & set(second)
    assert count == len(shared) > 4 and len(second) > len(shared)
    for token, number in second.items():
        expected = old.decoder.embedding.weight[first[token]] if token in shared else before[number]
        assert torch.equal(new.decoder.embedding.weight[number], expected)
