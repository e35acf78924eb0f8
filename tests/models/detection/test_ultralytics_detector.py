"""Ultralytics as an optional extra: the hint when it is absent, its isolation, weights, losses, answers."""

import os
import sys
from pathlib import Path

import pytest
import torch

from src.errors import ProjectError
from src.hub_models import prepare_network
from src.models.detection.ultralytics_detector import UltralyticsDetector
from src.weights import WeightsNotFound
from tests.conftest import run_command


@pytest.fixture
def absent(monkeypatch) -> None:
    """This process as it is where nobody installed ultralytics."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "ultralytics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Nobody(), *sys.meta_path])


class _Nobody:
    """A finder that says of ultralytics that it is not there."""

    def find_spec(self, name: str, path=None, target=None) -> None:
        if name.partition(".")[0] == "ultralytics":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_where_it_is_absent_the_hint_says_command_licence_and_another_way(absent) -> None:
    with pytest.raises(ProjectError) as caught:
        UltralyticsDetector(num_classes=2, image_size=(64, 64))
    message = str(caught.value)
    assert "pip install ultralytics" in message and "AGPL-3.0" in message and "model=compact" in message


def test_no_requirement_names_it() -> None:
    root = Path(__file__).resolve().parents[3]
    for path in root.glob("requirements*.txt"):
        assert "ultralytics" not in path.read_text(encoding="utf-8"), path
    assert "ultralytics" not in (root / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installed() -> None:
    pytest.importorskip("ultralytics", reason="ultralytics, an optional extra, is not installed")


def build(architecture: str = "yolov8n", *, weights: str = "random", folder: Path | None = None, **more):
    options = {"architecture": architecture, "trust_pickle": False, "score_floor": 0.01, **more}
    prepared = prepare_network(
        UltralyticsDetector, options, weights=weights, weights_dir=folder, bundled=False, class_names=["가", "나", "다"]
    )
    torch.manual_seed(0)
    return UltralyticsDetector(num_classes=3, image_size=(64, 64), **prepared.options, **prepared.initial)


def other_classes(architecture: str = "yolov8n") -> torch.nn.Module:
    """The package's own network of 80 classes."""
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(9)
    return DetectionModel(f"{architecture}.yaml", ch=3, nc=80, verbose=False)


def test_import_leaves_process_and_home_as_they_were(installed, tmp_path: Path) -> None:
    """In a process of its own: nothing in the home folder, no synchronisation, torch.save and threads untouched."""
    code = """
import os, torch, cv2
cv2.setNumThreads(1)
before = (torch.save, dict(os.environ), cv2.getNumThreads())
from src.models.detection.ultralytics_detector import UltralyticsDetector
UltralyticsDetector(num_classes=2, image_size=(64, 64))
from ultralytics.utils import ONLINE, SETTINGS, SETTINGS_FILE
assert not ONLINE and not SETTINGS["sync"]
assert (torch.save, dict(os.environ), cv2.getNumThreads()) == before
print(SETTINGS_FILE)
"""
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    old = {key: os.environ.get(key) for key in (*home, "YOLO_CONFIG_DIR")}
    os.environ.update(home)
    os.environ.pop("YOLO_CONFIG_DIR", None)
    try:
        done = run_command("-c", code)
    finally:
        for key, value in old.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
    assert done.returncode == 0, done.stderr
    settings = Path(done.stdout.strip().splitlines()[-1])
    assert not settings.exists() and tmp_path not in settings.parents
    assert not [path for path in tmp_path.rglob("*") if "ltralytics" in path.name]


@pytest.mark.parametrize("architecture", ["yolov8n", "yolo26n"])
def test_learns_where_and_what(architecture: str, installed) -> None:
    """On an odd canvas: classes from 0, boxes in canvas pixels, by suppression and by the head that needs none."""
    from torchvision.ops import box_iou

    net = build(architecture).train()
    generator = torch.Generator().manual_seed(2)
    images, targets = 0.2 * torch.rand(3, 3, 70, 90, generator=generator), []
    for label, (x, y) in enumerate([(5, 8), (40, 30), (50, 4)]):
        images[label, label, y : y + 30, x : x + 30] = 1.0
        targets.append({"boxes": torch.tensor([[x, y, x + 30.0, y + 30.0]]), "labels": torch.tensor([label]),
                        "has_boxes": True})  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameter_groups(lr=2e-3, weight_decay=1e-4))
    values = []
    for _ in range(30):
        loss = net.loss(images, targets)["loss_detection"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.6 * values[0]
    for module in net.modules():  # so few steps leave the running statistics behind the weights
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        net.model(net._padded(images))
    net.eval()
    for nms_free in {False, architecture == "yolo26n"}:
        net.model.end2end = nms_free
        for one, target in zip(net.detect(images), targets, strict=True):
            assert int(one["labels"][0]) == int(target["labels"][0]), nms_free
            assert float(box_iou(one["boxes"][:1], target["boxes"])) > 0.5, nms_free


def test_loss_is_the_packages_own_on_a_batch(installed) -> None:
    """The same number as ultralytics' `model.loss` gives for the batch that its own data layer would make."""
    net = build().train()
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    target = {"boxes": torch.tensor([[8.0, 4, 56, 36], [60, 20, 90, 60]]), "labels": torch.tensor([2, 0])}
    mine = net.loss(images, [{**target, "has_boxes": True}] * 2)["loss_detection"]
    shares = torch.tensor([[32 / 96, 20 / 64, 48 / 96, 32 / 64], [75 / 96, 40 / 64, 30 / 96, 40 / 64]])
    batch = {"img": images, "cls": torch.tensor([[2.0], [0], [2], [0]]), "bboxes": shares.repeat(2, 1),
             "batch_idx": torch.tensor([0.0, 0, 1, 1])}  # fmt: skip
    theirs, _ = net.model.loss(batch)
    torch.testing.assert_close(mine * 2, theirs.sum())


def test_plain_state_dict_of_other_classes(installed, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    source = other_classes()
    path = tmp_path / "yolov8n.safetensors"
    save_file({name: value.contiguous() for name, value in source.state_dict().items()}, path)
    net = build(weights="pretrained", folder=tmp_path, backbone_lr=0.1)
    own, theirs = net.model.state_dict(), source.state_dict()
    assert torch.equal(own["model.0.conv.weight"], theirs["model.0.conv.weight"])
    assert torch.equal(own["model.22.cv2.0.2.weight"], theirs["model.22.cv2.0.2.weight"])
    assert net.report.mismatched and all(name.startswith("model.22.cv3.") for name in net.report.mismatched)
    assert net.report.loaded > 300 and not net.report.missing and not net.report.unexpected
    assert {group["lr"] for group in net.parameter_groups(1.0, 0.1)} == {1.0, 0.1}
    with pytest.raises(ProjectError, match="model.architecture"):
        build("yolo11n", weights=str(path))


def test_a_pickle_runs_only_where_it_is_trusted(installed, tmp_path: Path) -> None:
    """A .pt as ultralytics writes it holds its classes; and a .pt could hold anything."""
    path = tmp_path / "yolov8n.pt"
    source = other_classes()
    torch.save({"model": source.half(), "ema": None, "epoch": -1}, path)
    with pytest.raises(ProjectError, match="model.trust_pickle=true"):
        build(weights=str(path))
    with pytest.raises(ProjectError, match="model.trust_pickle=true"):
        build(weights="auto", folder=tmp_path)
    net = build(weights=str(path), trust_pickle=True)
    expected = source.float().state_dict()["model.0.conv.weight"]
    assert torch.equal(net.model.state_dict()["model.0.conv.weight"], expected)

    trap = tmp_path / "trap.pt"
    torch.save({"model": _Trap(tmp_path / "sprung")}, trap)
    with pytest.raises(ProjectError, match="trust_pickle"):
        build(weights=str(trap))
    assert not (tmp_path / "sprung").exists()


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match="trust_pickle=true"):
        build(weights="pretrained", folder=tmp_path)
    said: list[str] = []
    options = {"architecture": "yolov8n", "trust_pickle": False}
    prepared = prepare_network(
        UltralyticsDetector, options, weights="auto", weights_dir=tmp_path, bundled=True, class_names=[],
        warn=said.append,
    )  # fmt: skip
    assert prepared.resolved["weights"].kind == "random" and "from scratch" in said[0]
    with pytest.raises(ProjectError, match="no such file"):
        build(weights=str(tmp_path / "missing.pt"))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [("yolov8z", "Did you mean 'yolov8"), ("yolov8n-seg", "no detector"), ("rtdetr-l", "no detector")],
)
def test_unknown_architectures(architecture: str, message: str, installed) -> None:
    with pytest.raises(ProjectError, match=message):
        build(architecture)


@pytest.mark.parametrize("architecture", ["yolov5n", "yolov8n-p2", "yolov9t", "yolov10n", "yolo11n", "yolo12n"])
def test_successors_are_built(architecture: str, installed) -> None:
    net = build(architecture).eval()
    assert len(net.detect(torch.rand(1, 3, 64, 64))) == 1


def test_a_head_that_is_not_there(installed) -> None:
    with pytest.raises(ProjectError, match="nms_free"):
        build("yolov8n", nms_free=True)


def test_pictures_are_in_the_unit_range() -> None:
    assert UltralyticsDetector.normalization({}) == {"mean": (0.0,) * 3, "std": (1.0,) * 3}
