"""Letters in drawn pictures: an installed font that has the names' script, or other names."""

import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from unicodedata import normalize

# Parts of file names of fonts with Hangul, the plainest first; the rest are found by asking fontconfig.
KNOWN = (
    "nanumgothic", "notosanskr", "notosanscjk", "malgun", "applesdgothicneo", "applegothic", "pretendard",
    "spoqa", "nanumbarun", "gulim", "undotum", "nanum", "notoserifcjk", "batang",
)  # fmt: skip
HEAVY = ("bold", "black", "heavy", "thin", "light")


def hangul_font() -> str | None:
    """The path of an installed font that has Hangul, None where there is none."""
    return _hangul_font()


@lru_cache(maxsize=1)
def _hangul_font() -> str | None:
    from matplotlib.font_manager import findSystemFonts

    paths = sorted(set(findSystemFonts()))

    def rank(path: str) -> tuple[int, bool, str]:
        name = Path(path).stem.lower().replace("-", "").replace("_", "").replace(" ", "")
        place = next((i for i, part in enumerate(KNOWN) if part in name), len(KNOWN))
        return place, any(word in name for word in HEAVY), path

    likely = [path for path in sorted(paths, key=rank) if rank(path)[0] < len(KNOWN)]
    return next((path for path in [*likely, *_fontconfig()] if writes(path, "가힣")), None)


def _fontconfig() -> list[str]:
    """Files of the fonts that fontconfig knows to write Korean; [] where there is no fontconfig."""
    program = shutil.which("fc-list")
    if program is None:
        return []
    try:
        found = subprocess.run(
            [program, ":lang=ko", "file"], capture_output=True, text=True, timeout=20, check=False
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []  # a font finder that fails finds no font
    return sorted(line.strip().rstrip(":") for line in found.stdout.splitlines() if line.strip())


def plain_font() -> str:
    """The font that matplotlib brings: Latin, Greek, Cyrillic."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def writes(path: str, text: str) -> bool:
    """Whether the font has every letter of the text."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(path)
    except (OSError, RuntimeError, ValueError):  # a broken or unscalable font file
        return False
    return all(font.get_char_index(ord(letter)) for letter in text if not letter.isspace())


def drawn_names(names: Sequence[str]) -> tuple[list[str], str]:
    """The names as one font can draw them, and that font's path: as they are, else in English, else "class 3"."""
    plain, hangul = plain_font(), hangul_font()
    needs = hangul is not None and not all(writes(plain, name) for name in names)
    font = hangul if needs else plain
    return [_drawable(normalize("NFC", str(name)), index, font) for index, name in enumerate(names)], font


def _drawable(name: str, index: int, font: str) -> str:
    if writes(font, name):
        return name
    from src.lexicon import english_of

    return next((english for english in english_of(name) if writes(font, english)), f"class {index}")


def properties(path: str, size: float) -> Any:
    """matplotlib's FontProperties of a font file, `size` in points."""
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=path, size=size)
