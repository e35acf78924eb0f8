"""Who may import whom, read from the source: the direction that keeps parts apart."""

import ast
import functools
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = sorted(REPOSITORY.glob("src/**/*.py")) + sorted(REPOSITORY.glob("*.py"))

# part of the tree -> what nothing in it may import, at the top or inside a function
FORBIDDEN = {
    "src/models/": ("lightning", "pytorch_lightning", "hydra", "omegaconf", "src.data", "src.tasks", "src.training"),
    "src/metrics/": ("lightning", "torch", "src.models", "src.tasks", "src.data"),
    "src/boxes/": ("lightning", "torch", "src.models", "src.tasks", "src.data"),
    "src/calibration/": ("lightning", "torch", "src.models", "src.tasks", "src.data"),
    "src/captions/": ("lightning", "torch", "transformers", "src.data", "src.models", "src.tasks"),
    "src/lexicon/": ("lightning", "src.models", "src.tasks", "src.data"),
    "src/annotations/": ("lightning", "torch", "src.data", "src.models", "src.tasks"),
    "src/submission/": ("lightning", "torch", "src.models", "src.tasks"),
    "src/ensemble.py": ("lightning", "torch", "src.models", "src.tasks"),
    "src/predictions.py": ("lightning", "torch", "src.models", "src.tasks"),
    "src/competition.py": ("lightning", "torch", "src.data", "src.models", "src.tasks"),
    "src/manifest.py": ("lightning", "torch", "src.data", "src.models", "src.tasks"),
    "src/data/": ("src.models", "src.tasks", "src.training"),
    "src/tasks/": ("src.training", "src.report", "src.submission"),
}
ONLY_IN = {
    "hydra": {"src/cli.py"},
    "omegaconf": {"src/cli.py"},
    "wandb": {"src/loggers.py"},
    "albumentations": {"src/data/transform_config.py", "src/data/box_transforms.py"},
    "anomalib": {"src/tasks/", "src/models/anomaly/", "src/weight_sources.py"},
    "diffusers": {"src/models/anomaly/"},
    "kiwipiepy": {"src/captions/"},
    "peft": {"src/models/caption/"},
    "pytorch_lightning": set(),
    "pytorch_metric_learning": {"src/models/anomaly/"},
}


@functools.cache
def imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere."""
    names: set[str] = set()
    source = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(source)
    except SystemError:  # Python 3.11 shares the parser's depth between threads (python/cpython#106905): once more
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("part", FORBIDDEN)
def test_direction_of_imports(part: str) -> None:
    files = [p for p in SOURCES if str(p.relative_to(REPOSITORY)).startswith(part)]
    assert files, f"{part} has no files: the rule checks nothing"
    wrong = [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in files
        for name in imported(path)
        for package in FORBIDDEN[part]
        if within(name, package)
    ]
    assert not wrong


@pytest.mark.parametrize("package", ONLY_IN)
def test_packages_that_stay_in_one_place(package: str) -> None:
    users = {str(p.relative_to(REPOSITORY)) for p in SOURCES if any(within(n, package) for n in imported(p))}
    assert all(any(user.startswith(place) for place in ONLY_IN[package]) for user in users), users


def test_rules_see_imports_inside_functions(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from lightning.pytorch import Trainer\n    import hydra.core\n")
    names = imported(path)
    assert any(within(n, "lightning") for n in names) and any(within(n, "hydra") for n in names)


def test_no_module_says_nothing() -> None:
    vague = {"utils", "helpers", "common", "misc"}
    assert not [p for p in SOURCES if p.stem in vague or any(part in vague for part in p.parts)]


def test_every_module_says_what_lives_there() -> None:
    missing = [str(p.relative_to(REPOSITORY)) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text()))]
    assert not missing


def test_both_lightning_names_are_required_and_one_is_imported() -> None:
    required = (REPOSITORY / "requirements.txt").read_text()
    assert "\nlightning" in required and "\npytorch-lightning" in required
    assert any(within(n, "lightning") for p in SOURCES for n in imported(p))
