"""Readers of images: a table (csv), folders by class (folder), MVTec AD's folders (mvtec).

The layouts with annotated objects (coco, voc, yolo) or captions (coco, jsonl) are read in `src.annotations`.
"""

from collections import Counter
from collections.abc import Sequence

from src.competition import Competition
from src.competition_files import below_category, category_folders
from src.errors import nearest
from src.listing import Tree, nfc, relative_under
from src.rows import Answers, Rows, check_ids, check_rows, listed, one_row_an_image
from src.tables import read_table
from src.target_pattern import Parts, parse_pattern


def read_rows(spec: Competition, split: str) -> Rows:
    """The images of a split. Targets, groups and masks are read for "train" alone, categories for both.

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
    if data.category is not None and data.category in table:
        rows.categories = [cell or None for cell in table[data.category]]
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
    named = spec.data.category is not None and spec.data.category in table
    categories = [cell or None for cell in table[spec.data.category]] if named else [None] * len(ids)
    return Answers(ids, targets, masks, sources, categories)


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
    rows = Rows([], [], [])
    for category in category_folders(spec):
        part = _rows_below(spec, split, category)
        for name, values in vars(rows).items():
            values += getattr(part, name)
    if split == "train":
        loose = [source for source, target in zip(rows.sources, rows.targets, strict=True) if target is None]
        if loose and len(loose) < len(rows.ids):
            raise spec.error("data.train", f"images beside class folders: {listed(loose)}. Sort them in.")
    return rows


def _rows_below(spec: Competition, split: str, category: str | None) -> Rows:
    """The images of one category, or of a root that is no folder of categories."""
    name = below_category(category, spec.data.train if split == "train" else spec.data.test)
    found = _images_below(spec, Tree(spec.root), category, spec.data.train if split == "train" else spec.data.test)
    rows = Rows(
        _ids(category, found),
        [path for _, path in found],
        [f"{name}/{relative}" for relative, _ in found],
        categories=[category] * len(found),
    )
    if split == "train":
        rows.targets = _targets(spec, category, [_class_of(relative) for relative, _ in found])
    return rows


def _images_below(spec: Competition, tree: Tree, category: str | None, name: str) -> list[tuple[str, str]]:
    """(path relative to the folder, absolute path) of its images, without the ground truth where that lies in it."""
    found = list(tree.images(below_category(category, name)))
    if spec.data.mask is None or not spec.data.mask.startswith(f"{name}/"):
        return found
    truth = spec.data.mask.removeprefix(f"{name}/").rstrip("/") + "/"
    return [(relative, path) for relative, path in found if not relative.startswith(truth)]


def _folder_answers(spec: Competition) -> Answers | None:
    """Targets are the names of the test's sub-folders, if these are classes at all."""
    tree, answers = Tree(spec.root), Answers([], [], [], [], [])
    known: set[str | None] = set(spec.data.normal)
    classes: set[str | None] = set()
    for category in category_folders(spec):
        name = below_category(category, spec.data.test)
        found = _images_below(spec, tree, category, spec.data.test)
        folders = [_class_of(relative) for relative, _ in found]
        classes.update(folders)
        trained = tree.images(below_category(category, spec.data.train))
        known.update(_class_of(relative) for relative, _ in trained)
        answers.ids += _ids(category, found)
        answers.targets += _targets(spec, category, folders)
        answers.masks += _masks_below(spec, tree, category, found, folders)
        answers.sources += [f"{name}/{relative}" for relative, _ in found]
        answers.categories += [category] * len(found)
    if None in classes or known.isdisjoint(classes):
        return None  # a flat folder, or sub-folders that sort the images by something else
    return answers


def _masks_below(
    spec: Competition, tree: Tree, category: str | None, found: Sequence[tuple[str, str]], folders: Sequence[str | None]
) -> list[str | None]:
    if spec.data.mask is None or None in folders:
        return [None] * len(found)
    truth = {_stem(relative): path for relative, path in tree.images(below_category(category, spec.data.mask))}
    stems = [_stem(relative) for relative, _ in found]
    masks = [truth.get(stem) or truth.get(f"{stem}_mask") for stem in stems]
    _check_masks_used(spec, category, folders, masks, truth)
    return masks


def _check_masks_used(
    spec: Competition,
    category: str | None,
    folders: Sequence[str],
    masks: Sequence[str | None],
    truth: dict[str, str],
) -> None:
    """A defect without a mask is legal; a whole kind whose masks fit no image is a naming mistake."""
    offered = Counter(stem.partition("/")[0] for stem in truth)
    used = {folder for folder, mask in zip(folders, masks, strict=True) if mask is not None}
    for kind in sorted(set(folders) - used):
        if offered[kind]:
            mask, test = (below_category(category, name) for name in (spec.data.mask, spec.data.test))
            raise spec.error(
                "data.mask",
                f"none of the {offered[kind]} masks in {mask}/{kind} has the name of an image in "
                f"{test}/{kind}. Name them <image>.png or <image>_mask.png, or data.mask: null.",
            )


def _targets(spec: Competition, category: str | None, folders: Sequence[str | None]) -> list[str | None]:
    """The class folders; in a folder of categories, composed by the pattern where there is one."""
    if category is None or spec.data.target_pattern is None:
        return list(folders)
    pattern = parse_pattern(spec.data.target_pattern)
    return [None if folder is None else pattern.compose(Parts(category, folder)) for folder in folders]


def _ids(category: str | None, found: Sequence[tuple[str, str]]) -> list[str]:
    ids = stem_ids([relative for relative, _ in found])
    return ids if category is None else [f"{category}/{name}" for name in ids]


def _class_of(relative: str) -> str | None:
    folder, slash, _ = relative.partition("/")
    return nfc(folder) if slash else None


def _stem(relative: str) -> str:
    return nfc(relative).rpartition(".")[0]


def stem_ids(relatives: Sequence[str]) -> list[str]:
    """Paths without suffix; where two files differ by suffix alone, both keep theirs."""
    count = Counter(_stem(relative) for relative in relatives)
    return [nfc(relative) if count[_stem(relative)] > 1 else _stem(relative) for relative in relatives]
