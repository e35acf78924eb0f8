"""Checkpoints of the hub: found in their order, refused in time, configured and rebuilt from plain dicts."""

import json
import time
from pathlib import Path

import pytest
import torch

from src import hub_models
from src.errors import ProjectError
from src.hub_models import (
    build_config,
    build_model,
    checkpoint_folder,
    fetch_checkpoint,
    load_config,
    plain_config,
    prepare_network,
    refuse_checkpoint_early,
    resolve_checkpoint,
    wanted_files,
    weight_files,
)
from src.tasks.networks import network_class
from src.weights import WeightsNotFound, main

REPO = "owner/tiny-detr"
TINY = {"text_config": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
                        "vocab_size": 64},
        "vision_config": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
                          "image_size": 32, "patch_size": 16},
        "projection_dim": 8}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPModel

    folder = tmp_path_factory.mktemp("weights") / "owner_tiny-detr"
    torch.manual_seed(0)
    build_model(CLIPModel, load_config("clip", TINY), None)[0].save_pretrained(folder)
    return folder


def test_words_and_places(checkpoint: Path, tmp_path: Path) -> None:
    none = resolve_checkpoint(REPO, "random", weights_dir=None, bundled=False)
    assert (none.kind, none.path, none.sha256) == ("random", None, None)
    found = resolve_checkpoint(REPO, "auto", weights_dir=checkpoint.parent, bundled=False)
    assert (found.kind, found.path) == ("file", str(checkpoint)) and len(found.sha256) == 64
    for given in (checkpoint, checkpoint / "model.safetensors"):
        assert resolve_checkpoint(REPO, str(given), weights_dir=None, bundled=False).path == str(checkpoint)
    (tmp_path / "tiny-detr").symlink_to(checkpoint)
    assert checkpoint_folder(REPO, tmp_path) == checkpoint  # the name alone is enough


def test_local_cache_comes_before_the_hub(checkpoint: Path, tmp_path: Path) -> None:
    root = tmp_path / "cache" / "models--owner--tiny-detr"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("abc")
    (root / "snapshots").mkdir()
    (root / "snapshots" / "abc").symlink_to(checkpoint)
    found = resolve_checkpoint(REPO, "pretrained", weights_dir=tmp_path / "none", bundled=False)
    assert found.kind == "cache" and Path(found.path).samefile(checkpoint)


def test_missing_checkpoint_is_refused_in_time_with_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://192.0.2.1")  # reserved for documentation: nothing answers there
    monkeypatch.setattr("src.weight_sources.hub_is_offline", lambda: False)
    start = time.monotonic()
    with pytest.raises(WeightsNotFound) as error:
        resolve_checkpoint(REPO, "auto", weights_dir=tmp_path, bundled=False)
    assert time.monotonic() - start < 5
    for way in ("model.weights=/path/to/folder", f"python -m src.weights fetch {REPO}", "model.weights=random"):
        assert way in str(error.value)
    assert "builtin" not in str(error.value)


def test_bundled_sample_may_start_from_random_values_loudly(tmp_path: Path) -> None:
    said: list[str] = []
    found = resolve_checkpoint(REPO, "auto", weights_dir=tmp_path, bundled=True, warn=said.append)
    assert found.kind == "random" and found.path is None and len(said) == 1 and REPO in said[0]
    with pytest.raises(WeightsNotFound):
        resolve_checkpoint(REPO, "pretrained", weights_dir=tmp_path, bundled=True, warn=said.append)


@pytest.mark.parametrize(
    ("repo", "weights", "expected"),
    [
        ("grounding-dino-tiny", "auto", "owner/name"),
        (REPO, "pretraned", "Did you mean 'pretrained'?"),
        (REPO, "/nowhere/folder", "there is no such folder"),
    ],
)
def test_mistakes_are_named(repo: str, weights: str, expected: str) -> None:
    with pytest.raises(ProjectError, match=expected.replace("?", r"\?")):
        resolve_checkpoint(repo, weights, weights_dir=None, bundled=False)


def test_incomplete_checkpoints_are_named(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    with pytest.raises(ProjectError, match="lacks config.json"):
        resolve_checkpoint(REPO, str(tmp_path), weights_dir=None, bundled=False)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ProjectError, match="cut short"):
        resolve_checkpoint(REPO, str(tmp_path), weights_dir=None, bundled=False)


def test_shards_are_found_by_their_index(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    with pytest.raises(ProjectError, match="model-00002-of-00002.safetensors, which is not there"):
        weight_files(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").touch()
    assert [file.name[:11] for file in weight_files(tmp_path)] == ["model-00001", "model-00002"]


def test_only_what_is_needed_is_downloaded() -> None:
    names = ["README.md", "config.json", "vocab.txt", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx",
             "tokenizer.json", "tf_model.h5"]  # fmt: skip
    assert wanted_files(names) == ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
    second = ["qformer_tokenizer/tokenizer.json", "qformer_tokenizer/tokenizer_config.json"]
    assert set(second) <= set(wanted_files([*names, *second]))  # InstructBLIP has two tokenizers
    assert "pytorch_model.bin" in wanted_files([name for name in names if name != "model.safetensors"])
    with pytest.raises(ProjectError, match="no transformers checkpoint"):
        wanted_files(["weights.pt", "config.json"])


def test_fetch_command_copies_a_whole_checkpoint(checkpoint: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    found = ("cache", checkpoint, "a test")
    monkeypatch.setattr(hub_models, "_find", lambda repo, folder: found)
    assert main(["fetch", REPO, "--to", str(tmp_path)]) == 0
    assert "owner_tiny-detr/model.safetensors" in capsys.readouterr().out
    assert (tmp_path / "owner_tiny-detr" / "config.json").is_file()
    assert not list(tmp_path.glob("*.part"))
    monkeypatch.undo()
    assert fetch_checkpoint(REPO, tmp_path) == tmp_path / "owner_tiny-detr"  # found there, not fetched again


@pytest.mark.parametrize("model_type", ["grounding-dino", "owlv2", "omdet-turbo", "sam2", "rt_detr_v2", "d_fine"])
def test_configuration_survives_a_plain_dict(model_type: str) -> None:
    config = load_config(model_type)
    assert config["model_type"] == model_type
    assert plain_config(build_config(json.loads(json.dumps(config)))) == config


def test_overrides_are_merged_and_misspelt_ones_refused(checkpoint: Path) -> None:
    config = load_config(checkpoint, {"text_config": {"num_hidden_layers": 3}})
    assert config["text_config"]["num_hidden_layers"] == 3 and config["text_config"]["hidden_size"] == 8
    with pytest.raises(ProjectError, match="model.config.projecton_dim.*Did you mean 'projection_dim'"):
        load_config("clip", {"projecton_dim": 3})
    with pytest.raises(ProjectError, match="config.text_config.hidden_sizes"):
        load_config(checkpoint, {"text_config": {"hidden_sizes": 3}})
    with pytest.raises(ProjectError, match="no model type"):
        load_config("groundingdino")


def test_weights_are_loaded_and_reported(checkpoint: Path) -> None:
    from transformers import CLIPModel

    config = load_config(checkpoint)
    model, report = build_model(CLIPModel, config, str(checkpoint))
    again, _ = build_model(CLIPModel, config, str(checkpoint))
    assert report.loaded == len(model.state_dict()) and not report.missing and not report.unexpected
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    wider = load_config(checkpoint, {"projection_dim": 16})
    with pytest.raises(ProjectError, match="does not fit CLIPModel"):
        build_model(CLIPModel, wider, str(checkpoint))
    _, report = build_model(CLIPModel, wider, str(checkpoint), may_differ=["text_projection", "visual_projection"])
    assert set(report.mismatched) == {"text_projection.weight", "visual_projection.weight"}


class Network:
    """What `prepare_network` asks of a class: a hub checkpoint and a backbone of another place."""

    zero_shot = False

    @classmethod
    def checkpoints(cls, options, weights):
        return {"weights": (options["backbone"], weights), "text_weights": (REPO, options["text_weights"])}

    @classmethod
    def prepare(cls, options, folders, class_names):
        return {**options, "class_names": class_names, "text": folders["text_weights"] is not None}

    @staticmethod
    def normalization(options):
        return {"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}


def test_a_network_is_prepared_from_all_its_checkpoints(checkpoint: Path) -> None:
    said: list[str] = []
    options = {"backbone": "resnet10t", "text_weights": "auto"}
    prepared = prepare_network(
        Network, options, weights="auto", weights_dir=checkpoint.parent, bundled=True, class_names=["cat"],
        warn=said.append,
    )  # fmt: skip
    assert prepared.options == {**options, "class_names": ["cat"], "text": True}
    assert prepared.initial == {"weights": None, "text_weights": str(checkpoint)}
    assert {name: found.kind for name, found in prepared.resolved.items()} == {
        "weights": "random", "text_weights": "file",
    }  # fmt: skip
    assert len(said) == 1 and "resnet10t" in said[0]
    with pytest.raises(WeightsNotFound, match="resnet10t"):
        prepare_network(
            Network, options, weights="auto", weights_dir=checkpoint.parent, bundled=False, class_names=["cat"]
        )


def test_a_zero_shot_network_never_falls_back(tmp_path: Path) -> None:
    zero_shot = type("ZeroShot", (Network,), {"zero_shot": True})
    options = {"backbone": "resnet10t", "text_weights": "random"}
    with pytest.raises(WeightsNotFound):
        prepare_network(zero_shot, options, weights="auto", weights_dir=tmp_path, bundled=True, class_names=["cat"])


def test_early_refusal_is_the_late_one(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound) as late:
        resolve_checkpoint(REPO, "auto", weights_dir=tmp_path, bundled=False)
    with pytest.raises(WeightsNotFound) as early:
        refuse_checkpoint_early(REPO, "auto", weights_dir=tmp_path)
    assert str(early.value) == str(late.value)
    refuse_checkpoint_early(REPO, "random", weights_dir=tmp_path)
    refuse_checkpoint_early(REPO, "auto", weights_dir=checkpoint.parent)


@pytest.mark.parametrize(
    ("target", "options", "first"),
    [
        ("open_vocabulary.OpenVocabularyDetector", {"architecture": "owlv2"}, 0.48145466),
        ("segmentation.GroundedSam", {"architecture": "grounding-dino"}, 0.485),
        ("detic.DeticDetector", {"backbone": "resnet18"}, 0.485),
    ],
)
def test_networks_say_what_their_pictures_are_normalised_by(target: str, options: dict, first: float) -> None:
    usual = network_class(f"src.models.detection.{target}").normalization(options)
    assert usual["mean"][0] == pytest.approx(first) and len(usual["std"]) == 3
