"""Where pretrained weights are published and cached: sources, probes of the network, downloads."""

import http.client
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from src.atomic import atomic_path
from src.errors import ProjectError, nearest

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
PROBE_SECONDS = 3.0  # the hub client itself retries for about 50 seconds when nothing answers
EXTRAS = ("efficient_ad_teacher_small", "efficient_ad_teacher_medium", "dsr_vq_model")


@dataclass(frozen=True)
class Source:
    """Where the weights of a name are published: a hub repository, an address, or a file in an archive."""

    name: str
    hub: str | None = None
    hub_files: tuple[str, ...] = HUB_FILES
    url: str | None = None
    url_sha256: str | None = None
    member: str | None = None
    cached: Path | None = None

    @property
    def remotes(self) -> list[str]:
        """The servers to ask, preferred first, as scheme://host."""
        return [_server(url) for url in (hub_endpoint() if self.hub else None, self.url) if url]

    def __str__(self) -> str:
        return self.hub or self.url or self.name


def source_of(backbone: str) -> Source:
    """Where a backbone's weights are published.

    Names: any timm model (with or without tag), `hf-hub:<repository>`, `torchvision/<name>`, and what
    anomalib's own models need: `efficient_ad_teacher_small`, `efficient_ad_teacher_medium`, `dsr_vq_model`.

    Raises:
        ProjectError: the name is unknown (with the nearest known one), or nothing was ever published for it.
    """
    if backbone.startswith("hf-hub:"):
        return Source(backbone, hub=backbone.removeprefix("hf-hub:"))
    if backbone in EXTRAS:
        return _anomalib_source(backbone)
    if backbone.startswith("torchvision/"):
        return _torchvision_source(backbone)
    import timm

    if not timm.is_model(backbone):
        known = timm.list_models(pretrained=True) if "." in backbone else timm.list_models()
        raise ProjectError(
            f"unknown backbone {backbone!r}: no model of timm {timm.__version__}.{nearest(backbone, known)}"
        )
    cfg = timm.get_pretrained_cfg(backbone)
    if cfg is None or not (cfg.hf_hub_id or cfg.url):
        raise ProjectError(
            f"nobody published weights for {backbone}. Take another one, or model.weights=random or a path."
        )
    files = (cfg.hf_hub_filename,) if cfg.hf_hub_filename else HUB_FILES
    return Source(backbone, hub=cfg.hf_hub_id or None, hub_files=files, url=cfg.url or None)


def _torchvision_source(backbone: str) -> Source:
    import torchvision

    name, known = backbone.removeprefix("torchvision/"), torchvision.models.list_models()
    if name not in known:
        raise ProjectError(f"torchvision has no model {name!r}.{nearest(name, known)}")
    return Source(backbone, url=torchvision.models.get_model_weights(name).DEFAULT.url)


def _anomalib_source(name: str) -> Source:
    from anomalib.models.image.dsr import lightning_model as dsr
    from anomalib.models.image.efficient_ad import lightning_model as efficient_ad
    from anomalib.utils.path import get_pretrained_weights_dir

    if name == "dsr_vq_model":
        info, folder, member = dsr.WEIGHTS_DOWNLOAD_INFO, "dsr", "vq_model_pretrained_128_4096.pckl"
    else:
        info, folder = efficient_ad.WEIGHTS_DOWNLOAD_INFO, "efficientad_pretrained_weights"
        member = f"pretrained_teacher_{name.rsplit('_', 1)[-1]}.pth"
    cached = get_pretrained_weights_dir() / folder / member
    return Source(name, url=info.url, url_sha256=info.hashsum, member=member, cached=cached)


def find_in_cache(source: Source) -> Path | None:
    """The file in the cache of the hub (HF_HOME), of torch (TORCH_HOME) or of anomalib, else None."""
    if source.cached is not None:
        return source.cached if source.cached.is_file() else None
    if source.hub:
        from huggingface_hub import try_to_load_from_cache

        repository, _, revision = source.hub.partition("@")
        for name in source.hub_files:
            found = try_to_load_from_cache(repository, name, revision=revision or None)
            if isinstance(found, str):
                return Path(found)
    path = torch_checkpoints() / Path(urlparse(source.url).path).name if source.url else None
    return path if path is not None and path.is_file() else None


def torch_checkpoints() -> Path:
    """The folder into which torch.hub and torchvision download."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def hub_endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def hub_is_offline() -> bool:
    """Whether the user forbade the network by HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE)."""
    values = (os.environ.get("HF_HUB_OFFLINE"), os.environ.get("TRANSFORMERS_OFFLINE"))
    return any(str(value).upper() in {"1", "ON", "YES", "TRUE"} for value in values)


class Probe:
    """Asks servers at the same time whether they answer, and never waits longer than PROBE_SECONDS for it.

    Proxies of the environment are honoured. Daemon threads carry the questions, because name resolution
    knows no timeout. Asking early costs nothing: the answers arrive while a library is being imported.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._answers: dict[str, bool] = {}
        self._threads: dict[str, threading.Thread] = {}

    def ask(self, *urls: str) -> None:
        for url in {_server(url) for url in urls} - set(self._threads):
            if not hub_is_offline():
                self._threads[url] = threading.Thread(target=self._ask, args=(url,), daemon=True)
                self._threads[url].start()

    def _ask(self, url: str) -> None:
        self._answers[url] = _answers(url)

    def answering(self, urls: list[str]) -> list[str]:
        """Those of the servers (scheme://host) that answer, in the order given."""
        urls = [_server(url) for url in urls]
        self.ask(*urls)
        deadline = max(self._start + PROBE_SECONDS, time.monotonic() + PROBE_SECONDS / 2)
        for url in urls:
            if url in self._threads:
                self._threads[url].join(max(0.0, deadline - time.monotonic()))
        return [url for url in urls if self._answers.get(url)]


def _server(url: str) -> str:
    parts = urlparse(url)
    return f"{parts.scheme}://{parts.netloc}"


def _answers(url: str) -> bool:
    question = urllib.request.Request(f"{url}/", method="HEAD")
    try:
        urllib.request.build_opener().open(question, timeout=PROBE_SECONDS).close()
        return True
    except urllib.error.HTTPError as error:
        return error.code not in {407, 502, 503, 504}  # those four are a proxy's word, not the server's
    except urllib.error.URLError as error:
        # Where only the certificate is doubted, a server is there; clients bring certificates of their own.
        return isinstance(error.reason, ssl.SSLCertVerificationError)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def download(source: Source, answering: list[str]) -> Path:
    """Fetch into the local cache from the first server that answers; returns the file's path there.

    Raises:
        ProjectError: the download failed; the message says why.
    """
    try:
        if source.hub and _server(hub_endpoint()) in answering:
            return _download_from_hub(source)
        return _download_from_url(source)
    except (OSError, RuntimeError, ValueError) as error:  # what hub, httpx, urllib and zipfile raise
        first = (str(error).splitlines() or [""])[0]
        raise ProjectError(
            f"the download of {source.name} from {source} failed: {type(error).__name__}: {first}. "
            "Try again, or give the path of a file: model.weights=/path/to/file."
        ) from error


def _download_from_hub(source: Source) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = source.hub.partition("@")
    for name in source.hub_files:
        try:
            return Path(hf_hub_download(repository, name, revision=revision or None))
        except EntryNotFoundError:
            continue
    raise ProjectError(f"{source.hub} on the hub holds none of {', '.join(source.hub_files)}.")


def _download_from_url(source: Source) -> Path:
    import zipfile

    import torch

    target = torch_checkpoints() / Path(urlparse(source.url).path).name
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(source.url, str(target), hash_prefix=source.url_sha256)
    if source.member is None:
        return target
    with zipfile.ZipFile(target) as archive, atomic_path(source.cached) as temporary:
        member = next(name for name in archive.namelist() if Path(name).name == source.member)
        temporary.write_bytes(archive.read(member))
    target.unlink()
    return source.cached
