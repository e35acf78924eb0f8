"""The weights policy: where files are looked for, how fast it decides without a network, what a bad file gets."""

import hashlib
import socket
import time
from pathlib import Path

import pytest
import torch

from src.errors import ProjectError
from src.weight_sources import Source, find_in_cache, source_of
from src.weights import WeightsNotFound, fetch, find_in_folder, inspect_weights, main, resolve_weights

BACKBONE = "resnet10t"
STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3)}


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty hub cache and torch cache, and no word of an offline mode."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def black_hole(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """A network that swallows every connection: nothing answers, nothing refuses. Lists what was tried."""
    tried: list[tuple] = []

    def swallow(address: tuple, timeout: float | None = None, *_: object, **__: object) -> None:
        tried.append(address)
        time.sleep(60)

    monkeypatch.setattr(socket, "create_connection", swallow)
    return tried


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket, "create_connection", refuse)


def save(path: Path, state: object = STATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def test_a_path_is_taken_as_it_is_with_its_hash(tmp_path: Path) -> None:
    path = save(tmp_path / "가중치 1.safetensors")
    found = resolve_weights(BACKBONE, str(path), weights_dir=None, bundled=False)
    assert (found.kind, found.path) == ("file", str(path))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "anything.pth"])
def test_a_folder_as_path_gives_its_file(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "folder" / name)
    assert resolve_weights(BACKBONE, str(path.parent), weights_dir=None, bundled=False).path == str(path)


@pytest.mark.parametrize(
    "name", [f"{BACKBONE}.safetensors", f"{BACKBONE}.pth", f"{BACKBONE}.pt", f"{BACKBONE}/model.safetensors"]
)
def test_weights_folder_comes_before_the_network(tmp_path: Path, name: str, black_hole: list) -> None:
    path = save(tmp_path / "weights" / name)
    found = resolve_weights(BACKBONE, "auto", weights_dir=tmp_path / "weights", bundled=False)
    assert (found.kind, found.path) == ("file", str(path)) and not black_hole


def test_hub_cache_comes_before_the_network(tmp_path: Path, refusing: None) -> None:
    repository = source_of(BACKBONE).hub
    folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    path = save(folder / "snapshots" / "abc" / "model.safetensors")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    found = resolve_weights(BACKBONE, "pretrained", weights_dir=None, bundled=False)
    assert (found.kind, found.path) == ("cache", str(path)) and repository in found.source


def test_torch_cache_serves_what_is_published_at_an_address(tmp_path: Path) -> None:
    path = save(tmp_path / "torch" / "hub" / "checkpoints" / "net-12.pth")
    assert find_in_cache(Source("net", url="https://example.org/a/net-12.pth?x=1")) == path


@pytest.mark.parametrize("word", ["auto", "pretrained"])
def test_decision_within_five_seconds_when_nothing_answers(word: str, tmp_path: Path, black_hole: list) -> None:
    started = time.monotonic()
    with pytest.raises(WeightsNotFound) as error:
        resolve_weights(BACKBONE, word, weights_dir=tmp_path, bundled=False)
    assert time.monotonic() - started < 5
    text = str(error.value)
    assert {address[0] for address in black_hole} >= {"huggingface.co"}
    for way in (
        f"model.weights=/path/to/{BACKBONE}",
        f"src.weights fetch {BACKBONE}",
        "=builtin",
        "=random",
        str(tmp_path),
    ):
        assert way in text


def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch, black_hole: list) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsNotFound, match="HF_HUB_OFFLINE"):
        resolve_weights(BACKBONE, "auto", weights_dir=None, bundled=False)
    assert not black_hole


def test_the_probe_asks_the_endpoint_or_the_proxy_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple] = []

    def refuse(address: tuple, *_: object, **__: object) -> None:
        tried.append(address)
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example:8123/path")
    with pytest.raises(WeightsNotFound, match="mirror.example:8123"):
        resolve_weights("hf-hub:a/b", "auto", weights_dir=None, bundled=False)
    assert tried == [("mirror.example", 8123)]
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    with pytest.raises(WeightsNotFound):
        resolve_weights("hf-hub:a/b", "auto", weights_dir=None, bundled=False)
    assert tried[1:] == [("proxy.example", 3128)]


def test_auto_falls_back_on_a_bundled_sample_only_and_says_so_once(refusing: None) -> None:
    said: list[str] = []
    found = resolve_weights(BACKBONE, "auto", weights_dir=None, bundled=True, warn=said.append)
    assert found.kind == "builtin" and found.path is None
    assert len(said) == 1 and "WARNING" in said[0] and BACKBONE in said[0]
    with pytest.raises(WeightsNotFound):
        resolve_weights(BACKBONE, "pretrained", weights_dir=None, bundled=True, warn=said.append)
    assert len(said) == 1


def test_a_broken_file_is_no_reason_to_fall_back(tmp_path: Path, refusing: None) -> None:
    (tmp_path / f"{BACKBONE}.pth").write_bytes(b"")
    with pytest.raises(ProjectError, match="is empty"):
        resolve_weights(BACKBONE, "auto", weights_dir=tmp_path, bundled=True)


@pytest.mark.parametrize(("word", "kind"), [("random", "random"), ("builtin", "builtin")])
def test_words_that_need_no_file(word: str, kind: str, black_hole: list) -> None:
    found = resolve_weights(BACKBONE, word, weights_dir=None, bundled=False)
    assert (found.kind, found.path, found.sha256) == (kind, None, None)
    assert resolve_weights("filter_bank", "auto", weights_dir=None, bundled=False).kind == "builtin"
    assert not black_hole


def truncated(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"", "is empty"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git-LFS pointer"),
        ("a.pth", b"<!DOCTYPE html><html></html>", "web page"),
        ("a.pth", b"nonsense" * 20, "cut short or no state dict"),
        ("a.safetensors", b"nonsense" * 20, "cut short or no state dict"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProjectError, match=message):
        resolve_weights(BACKBONE, str(tmp_path / name), weights_dir=None, bundled=False)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_cut_short(tmp_path: Path, suffix: str) -> None:
    path = truncated(save(tmp_path / f"a{suffix}", {"w": torch.zeros(5000)}))
    with pytest.raises(ProjectError, match="cut short"):
        inspect_weights(path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")  # a whole module: unpickling runs its class
    with pytest.raises(ProjectError, match="no state dict"):
        inspect_weights(tmp_path / "a.pth")


def test_no_tensors_is_no_state_dict(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="holds no state dict"):
        inspect_weights(save(tmp_path / "a.pth", {"epoch": 3}))


def test_shapes_come_without_values_and_out_of_a_wrapper(tmp_path: Path) -> None:
    assert inspect_weights(save(tmp_path / "a.pth", {"epoch": 3, "state_dict": STATE})) == {"conv.weight": (2, 3)}
    assert inspect_weights(save(tmp_path / "a.safetensors")) == {"conv.weight": (2, 3)}


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="there is no such file"):
        resolve_weights(BACKBONE, str(tmp_path / "none.pth"), weights_dir=None, bundled=False)
    with pytest.raises(ProjectError, match="Did you mean 'pretrained'"):
        resolve_weights(BACKBONE, "pretraind", weights_dir=None, bundled=False)


def test_an_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(ProjectError, match="Did you mean 'resnet18'"):
        resolve_weights("resnet18x", "pretrained", weights_dir=None, bundled=False)
    with pytest.raises(ProjectError, match="Did you mean 'resnet18'"):
        source_of("torchvision/resnet18x")


def test_fetch_copies_whole_files_and_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = save(tmp_path / "downloaded.safetensors")
    monkeypatch.setattr("src.weights._find", lambda backbone, folder: ("hub", path, "a test"))
    target = fetch("torchvision/vgg11", tmp_path / "weights")
    assert target.name == "torchvision_vgg11.safetensors" and target.read_bytes() == path.read_bytes()
    assert find_in_folder(tmp_path / "weights", "torchvision/vgg11") == target
    assert main(["list", "--in", str(tmp_path / "weights")]) == 0
    assert "torchvision_vgg11.safetensors" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "weights").iterdir()] == [target.name]


def test_fetch_without_a_network_exits_with_one_message(
    tmp_path: Path, refusing: None, capsys: pytest.CaptureFixture
) -> None:
    assert main(["fetch", BACKBONE, "--to", str(tmp_path / "weights")]) == 1
    assert "no pretrained weights" in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()


def test_early_refusal_needs_no_torch_and_little_time(tmp_path) -> None:
    """On a machine with empty caches and no network the whole answer comes before the long imports."""
    import os
    import subprocess
    import sys

    code = (
        "import sys, time; from pathlib import Path\n"
        "from src.weights import WeightsNotFound, refuse_early\n"
        "start = time.monotonic()\n"
        "try:\n    refuse_early('resnet18', 'auto', weights_dir=Path('weights'))\n"
        "except WeightsNotFound as error:\n"
        "    assert 'model.weights=builtin' in str(error) and 'src.weights fetch resnet18' in str(error)\n"
        "    print('refused', 'torch' in sys.modules, time.monotonic() - start < 5)\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "TORCH_HOME": str(tmp_path / "torch")}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["refused", "False", "True"], done.stderr


def test_early_refusal_leaves_what_needs_a_closer_look(tmp_path, monkeypatch) -> None:
    from src import weights

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (tmp_path / "resnet18.pth").write_bytes(b"x")
    weights.refuse_early("resnet18", "auto", weights_dir=tmp_path)
    weights.refuse_early("resnet18", "random", weights_dir=None)
    weights.refuse_early("filter_bank", "auto", weights_dir=None)
