"""A4 pages to draw on: a cursor that moves down, text that wraps, a footer on every page. Importing it loads reportlab.

Text is drawn as plain strings: nothing in it is markup, opens a file or makes a link. Characters that the font lacks are
shown as a question mark. Lengths are points, y grows upwards, `Page.y` is where the next thing begins.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import reportlab
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

Gray = float  # 0 black – 1 white

WIDTH, HEIGHT = 595.28, 841.89  # A4
MARGIN = 42.0
FOOTER = 8.0
PRODUCT = "OW-kai Analytics"
BLACK, DARK, MIDDLE, LIGHT, PALE, WHITE = 0.0, 0.22, 0.45, 0.78, 0.94, 1.0
REGULAR, BOLD = "OwkaiRegular", "OwkaiBold"
LACKING = "?"
MARK = "…"

# Once, under the import lock. The files come with the library; nothing is searched for on the machine.
_FONTS = Path(reportlab.__file__).parent / "fonts"
for _name, _file in ((REGULAR, "Vera.ttf"), (BOLD, "VeraBd.ttf")):
    pdfmetrics.registerFont(TTFont(_name, str(_FONTS / _file)))
GLYPHS = frozenset(pdfmetrics.getFont(REGULAR).face.charToGlyph) & frozenset(pdfmetrics.getFont(BOLD).face.charToGlyph)


def printable(text: str) -> str:
    """`text` in one line of characters that the fonts have."""
    one_line = " ".join(text.split())
    return "".join(character if ord(character) in GLYPHS else LACKING for character in one_line)


def width_of(text: str, size: float, font: str = REGULAR) -> float:
    return float(pdfmetrics.stringWidth(text, font, size))


def wrapped(text: str, width: float, size: float, font: str = REGULAR, lines: int = 8) -> list[str]:
    """`text` in lines of at most `width`; words longer than a line are broken, what exceeds `lines` ends in a mark."""
    # The lines hold fewer characters than this, so the rest of a very long text need not be measured.
    words = printable(text)[: lines * (10 + int(8 * width / size))].split(" ")
    found: list[str] = []
    line = ""
    for word in words:
        joined = f"{line} {word}" if line else word
        if width_of(joined, size, font) <= width:
            line = joined
            continue
        if line:
            found.append(line)
        line = word
        while width_of(line, size, font) > width:
            fits = fitting(line, width, size, font)
            found.append(line[:fits])
            line = line[fits:]
        if len(found) > lines:
            break
    found.append(line)
    if len(found) > lines:
        last = found[lines - 1]
        found = [
            *found[: lines - 1],
            last[: fitting(last, width - width_of(MARK, size, font), size, font)].rstrip() + MARK,
        ]
    return found


def fitting(text: str, width: float, size: float, font: str) -> int:
    """How many characters of `text` fit into `width`; at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if width_of(text[:middle], size, font) <= width:
            low = middle
        else:
            high = middle - 1
    return low


class Page:
    """The document under work. `footer` is the text at the left of every page's foot; the right has the page number.

    `created` is the date of creation in the document's metadata.
    """

    def __init__(self, title: str, footer: str, created: datetime, mark: str = "") -> None:
        self._bytes = io.BytesIO()
        # invariant: the bytes depend only on the content, so an unchanged report keeps its ETag.
        self.canvas: Any = Canvas(self._bytes, pagesize=(WIDTH, HEIGHT), pageCompression=1, invariant=1, lang="en")
        self.canvas.setTitle(printable(title))
        self.canvas.setAuthor(PRODUCT)
        self.canvas.setCreator(PRODUCT)
        self.canvas.setSubject("Executive report")
        self.canvas.setViewerPreference("DisplayDocTitle", "true")
        # The library would write the date of its own invariant mode, 1 January 2000.
        stamp = f"D:{created.astimezone(UTC):%Y%m%d%H%M%S}Z"
        self.canvas.setDateFormatter(lambda *_: stamp)
        self._footer = footer
        self._mark = mark
        self._number = 1
        self.left, self.right, self.y = MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN
        self._begin()

    @property
    def width(self) -> float:
        return self.right - self.left

    def need(self, height: float) -> None:
        """Go on to a new page where less than `height` is left."""
        if self.y - height < MARGIN + FOOTER:
            self._end()
            self.canvas.showPage()
            self._number += 1
            self.y = HEIGHT - MARGIN
            self._begin()

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        *,
        font: str = REGULAR,
        gray: Gray = BLACK,
        align: str = "left",
    ) -> None:
        """One line whose baseline starts (or is centred, or ends) at x, y."""
        self.canvas.setFillGray(gray)
        self.canvas.setFont(font, size)
        shown = printable(text)
        if align == "right":
            self.canvas.drawRightString(x, y, shown)
        elif align == "center":
            self.canvas.drawCentredString(x, y, shown)
        else:
            self.canvas.drawString(x, y, shown)

    def box(
        self, x: float, y: float, width: float, height: float, *, fill: Gray | None, edge: Gray | None = None
    ) -> None:
        """A rectangle whose lower left corner is x, y."""
        if fill is not None:
            self.canvas.setFillGray(fill)
        if edge is not None:
            self.canvas.setStrokeGray(edge)
            self.canvas.setLineWidth(0.6)
        self.canvas.rect(x, y, width, height, stroke=int(edge is not None), fill=int(fill is not None))

    def line(self, x1: float, y1: float, x2: float, y2: float, *, gray: Gray = LIGHT, width: float = 0.5) -> None:
        self.canvas.setStrokeGray(gray)
        self.canvas.setLineWidth(width)
        self.canvas.line(x1, y1, x2, y2)

    def triangle(self, x: float, y: float, size: float, *, up: bool, gray: Gray = BLACK) -> None:
        """A filled arrow head in the square of `size` whose lower left corner is x, y."""
        path = self.canvas.beginPath()
        base, tip = (y, y + size) if up else (y + size, y)
        path.moveTo(x, base)
        path.lineTo(x + size, base)
        path.lineTo(x + size / 2, tip)
        path.close()
        self.canvas.setFillGray(gray)
        self.canvas.drawPath(path, stroke=0, fill=1)

    def heading(self, text: str) -> None:
        """A section's heading; moves the cursor below it."""
        self.y -= 12
        self.text(self.left, self.y, text, 10.5, font=BOLD)
        self.y -= 4
        self.line(self.left, self.y, self.right, self.y, gray=DARK, width=0.8)
        self.y -= 4

    def finish(self) -> bytes:
        """The document."""
        self._end()
        self.canvas.save()
        return self._bytes.getvalue()

    def _begin(self) -> None:
        if self._mark:
            self.box(self.left, self.y - 4, self.width, 18, fill=DARK)
            self.text(WIDTH / 2, self.y + 1, self._mark, 9, font=BOLD, gray=WHITE, align="center")
            self.y -= 16

    def _end(self) -> None:
        y = MARGIN - 12
        self.line(self.left, y + 11, self.right, y + 11)
        self.text(self.left, y, self._footer, 7, gray=MIDDLE)
        self.text(self.right, y, f"Page {self._number}", 7, gray=MIDDLE, align="right")
