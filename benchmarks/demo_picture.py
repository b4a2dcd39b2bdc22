"""Make docs/demo.jpg from the pictures of a demo run: python benchmarks/demo_picture.py runs/trees-1"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

TARGET = Path(__file__).parents[1] / "docs" / "demo.jpg"
WIDTH = 1000


def main() -> None:
    """The two pictures with the most labels, one above the other."""
    files = sorted((Path(sys.argv[1]) / "pictures").glob("*.png"), key=lambda path: -path.stat().st_size)[:2]
    pictures = []
    for file in files:
        with Image.open(file) as picture:
            pictures.append(picture.convert("RGB").resize((WIDTH, round(picture.height * WIDTH / picture.width))))
    page = Image.new("RGB", (WIDTH, sum(picture.height for picture in pictures)))
    top = 0
    for picture in pictures:
        page.paste(picture, (0, top))
        top += picture.height
    page.save(TARGET, quality=85)


if __name__ == "__main__":
    main()
