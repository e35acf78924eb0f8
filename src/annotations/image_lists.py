"""The images of one split, from a folder or from a text file that lists them: what VOC and YOLO have in common."""

from src.competition import Competition
from src.errors import nearest
from src.layouts import stem_ids
from src.listing import Tree, nfc, relative_under
from src.rows import Rows, check_rows, listed
from src.tables import read_text

FLAGS = ("1", "0", "-1")  # of VOC's lists of one class: it is in the image, difficult, not in it


def read_images(spec: Competition, split: str) -> tuple[Rows, list[str]]:
    """The images and, for each, its path relative to the root.

    A list has a line an image: a name below `data.images` with or without suffix (and VOC's flag behind it), or a
    path, relative to the root or to the list. Of a path that leads elsewhere (an absolute one of another computer,
    Windows' too) the longest end that exists under the root is taken.

    Raises:
        ProjectError: an empty split, an image that is missing, listed twice or of the same id as another.
    """
    name = spec.data.train if split == "train" else spec.data.test
    tree = Tree(spec.root)
    if spec.data.listed(split):
        paths, sources = _from_list(spec, split, name, tree)
    else:
        found = list(tree.images(name))
        paths, sources = [path for _, path in found], [f"{name}/{relative}" for relative, _ in found]
    relatives = [_relative(spec, path) for path in paths]
    rows = Rows(_ids(spec, name, relatives, in_folder=not spec.data.listed(split)), paths, sources)
    check_rows(spec, split, rows)
    return rows, relatives


def _relative(spec: Competition, path: str) -> str:
    return path[len(str(spec.root).rstrip("/")) + 1 :]


def _ids(spec: Competition, name: str, relatives: list[str], *, in_folder: bool) -> list[str]:
    """`data.id`: stem or file_name; below the folder of the split, or of a list the bare name while it is unique."""
    if in_folder:
        start = 0 if name == "." else len(name) + 1
        names = [relative[start:] for relative in relatives]
    else:
        names = [relative.rpartition("/")[2] for relative in relatives]
        names = names if len(set(names)) == len(names) else relatives
    return stem_ids(names) if spec.data.id == "stem" else [nfc(text) for text in names]


def _from_list(spec: Competition, split: str, name: str, tree: Tree) -> tuple[list[str], list[str]]:
    stems: dict[str, str] = {}
    if spec.data.layout == "voc":
        stems = {nfc(relative).rpartition(".")[0]: path for relative, path in tree.images(spec.data.images)}
    starts = (spec.data.images, ".", name.rpartition("/")[0] or ".")
    lines = [(number, line.strip()) for number, line in enumerate(read_text(spec.locate(name)).splitlines(), 1)]
    paths: list[str] = []
    sources: list[str] = []
    absent: list[str] = []
    for number, line in lines:
        if not line:
            continue
        path = _find(spec, line, starts, stems, tree)
        if path is None and line.rpartition(" ")[2] in FLAGS:
            path = _find(spec, line.rpartition(" ")[0].rstrip(), starts, stems, tree)
        sources.append(f"{name}:{number}")
        if path is None:
            absent.append(f"{sources[-1]} '{line}'")
        else:
            paths.append(path)
    if absent:
        raise spec.error(
            f"data.{split}",
            f"{len(absent)} of {len(sources)} listed images are missing under {spec.root}: {listed(absent)}."
            f"{nearest(absent[0].partition(' ')[2].strip(chr(39)), list(stems)[:2000])} Put them there, drop the "
            "lines, or correct competition.root" + (" or data.images." if stems else "."),
        )
    return paths, sources


def _find(spec: Competition, text: str, starts: tuple[str, ...], stems: dict[str, str], tree: Tree) -> str | None:
    text = text.replace("\\", "/")
    if nfc(text) in stems:
        return stems[nfc(text)]
    root = str(spec.root)
    for start in dict.fromkeys(starts):
        relative = relative_under(text, root, start)
        path = tree.find(relative) if relative is not None else None
        if path is not None:
            return path
    parts = [part for part in text.split("/") if part not in ("", ".", "..")]
    for cut in range(len(parts)):
        path = tree.find("/".join(parts[cut:]))
        if path is not None:
            return path
    return None
