"""Files as URIs that hold them, so that a page needs no other file."""

from __future__ import annotations

import base64
import io

from PIL import Image

QUALITY = 85  # of WebP, at which a photograph loses what no eye sees


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes as a URI that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(picture: Image.Image, large: int) -> str:
    """Return a picture as WebP without loss, or of quality 85 where that has over `large` bytes."""
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=True)
    if file.tell() > large:
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=QUALITY)
    return data_uri(file.getvalue(), "image/webp")
