"""A table as people read it: drawn on a terminal, aligned where it is piped, as Markdown for a README."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """Texts in columns; the first `labels` columns name the row and stand to the left, the others to the right."""

    header: Sequence[str]
    cells: Sequence[Sequence[str]]
    labels: int = 1

    def plain(self) -> str:
        """Aligned text without lines; a Korean letter takes two columns."""
        from rich.cells import cell_len

        widths, lines = self._widths(), []
        for line in (self.header, *self.cells):
            padded = []
            for index, (text, width) in enumerate(zip(line, widths, strict=True)):
                space = " " * (width - cell_len(text))
                padded.append(text + space if index < self.labels else space + text)
            lines.append("  ".join(padded).rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """A table of GitHub's Markdown, with a closing line break."""
        rule = ["---" if index < self.labels else "---:" for index in range(len(self.header))]
        lines = [[text.replace("|", "\\|") for text in line] for line in (self.header, *self.cells)]
        return "".join("| " + " | ".join(line) + " |\n" for line in (lines[0], rule, *lines[1:]))

    def _widths(self) -> list[int]:
        from rich.cells import cell_len

        return [max(map(cell_len, column)) for column in zip(self.header, *self.cells, strict=True)]

    def print(self) -> None:
        """With lines on a terminal that is wide enough for them; elsewhere `plain`, so that no figure is cut short."""
        from rich.console import Console

        if not sys.stdout.isatty() or sum(self._widths()) + 3 * len(self.header) + 1 > Console().width:
            print(self.plain())
            return
        from rich.markup import escape
        from rich.table import Table

        drawn = Table()
        for index, name in enumerate(self.header):
            drawn.add_column(escape(name), justify="left" if index < self.labels else "right")
        for line in self.cells:
            drawn.add_row(*map(escape, line))
        Console().print(drawn)
