"""Bundled sample competitions: made at first use, whole or not at all.

python -m src.data.sample            make those that are missing, and say where they are
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from src.errors import ProjectError, nearest

if TYPE_CHECKING:
    from src.competition import Competition

STAMP = ".version"
JPEG_QUALITY = 95


def ensure_sample(competition: "Competition") -> None:
    """Make a bundled competition's files where they are missing or of an older recipe.

    Raises:
        ProjectError: there is no recipe of that name, or its folder cannot be written.
    """
    if not competition.bundled or _version_of(competition.root) == recipe_version(competition.name):
        return
    print(f"sample    making the bundled competition {competition.name} (once, some seconds)", flush=True)
    make_sample(competition.name, competition.root)


def make_sample(name: str, root: Path) -> Path:
    """Make a sample competition in a folder of its own beside `root`, then rename it to `root`.

    A killed run leaves a folder of another name that nothing reads; of two processes one makes it, the other waits.
    An older sample there is replaced; a folder that is no sample is never touched.

    Raises:
        ProjectError: an unknown name, a `root` that holds something else, or a folder that cannot be written.
    """
    version = recipe_version(name)
    root = Path(root)
    if root.exists() and any(root.iterdir()) and not (root / STAMP).is_file():
        raise ProjectError(
            f"{root} exists and is no bundled sample (no {STAMP} in it), so it is left as it is. "
            "Move it away, or choose another folder: competition.root=…"
        )
    building = root.with_name(f".{root.name}.building")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f".{root.name}.lock")):
            if _version_of(root) == version:
                return root
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            RECIPES[name](building)
            (building / STAMP).write_text(version, encoding="utf-8")
            if root.exists():
                shutil.rmtree(root)
            building.rename(root)
    except OSError as error:
        raise ProjectError(f"could not make the sample in {root}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return root


def _version_of(root: Path) -> str | None:
    stamp = root / STAMP
    return stamp.read_text(encoding="utf-8") if stamp.is_file() else None


def recipe_version(name: str) -> str:
    """A hash of the recipe's own source: an edited recipe makes a new sample. Competitions of one recipe share it."""
    if name not in RECIPES:
        raise ProjectError(f"there is no bundled sample {name!r}.{nearest(name, RECIPES)} Known: {', '.join(RECIPES)}.")
    sources = [Path(__file__), *(Path(__file__).with_name(f"{module}.py") for module in SOURCES[name])]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _make_anomaly(folder: Path) -> None:
    """train.csv (id, file, label, group, mask, kind), test.csv, sample_submission.csv, solution.csv and pictures."""
    import cv2
    import pandas as pd

    from src.data import sample_anomaly as recipe

    textures = recipe.load_textures()
    rows = recipe.plan()
    for name in ("train", "test", "masks"):
        (folder / name).mkdir()

    def draw(row: "recipe.Row") -> None:
        picture = recipe.make_picture(row, textures)
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        encoded = cv2.imencode(".jpg", picture.image[..., ::-1], quality)[1]
        (folder / row.split / f"{row.id}.jpg").write_bytes(encoded.tobytes())
        if row.kind != "normal":
            mask = cv2.imencode(".png", picture.mask.astype("uint8") * 255)[1]
            (folder / "masks" / f"{row.id}.png").write_bytes(mask.tobytes())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(draw, rows))

    table = pd.DataFrame(
        {
            "id": row.id,
            "file": f"{row.split}/{row.id}.jpg",
            "label": "normal" if row.kind == "normal" else "defect",
            "group": row.group,
            "mask": "" if row.kind == "normal" else f"masks/{row.id}.png",
            "kind": row.kind,
            "split": row.split,
        }
        for row in rows
    )
    train, test = (table[table["split"] == split].drop(columns="split") for split in ("train", "test"))
    train.to_csv(folder / "train.csv", index=False)
    test[["id", "file"]].to_csv(folder / "test.csv", index=False)
    test[["id", "label", "mask", "kind"]].to_csv(folder / "solution.csv", index=False)
    test[["id"]].assign(score=0.5).to_csv(folder / "sample_submission.csv", index=False)


def _make_detection(folder: Path) -> None:
    """Pictures with objects, their boxes and their counts: one folder for two competitions."""
    from src.data import sample_detection as recipe

    recipe.write(folder)


def _make_caption(folder: Path) -> None:
    """Pictures of few objects, and five sentences about each."""
    from src.data import sample_caption as recipe

    recipe.write(folder)


def _make_defect_classes(folder: Path) -> None:
    """Small pictures of textures, each with the name of its class."""
    from src.data import sample_defect_classes as recipe

    recipe.write(folder)


RECIPES: dict[str, Callable[[Path], None]] = {
    "sample_anomaly": _make_anomaly,
    "sample_defect_classes": _make_defect_classes,
    "sample_detection": _make_detection,
    "sample_counting": _make_detection,
    "sample_caption": _make_caption,
}
_DETECTION = ("draws", "sample_canvas", "sample_objects", "sample_detection")
SOURCES = {  # the modules beside this one that a recipe is made of
    "sample_anomaly": ("draws", "sample_anomaly"),
    "sample_defect_classes": ("draws", "sample_anomaly", "sample_defect_classes"),
    "sample_detection": _DETECTION,
    "sample_counting": _DETECTION,
    "sample_caption": (*_DETECTION, "sample_sentences", "sample_caption"),
}


def main() -> int:
    """Make every bundled sample; returns the exit status."""
    from src.competition import read_competition

    for name in RECIPES:
        competition = read_competition(name)
        try:
            ensure_sample(competition)
        except ProjectError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"{name}: {competition.root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
