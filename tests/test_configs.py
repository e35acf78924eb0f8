"""Every shipped configuration composes, and the classes that it names accept it."""

from pathlib import Path

import pytest
import yaml

from src.cli import CONF
from tests.compose import compose

MODELS = sorted(p.stem for p in (CONF / "model" / "anomaly").glob("*.yaml"))
DETECTORS = sorted(p.stem for p in (CONF / "model" / "detection").glob("*.yaml"))
CAPTIONERS = sorted(p.stem for p in (CONF / "model" / "caption").glob("*.yaml"))
COMPETITIONS = sorted(p.stem for p in (CONF / "competition").glob("*.yaml"))
AUGMENTS = sorted(p.stem for p in (CONF / "augment").glob("*.yaml"))
LOGGERS = sorted(p.stem for p in (CONF / "logger").glob("*.yaml"))


def first_lines(path: Path) -> str:
    return "".join(line for line in path.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))


@pytest.mark.parametrize("name", MODELS)
def test_model_fits_its_class(name: str) -> None:
    from src.tasks.create import check_model, image_size

    overrides = ["model.name=Stfpm"] if name == "anomalib" else []
    model = compose("train", "task=anomaly", f"model={name}", *overrides)["model"]
    check_model(model)
    assert image_size(model["image_size"])
    assert model.get("weights", "auto") == "auto"
    if "_target_" in model:
        from src.tasks.create import split_options
        from src.tasks.networks import network_options

        network, _, _ = split_options(model)
        accepted = network_options(model["_target_"])
        # every option of the class is in the YAML, so that a user finds it there; the rest follows from the data
        filled = {"weights", "image_size", "class_names", "normal_classes", "class_counts"}
        assert set(network) - {"_target_"} == accepted - filled
        assert ("weights" in model) == ("weights" in accepted)
        assert ("classes" in model) == ("class_names" in accepted)


@pytest.mark.parametrize(
    "name", [m for m in MODELS if "_target_" in yaml.safe_load((CONF / f"model/anomaly/{m}.yaml").read_text())]
)
def test_network_of_the_model_builds(name: str) -> None:
    """Constructed with a small backbone and random weights: the options have types that the class can use."""
    from src.class_set import ClassSet
    from src.tasks.create import create_task

    shipped = yaml.safe_load((CONF / f"model/anomaly/{name}.yaml").read_text())
    small = {"backbone": "resnet10t", "layers": "[layer1,layer2]", "weights": "random"}
    overrides = [f"model.{key}={value}" for key, value in small.items() if key in shipped]
    model = compose("train", "task=anomaly", f"model={name}", *overrides, "model.image_size=64")["model"]
    classes = ClassSet(("normal", "anomalous"), ("normal",), by_target=False) if "classes" in shipped else None
    task, weights = create_task(
        model, monitor="auroc", weights_dir=Path("weights"), bundled=False, classes=classes, class_counts=[9, 3]
    )
    assert weights.kind == "random" and task.preprocess.height == 64


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_fits_its_class(name: str) -> None:
    from src.tasks.create import check_model, image_size, split_options
    from src.tasks.networks import network_options

    model = compose("train", "task=detection", f"model={name}")["model"]
    check_model(model)
    assert image_size(model["image_size"]) and {"weights", "max_epochs", "ema", "gradient_clip"} <= set(model)
    network, preprocess, optimization = split_options(model)
    assert set(preprocess) == {"image_size", "resize", "interpolation", "mean", "std"}
    assert {"optimizer", "lr", "weight_decay", "schedule", "warmup"} <= set(optimization)
    given = {"weights", "image_size", "num_classes", "class_names"}  # what the project fills in
    own = network_options(model["_target_"]) - given - filled_in(model["_target_"])
    assert set(network) - {"_target_"} == own


@pytest.mark.parametrize("name", CAPTIONERS)
def test_captioner_fits_its_class(name: str) -> None:
    from src.tasks.create import check_model, image_size, split_options
    from src.tasks.networks import network_class, network_options

    model = compose("train", "task=caption", f"model={name}")["model"]
    check_model(model)
    assert image_size(model["image_size"]) and {"weights", "start_from"} <= set(model)
    network, preprocess, optimization = split_options(model)
    assert set(preprocess) == {"image_size", "resize", "interpolation", "mean", "std"}
    kind = network_class(model["_target_"])
    if kind.kind == "gradient" and not kind.zero_shot:
        assert {"optimizer", "lr", "weight_decay", "schedule", "warmup"} <= set(optimization)
        assert {"max_epochs", "ema", "gradient_clip"} <= set(model)
    given = {"weights", "image_size", "tokenizer_json"}  # what the project fills in
    own = network_options(model["_target_"]) - given - filled_in(model["_target_"])
    assert set(network) - {"_target_"} == own


def test_captioners_are_shipped() -> None:
    assert {"encoder_decoder", "blip", "blip2", "instructblip", "llava", "nearest", "template"} <= set(CAPTIONERS)


def filled_in(target: str) -> set[str]:
    """Constructor arguments of a network that only its `prepare` and its checkpoints fill."""
    from src.tasks.networks import network_class

    return set(getattr(network_class(target), "filled_in", ()))


@pytest.mark.parametrize(
    ("task", "name"),
    [*(("anomaly", m) for m in MODELS), *(("detection", m) for m in DETECTORS), *(("caption", m) for m in CAPTIONERS)],
)
def test_model_header_says_the_command(task: str, name: str) -> None:
    header = first_lines(CONF / "model" / task / f"{name}.yaml")
    default = yaml.safe_load((CONF / "task" / f"{task}.yaml").read_text())["defaults"][1]["/model"]
    assert f"model={name}" in header or default == f"{task}/{name}"


@pytest.mark.parametrize("name", COMPETITIONS)
def test_competition_is_read_whole(name: str, tmp_path) -> None:
    """A shipped spec is refused only for data that are not here, never for its own keys."""
    from src.competition import load_competition
    from src.errors import ProjectError

    config = compose("train", "task=anomaly", f"competition={name}")["competition"]
    source = CONF / "competition" / f"{name}.yaml"
    if name.startswith("sample_"):
        assert load_competition(config, source=source).bundled
        return
    with pytest.raises(ProjectError, match="root"):
        load_competition(config, source=source)


@pytest.mark.parametrize("name", AUGMENTS)
def test_augment_builds_and_keeps_the_size(name: str) -> None:
    import numpy as np

    from src.data.transforms import PreprocessSpec, build_augmentation

    spec = PreprocessSpec(64, 64, "squash", "bilinear", (0.5,) * 3, (0.5,) * 3)
    augment = build_augmentation(compose("train", "task=anomaly", f"augment={name}")["augment"], spec)
    if augment is None:
        assert name == "none"
        return
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    out = augment(key=1, image=image, mask=np.zeros((64, 64), np.uint8))
    assert out["image"].shape == (64, 64, 3) and out["image"].dtype == np.uint8 and out["mask"].shape == (64, 64)


@pytest.mark.parametrize("name", LOGGERS)
def test_logger_composes(name: str) -> None:
    logger = compose("train", "task=anomaly", f"logger={name}")["logger"]
    assert logger["wandb"]["enabled"] == (name in {"wandb", "all"})
    assert logger["tensorboard"]["enabled"] == (name in {"tensorboard", "all"})


@pytest.mark.parametrize(("config", "key"), [("infer", "run"), ("submit", "runs")])
def test_other_entry_points_compose(config: str, key: str) -> None:
    assert key in compose(config)


def test_every_key_of_the_main_configuration_is_read() -> None:
    """A key that no line of the source mentions is an option that does nothing."""
    sources = "".join(p.read_text(encoding="utf-8") for p in CONF.parent.glob("src/**/*.py"))
    for name in ("train", "infer", "submit"):
        keys = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
        keys.pop("defaults"), keys.pop("hydra")
        flat = [*keys, *(inner for value in keys.values() if isinstance(value, dict) for inner in value)]
        unread = [key for key in flat if f'"{key}"' not in sources]
        assert not unread, f"{name}.yaml: {unread}"


@pytest.mark.parametrize("path", sorted((CONF / "trainer").glob("*.yaml")))
def test_trainer_keys_are_read(path: Path) -> None:
    source = (CONF.parent / "src" / "fold_run.py").read_text(encoding="utf-8")
    unread = [key for key in yaml.safe_load(path.read_text(encoding="utf-8")) if f'settings["{key}"]' not in source]
    assert not unread
