"""Readers of images: a table (csv), folders by class (folder), MVTec AD's folders (mvtec); checks for all layouts.

The layouts with annotated objects (coco, voc, yolo) or captions (coco, jsonl) are read in `src.annotations`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from src.competition import Competition
from src.errors import ProjectError, nearest
from src.listing import IMAGE_SUFFIXES, Tree, nfc, relative_under
from src.tables import read_table

SHOWN = 5  # rows that a message names; it counts the others


@dataclass
class Rows:
    """Images of one split, as parallel lists; None where nothing is known; `sources` for messages."""

    ids: list[str]
    paths: list[str]
    sources: list[str]
    targets: list[str | None] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    masks: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("targets", "groups", "masks"):
            if not getattr(self, name):
                setattr(self, name, [None] * len(self.ids))


@dataclass
class Answers:
    """What the test images are: ids, targets and masks, as parallel lists."""

    ids: list[str]
    targets: list[str]
    masks: list[str | None]


def read_rows(spec: Competition, split: str) -> Rows:
    """The images of a split. Targets, groups and masks are read for "train" alone.

    Raises:
        ProjectError: an empty split, an empty or repeated id, an image or mask that is missing or outside
            the root, the same image twice in the training set.
    """
    rows = _table_rows(spec, split) if spec.data.layout == "csv" else _folder_rows(spec, split)
    check_rows(spec, split, rows)
    return rows


def read_answers(spec: Competition) -> Answers | None:
    """The test split's targets: from the solution table, or the test folders' names; None without either."""
    if spec.solution is not None:
        return _table_answers(spec)
    return None if spec.data.layout == "csv" else _folder_answers(spec)


# csv ----------------------------------------------------------------------------------------------------


def _table_rows(spec: Competition, split: str) -> Rows:
    data = spec.data
    name = data.train if split == "train" else data.test
    table = read_table(spec.locate(name))
    sources = [f"{name}:{line}" for line in table.index]
    texts = [""] * len(table)
    for literal, column in data.path_parts():
        if column == "split" and column not in table:
            texts = [text + literal + split for text in texts]
        elif column is None:
            texts = [text + literal for text in texts]
        else:
            texts = [text + literal + cell for text, cell in zip(texts, table[column], strict=True)]
    tree = Tree(spec.root)
    ids = table[data.id].tolist()
    paths = resolve_files(spec, "data.path", "image", texts, sources, tree)
    rows = Rows(ids, paths, sources)
    if split == "train":
        if data.target is not None:
            rows.targets = [cell or None for cell in table[data.target]]
        if data.group is not None:
            rows.groups = [cell or None for cell in table[data.group]]
        if data.mask is not None:
            rows.masks = resolve_files(spec, "data.mask", "mask", table[data.mask].tolist(), sources, tree)
        if any(part is not None and part.file is None for part in (data.boxes, data.counts)):
            return one_row_an_image(rows)  # the table has a row an object
    return one_row_an_image(rows) if spec.task == "caption" else rows  # a row a caption


def one_row_an_image(rows: Rows) -> Rows:
    """The first row of each id; all rows of an id must name the same image and the same group.

    Rows without an id stay, for `check_rows` to name them.
    """
    first: dict[str | int, int] = {}
    for row, identifier in enumerate(rows.ids):
        start = first.setdefault(identifier if identifier.strip() else row, row)
        for what, values in (("images", rows.paths), ("groups", rows.groups)):
            if values[row] != values[start]:
                raise ProjectError(
                    f"{rows.sources[start]}, {rows.sources[row]}: the id '{identifier}' has two {what}, "
                    f"'{values[start]}' and '{values[row]}'. An id is one image; correct one of the rows."
                )
    keep = list(first.values())
    return Rows(*([values[row] for row in keep] for values in vars(rows).values()))


def _table_answers(spec: Competition) -> Answers:
    id_column, target_column = spec.solution_columns
    table = read_table(spec.solution)
    sources = [f"{spec.solution.name}:{line}" for line in table.index]
    ids, targets = table[id_column].tolist(), table[target_column].tolist()
    check_ids(spec, "solution", ids, sources)
    unknown = [source for source, target in zip(sources, targets, strict=True) if not target]
    if unknown:
        raise spec.error("solution", f"{listed(unknown)}: no value in the column '{target_column}'.")
    masks: list[str | None] = [None] * len(ids)
    if spec.data.mask in table and spec.data.layout == "csv":
        masks = resolve_files(spec, "data.mask", "mask", table[spec.data.mask].tolist(), sources, Tree(spec.root))
    return Answers(ids, targets, masks)


def resolve_files(
    spec: Competition,
    key: str,
    what: str,
    texts: Sequence[str],
    sources: Sequence[str],
    tree: Tree,
    *,
    start: str | None = None,
) -> list:
    """Absolute paths of the files that a column names, relative to `start` (None: data.images); an empty mask is None.

    One listing per folder answers for all its rows: nothing is asked of the file system row by row.
    """
    root, start = str(spec.root), spec.data.images if start is None else start
    folder = spec.locate(start)
    found: list[str | None] = []
    outside: list[str] = []
    absent: list[int] = []
    for row, text in enumerate(texts):
        if not text and what == "mask":
            found.append(None)
            continue
        relative = relative_under(text, root, start)
        path = tree.find(relative) if relative is not None else None
        found.append(path)
        if relative is None:
            outside.append(f"{sources[row]} '{text}'")
        elif path is None:
            absent.append(row)
    if outside:
        raise spec.error(
            key,
            f"{len(outside)} {what} paths leave the competition's root {root}: {listed(outside)}. "
            f"Write them relative to {folder}, without leading '/' or '..'.",
        )
    if absent:
        named = listed([f"{sources[row]} '{texts[row]}'" for row in absent])
        column = spec.data.path if what == "image" else spec.data.mask
        cures = f"correct data.images ('{start}')" + (f" and {key} ('{column}')" if column is not None else "")
        raise spec.error(
            key,
            f"{len(absent)} of {len(texts)} {what} files are missing under {folder}: {named}."
            f"{_hint(tree, texts[absent[0]], relative_under(texts[absent[0]], root, start), start)} "
            f"Put them there, drop the rows, or {cures}.",
        )
    return found


def _hint(tree: Tree, text: str, relative: str, start: str) -> str:
    """Where a missing file may be: in a sub-folder, or under a similar name."""
    head, _, name = relative.rpartition("/")
    for folder in tree.names(start)[:50]:
        if tree.find(f"{folder if start == '.' else f'{start}/{folder}'}/{text}") is not None:
            return f" '{text}' is in the folder '{folder}': is that what data.images should say?"
    if tree.find_folder(head or ".") is None:
        return f" There is no folder '{head}'."
    stem = name.rpartition(".")[0] or name
    names = tree.names(head or ".")
    return nearest(name, [other for other in names if stem.lower() in other.lower()][:200] or names[:2000])


# folder and mvtec ---------------------------------------------------------------------------------------


def _folder_rows(spec: Competition, split: str) -> Rows:
    data = spec.data
    name = data.train if split == "train" else data.test
    found = list(Tree(spec.root).images(name))
    rows = Rows(
        stem_ids([relative for relative, _ in found]),
        [path for _, path in found],
        [f"{name}/{relative}" for relative, _ in found],
    )
    if split == "train":
        rows.targets = [_class_of(relative) for relative, _ in found]
        loose = [source for source, target in zip(rows.sources, rows.targets, strict=True) if target is None]
        if loose and len(loose) < len(found):
            raise spec.error("data.train", f"images beside class folders: {listed(loose)}. Sort them in.")
    return rows


def _folder_answers(spec: Competition) -> Answers | None:
    """Targets are the names of the test's sub-folders, if these are classes at all."""
    tree = Tree(spec.root)
    found = list(tree.images(spec.data.test))
    targets = [_class_of(relative) for relative, _ in found]
    trained = {_class_of(relative) for relative, _ in tree.images(spec.data.train)}
    known = {*spec.data.normal, *trained}
    if None in targets or known.isdisjoint(targets):
        return None  # a flat folder, or sub-folders that sort the images by something else
    masks: list[str | None] = [None] * len(found)
    if spec.data.mask is not None:
        truth = {_stem(relative): path for relative, path in tree.images(spec.data.mask)}
        stems = [_stem(relative) for relative, _ in found]
        masks = [truth.get(stem) or truth.get(f"{stem}_mask") for stem in stems]
        _check_masks_used(spec, targets, masks, truth)
    return Answers(stem_ids([relative for relative, _ in found]), targets, masks)


def _check_masks_used(
    spec: Competition, targets: Sequence[str], masks: Sequence[str | None], truth: dict[str, str]
) -> None:
    """A defect without a mask is legal; a whole kind whose masks fit no image is a naming mistake."""
    offered = Counter(stem.partition("/")[0] for stem in truth)
    used = {target for target, mask in zip(targets, masks, strict=True) if mask is not None}
    for kind in sorted(set(targets) - used):
        if offered[kind]:
            raise spec.error(
                "data.mask",
                f"none of the {offered[kind]} masks in {spec.data.mask}/{kind} has the name of an image in "
                f"{spec.data.test}/{kind}. Name them <image>.png or <image>_mask.png, or data.mask: null.",
            )


def _class_of(relative: str) -> str | None:
    folder, slash, _ = relative.partition("/")
    return nfc(folder) if slash else None


def _stem(relative: str) -> str:
    return nfc(relative).rpartition(".")[0]


def stem_ids(relatives: Sequence[str]) -> list[str]:
    """Paths without suffix; where two files differ by suffix alone, both keep theirs."""
    count = Counter(_stem(relative) for relative in relatives)
    return [nfc(relative) if count[_stem(relative)] > 1 else _stem(relative) for relative in relatives]


# both ---------------------------------------------------------------------------------------------------


def check_rows(spec: Competition, split: str, rows: Rows) -> None:
    """Refuse an empty split, ids that are empty or repeated, and an image that is twice in the training set."""
    check_ids(spec, split, rows.ids, rows.sources)
    if split == "train":
        remedy = "a copy in another fold would leak. Keep one row"
        if spec.task == "caption":
            remedy += ", or give all captions of an image one id: data.id may name the column of the image's file"
        check_unique(rows.paths, rows.sources, "the image", remedy)


def check_apart(spec: Competition, train: Rows, test: Rows) -> None:
    """Refuse an image that is in both splits."""
    trained = set(train.paths)
    shared = [source for source, path in zip(test.sources, test.paths, strict=True) if path in trained]
    if shared:
        remedy = "A test image must not be trained on: give each image to one split"
        raise spec.error("data.test", f"{len(shared)} images are in the training set too: {listed(shared)}. {remedy}.")


def check_ids(spec: Competition, split: str, ids: Sequence[str], sources: Sequence[str]) -> None:
    if not ids:
        key = split if split == "solution" else f"data.{split}"
        folder = spec.data.layout != "csv" and split != "solution"
        kind = f"images ({', '.join(IMAGE_SUFFIXES)})" if folder else "rows"
        what = {"train": "the training set", "test": "the test set", "solution": "the solution"}[split]
        raise spec.error(key, f"{what} is empty: no {kind} in {_where(spec, split)}.")
    empty = [source for source, value in zip(sources, ids, strict=True) if not value.strip()]
    if empty:
        raise spec.error("data.id", f"{len(empty)} rows have no id: {listed(empty)}. Give each one.")
    check_unique(ids, sources, "the id", "ids must differ. Remove or rename one of the rows")


def check_unique(values: Sequence[str], sources: Sequence[str], what: str, remedy: str) -> None:
    if len(set(values)) == len(values):
        return
    twice = [value for value, count in Counter(values).items() if count > 1]
    where = [source for source, value in zip(sources, values, strict=True) if value == twice[0]]
    others = f" ({len(twice) - 1} more such)" if len(twice) > 1 else ""
    raise ProjectError(f"{listed(where)}: {what} '{twice[0]}' occurs {len(where)} times{others}; {remedy}.")


def _where(spec: Competition, split: str) -> str:
    return str(spec.solution if split == "solution" else spec.locate(getattr(spec.data, split)))


def listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
