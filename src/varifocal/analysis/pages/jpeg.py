"""Images inside a page."""

from __future__ import annotations

import base64
import io

from PIL import Image


def jpeg_uri(image: Image.Image, quality: int) -> str:
    """The image as the text of a ``data:`` address."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
