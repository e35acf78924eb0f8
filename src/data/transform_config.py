"""One entry of an augmentation config → a transform; a mistake in it is an error that names the entry."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from src.data.box_transforms import own_classes
from src.data.mirror import NAME as MIRROR
from src.data.mirror import MirrorWithWords
from src.data.mosaic import MIXING, Mixing
from src.errors import ProjectError, nearest

if TYPE_CHECKING:
    from src.data.transforms import PreprocessSpec


def load_library() -> Any:
    """The albumentations package, imported when first needed."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import asks the network for a newer version otherwise
    import albumentations

    return albumentations


def is_mixing_entry(entry: Any) -> bool:
    """Whether a config entry names a step that needs other pictures."""
    return isinstance(entry, Mapping) and entry.get("name") in MIXING


def is_own_stage(entry: Any) -> bool:
    """Whether a config entry names a step of this project: one that mixes pictures or knows captions."""
    return is_mixing_entry(entry) or (isinstance(entry, Mapping) and entry.get("name") == MIRROR)


def build_own_stage(entry: Mapping[str, Any], spec: PreprocessSpec, where: str) -> Mixing | MirrorWithWords:
    """Raises ProjectError: an unknown argument, or a value outside its range."""
    return build_mixing(entry, spec, where) if is_mixing_entry(entry) else _build_mirror(entry, where)


def transform_names(entries: Sequence[Any]) -> list[str]:
    """The names of all steps of a config, nested ones among them."""
    names: list[str] = []
    for entry in entries:
        if isinstance(entry, Mapping):
            names += [str(entry.get("name")), *transform_names(entry.get("transforms") or [])]
    return names


def _build_mirror(entry: Mapping[str, Any], where: str) -> MirrorWithWords:
    arguments = {key: value for key, value in entry.items() if key != "name"}
    where = f"{where} ({MIRROR})"
    _refuse_unknown(arguments, _argument_names(MirrorWithWords), where)
    try:
        return MirrorWithWords(**arguments)
    except ValueError as error:
        raise ProjectError(f"{where}: {error}") from error


def build_mixing(entry: Mapping[str, Any], spec: PreprocessSpec, where: str) -> Mixing:
    """Raises ProjectError: an unknown argument, or a value outside its range."""
    arguments = dict(entry)
    name = arguments.pop("name")
    where = f"{where} ({name})"
    known = [argument for argument in _argument_names(MIXING[name]) if argument not in ("size", "fill")]
    _refuse_unknown(arguments, known, where)
    try:
        return MIXING[name](size=(spec.height, spec.width), fill=spec.pad_value, **arguments)
    except (ValueError, TypeError) as error:
        raise ProjectError(f"{where}: {error}") from error


def build_transform(entry: Mapping[str, Any], spec: PreprocessSpec, library: Any, where: str) -> Any:
    """One Albumentations transform. Raises ProjectError: an unknown class, argument or value."""
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise ProjectError(f"{where}: expected {{name: <Albumentations class>, …}}, got {entry!r}")
    arguments = dict(entry)
    name = arguments.pop("name")
    classes = _classes(library)
    if name in MIXING:
        raise ProjectError(f"{where}: {name} mixes pictures: put it into the list itself, not into another entry.")
    if name == MIRROR:
        raise ProjectError(f"{where}: {name} changes captions: put it into the list itself, not into another entry.")
    if name == "Mosaic":
        raise ProjectError(f"{where}: Albumentations' Mosaic does not choose its pictures. Use Mosaic4.")
    if name not in classes:
        hint = nearest(name, [*classes, *MIXING, MIRROR])
        raise ProjectError(f"{where}: Albumentations has no transform '{name}'.{hint}")
    where = f"{where} ({name})"
    known = _argument_names(classes[name])
    _refuse_unknown(arguments, known, where)
    if name == "ScaleJitter":
        arguments.setdefault("fill", spec.pad_value)
    if "transforms" in known:
        inner = arguments.get("transforms") or []
        arguments["transforms"] = [
            build_transform(entry, spec, library, f"{where}, {i}") for i, entry in enumerate(inner, start=1)
        ]
    elif "size" in known and "size" not in arguments:
        arguments["size"] = (spec.height, spec.width)
    elif {"height", "width"} <= set(known) and not {"height", "width", "size"} & set(arguments):
        arguments |= {"height": spec.height, "width": spec.width}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Albumentations 2 only warns when it ignores what it was given
            return classes[name](**arguments)
    except (ValueError, TypeError, Warning) as error:
        raise ProjectError(f"{where}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """One line of a pydantic report, which else names schema classes and web pages."""
    details = getattr(error.__cause__, "errors", None)
    if details is None:
        return str(error)
    return "; ".join(f"{'.'.join(map(str, d['loc'][:1]))}: {d['msg']}, not {d['input']!r}" for d in details())


@lru_cache(maxsize=1)
def _classes(library: Any) -> dict[str, type]:
    bases = (library.BasicTransform, library.BaseCompose)
    found = {name: getattr(library, name) for name in dir(library)}
    theirs = {k: v for k, v in found.items() if isinstance(v, type) and issubclass(v, bases) and v not in bases}
    return theirs | own_classes(library)


def _refuse_unknown(arguments: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in arguments:
        if key not in known:
            hint = nearest(key, known)
            raise ProjectError(f"{where}: unknown argument '{key}'.{hint} It takes {', '.join(known)}.")


def _argument_names(transform: type) -> list[str]:
    import inspect

    parameters = inspect.signature(transform.__init__).parameters
    return [name for name in parameters if name not in ("self", "args", "kwargs")]
