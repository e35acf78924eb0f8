"""Networks from plain options: the class that a model YAML names, its options, its construction."""

import inspect
from importlib import import_module
from typing import Any

from torch import nn

from src.errors import ProjectError, nearest


def network_class(target: str) -> type[nn.Module]:
    """The class that a model YAML names under `_target_`; only this project's own models may be named.

    Raises:
        ProjectError: the path is outside `src.models`, or there is no such module or class.
    """
    module_name, _, class_name = target.rpartition(".")
    if not module_name.startswith("src.models."):
        raise ProjectError(f"model._target_={target!r} is not below src.models. Name one of this project's networks.")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not error.name.startswith("src"):
            raise  # a missing library, not a misspelt target
        raise ProjectError(f"model._target_={target!r}: there is no module {module_name}.") from error
    classes = {name: c for name, c in vars(module).items() if inspect.isclass(c) and issubclass(c, nn.Module)}
    if class_name not in classes:
        raise ProjectError(f"model._target_={target!r}: no class {class_name} there.{nearest(class_name, classes)}")
    return classes[class_name]


def network_options(target: str) -> set[str]:
    """Names of the keyword arguments that a network's constructor takes."""
    return set(inspect.signature(network_class(target).__init__).parameters) - {"self"}


def build_network(options: dict[str, Any], *, initial: dict[str, Any] | None = None) -> nn.Module:
    """Construct a network from its plain options (`_target_` and keyword arguments).

    `initial` is what only the first construction gets and no checkpoint keeps, such as `weights`, the backbone's
    state-dict file. Without it weights are random, which loading a checkpoint then replaces.

    Raises:
        ProjectError: an option that the class does not take, or one that it needs is missing.
    """
    options = dict(options)
    target = options.pop("_target_")
    accepted = network_options(target)
    for name in options:
        if name not in accepted:
            raise ProjectError(f"model.{name}: {target} takes no such option.{nearest(name, accepted)}")
    return network_class(target)(**options, **(initial or {}))
