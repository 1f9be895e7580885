"""A QR drawn in four forms."""

import binascii
import io
from typing import Any, Final

import qrcode
from qrcode.image.pure import PyPNGImage
from qrcode.image.svg import SvgPathImage

QUIET_ZONE: Final = 4
"""Modules of margin a reader may count on (ISO/IEC 18004)."""


def _qr(content: str) -> qrcode.QRCode[Any]:
    drawn: qrcode.QRCode[Any] = qrcode.QRCode(
        error_correction=qrcode.ERROR_CORRECT_L, border=QUIET_ZONE
    )
    drawn.add_data(content)
    drawn.make(fit=True)
    return drawn


def text(content: str) -> bytes:
    """For a terminal with a dark background, in half blocks."""
    out = io.StringIO()
    _qr(content).print_ascii(out, invert=True)
    return out.getvalue().encode()


def png(content: str) -> bytes:
    out = io.BytesIO()
    _qr(content).make_image(image_factory=PyPNGImage).save(out)
    return out.getvalue()


def svg(content: str) -> bytes:
    return _qr(content).make_image(image_factory=SvgPathImage).to_string()


def data_url(content: str) -> bytes:
    return b"data:image/png;base64," + binascii.b2a_base64(png(content), newline=False)
