"""While an anomalib module is built: its pretrained networks take our files, its downloads fail fast."""

import contextlib
import functools
import logging
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.features import LoadReport, read_state_dict
from src.weight_sources import Probe, hub_endpoint
from src.weights import inspect_weights

Find = Callable[[str], str | None]


@contextlib.contextmanager
def patched(place: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute inside the block, and put the old one back after it."""
    old = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, old)


@contextlib.contextmanager
def weights_from(find: Find, backbone_args: dict[str, Any]) -> Iterator[list[LoadReport]]:
    """Give networks that are built inside the block the state-dict files that `find` names.

    `timm.create_model(name, pretrained=True)` loads find(name); torchvision's pretrained models load
    find("torchvision/<name>"). None leaves random values. Nothing is downloaded. `backbone_args` reach every
    timm call. A timm model that is not asked for features only is built without its classifier, which no anomaly
    model reads, so that files with any number of classes fit. Yields the list into which load reports are put.

    Raises (inside the block):
        ProjectError: a file that does not fit, with what was missing or of another shape.
    """
    reports: list[LoadReport] = []
    create = timm.create_model

    def create_model(model_name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
        kwargs = {**kwargs, **backbone_args}
        if not kwargs.get("features_only"):
            kwargs.setdefault("num_classes", 0)
        path = find(model_name) if pretrained else None
        try:
            if path is None:
                return create(model_name, pretrained=False, **kwargs)
            return _create_filled(create, model_name, Path(path), kwargs, reports)
        except TypeError as error:
            raise ProjectError(f"timm's {model_name} refuses backbone_args={backbone_args}: {error}.") from error

    def get_state_dict(weights: Any, *_: Any, **__: Any) -> dict[str, Tensor]:
        return _torchvision_state(type(weights), find, reports)

    with (
        patched(timm, "create_model", create_model),
        patched(torchvision.models.WeightsEnum, "get_state_dict", get_state_dict),
    ):
        yield reports


def _create_filled(
    create: Callable[..., nn.Module],
    backbone: str,
    path: Path,
    kwargs: dict[str, Any],
    reports: list[LoadReport],
) -> nn.Module:
    """timm's own loader (its renaming, its position embeddings) on our file, then its answer checked by us."""
    total = len(inspect_weights(path))
    results: list[Any] = []
    load = nn.Module.load_state_dict

    def remember(module: nn.Module, *args: Any, **options: Any) -> Any:
        results.append(load(module, *args, **options))
        return results[-1]

    # A class count that fits no model makes timm drop the file's classifier instead of refusing the file.
    overlay = {"file": str(path), "custom_load": False, "num_classes": -1}
    quiet = patched(logging.getLogger("timm.models._builder"), "disabled", True)  # what is missing is said below
    with patched(nn.Module, "load_state_dict", remember), quiet:
        try:
            model = create(backbone, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs)
        except RuntimeError as error:
            raise _misfit(path, backbone, str(error)) from error
    cfg = timm.get_pretrained_cfg(backbone)
    heads = cfg.classifier if cfg is not None and cfg.classifier else ()
    heads = tuple(f"{name}." for name in ((heads,) if isinstance(heads, str) else heads))
    missing = [k for k in results[-1].missing_keys if not k.startswith(heads) and not k.endswith("_tracked")]
    unexpected = tuple(results[-1].unexpected_keys)
    if missing:
        more = f" and {len(unexpected)} that it does not know ({_some(unexpected)})" if unexpected else ""
        raise _misfit(path, backbone, f"{len(missing)} tensors are missing ({_some(missing)}){more}")
    reports.append(LoadReport(path=str(path), loaded=total - len(unexpected), unexpected=unexpected))
    return model


def _misfit(path: Path, backbone: str, reason: str) -> ProjectError:
    return ProjectError(
        f"weights {path} do not fit {backbone}: {' '.join(reason.split())[:400]}. Most likely the file belongs to "
        "another backbone or to other backbone_args."
    )


def _some(names: Any, limit: int = 4) -> str:
    return ", ".join(list(names)[:limit]) + (", …" if len(names) > limit else "")


def _torchvision_state(kind: type, find: Find, reports: list[LoadReport]) -> dict[str, Tensor]:
    names = torchvision.models.list_models(module=torchvision.models)
    name = next(name for name in names if torchvision.models.get_model_weights(name) is kind)
    state = torchvision.models.get_model(name, weights=None).state_dict()
    path = find(f"torchvision/{name}")
    if path is None:
        return state
    given = read_state_dict(Path(path))
    check_state(given, state, Path(path), f"torchvision's {name}")
    unexpected = tuple(key for key in given if key not in state)
    reports.append(LoadReport(path=path, loaded=len(given) - len(unexpected), unexpected=unexpected))
    return {key: given.get(key, value) for key, value in state.items()}


def check_state(given: dict[str, Tensor], wanted: dict[str, Tensor], path: Path, what: str) -> None:
    """Raise a ProjectError unless `given` has every tensor of `wanted`, in its shape."""
    missing = [k for k in wanted if k not in given and not k.endswith("_tracked")]
    shapes = [k for k in wanted if k in given and given[k].shape != wanted[k].shape]
    if missing or shapes:
        texts = [f"{len(missing)} tensors are missing ({_some(missing)})"] if missing else []
        texts += [f"{len(shapes)} have another shape ({_some(shapes)})"] if shapes else []
        raise _misfit(path, what, "; ".join(texts))


@contextlib.contextmanager
def fast_downloads(module_class: type, remedy: str, *, uses_hub: bool, skip: bool = False) -> Iterator[None]:
    """Inside the block, downloads of anomalib's own code fail within seconds when their server does not answer.

    With `skip` (a model rebuilt from its checkpoint) data sets are not fetched at all. A folder that a failed
    download leaves behind is removed: their code would take it for the data.

    Raises (inside the block):
        ProjectError: what was to be downloaded, and `remedy`, what to give instead.
    """

    def demand(url: str) -> None:
        server = "/".join(url.split("/")[:3])
        if not Probe().answering([server]):
            name = module_class.__name__
            raise ProjectError(f"anomalib's {name} wants {url}, and {server} does not answer. {remedy}")

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def urlopen(url: Any, *args: Any, **kwargs: Any) -> Any:
            address = url if isinstance(url, str) else url.full_url
            if address.startswith("http"):
                demand(address)
            return original(url, *args, **kwargs)

        return urlopen

    def download_and_extract(root: Path, info: Any) -> None:
        if skip:
            return
        demand(info.url)
        existed = Path(root).exists()
        try:
            fetch_archive(root, info)
        except BaseException:
            if not existed:
                shutil.rmtree(root, ignore_errors=True)
            raise

    with contextlib.ExitStack() as stack:
        opener = guarded(urllib.request.urlopen)
        for place in (urllib.request, torch.hub):
            stack.enter_context(patched(place, "urlopen", opener))
        module = sys.modules[module_class.__module__]
        if (fetch_archive := getattr(module, "download_and_extract", None)) is not None:
            stack.enter_context(patched(module, "download_and_extract", download_and_extract))
        if uses_hub:
            stack.enter_context(_cached_hub_only(module_class, remedy))
        yield


@contextlib.contextmanager
def _cached_hub_only(module_class: type, remedy: str) -> Iterator[None]:
    """Where the hub does not answer, its client reads the cache at once instead of retrying for 50 seconds."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if Probe().answering([hub_endpoint()]):
        yield
        return
    with patched(constants, "HF_HUB_OFFLINE", True):
        try:
            yield
        except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
            reason = str(error.__cause__ or error).split(": offline mode")[0]
            raise ProjectError(f"anomalib's {module_class.__name__}: {reason}. {remedy}") from error
