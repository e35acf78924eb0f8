"""Translations kept on disk, so that a word or a caption is translated once: JSON Lines, one translation a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from src.errors import ProjectError
from src.translation.base import Translator, refuse_missing


class CachedTranslator:
    """A translator that asks another one only for what is not in its file.

    Lines are appended as translations come, so an interrupted run keeps what it paid for; a last line cut short by a
    crash is dropped. Refused texts are not kept.

    Args:
        translator: who is asked; its name is part of every line, so engines share a file without mixing.
        path: the file, such as outputs/.cache/translations.jsonl; its folder is made.

    Raises:
        ProjectError: the file holds something else.
    """

    def __init__(self, translator: Translator, path: str | Path) -> None:
        self.translator = translator
        self.path = Path(path)
        self._known = _read(self.path, translator.name)

    @property
    def name(self) -> str:
        return self.translator.name

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """One translation a text, in order; errors are those of the translator."""
        return refuse_missing(texts, self.try_translate(texts, source, target), self.name)

    def try_translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """The same, with None where the translator refused."""
        wanted = [t for t in dict.fromkeys(texts) if (source, target, t) not in self._known]
        if wanted:
            found = self.translator.try_translate(wanted, source, target)
            self._keep([(source, target, t, a) for t, a in zip(wanted, found, strict=True) if a is not None])
        return [self._known.get((source, target, text)) for text in texts]

    def _keep(self, rows: list[tuple[str, str, str, str]]) -> None:
        if not rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for source, target, text, translation in rows:
            row = {"engine": self.name, "source": source, "target": target, "text": text, "translation": translation}
            lines.append(json.dumps(row, ensure_ascii=False))
        # a last line without its end was cut short by a crash: the next one must not be glued to it
        cut = self.path.is_file() and self.path.stat().st_size > 0 and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut else "") + "\n".join(lines) + "\n")
        self._known.update({(s, t, x): a for s, t, x, a in rows})


def _read(path: Path, engine: str) -> dict[tuple[str, str, str], str]:
    known: dict[tuple[str, str, str], str] = {}
    if not path.is_file():
        return known
    broken = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            if row["engine"] == engine:
                known[(row["source"], row["target"], row["text"])] = row["translation"]
        except (ValueError, KeyError, TypeError):
            broken += 1
    if broken and not known and broken > 1:
        raise ProjectError(
            f"{path} is no cache of translations: {broken} lines are not. Name another file or delete it."
        )
    return known
