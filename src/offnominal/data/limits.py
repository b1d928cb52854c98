"""What an image may cost before it is refused, decided from its header."""

from __future__ import annotations

from dataclasses import dataclass

AGAIN = "copy it again from its origin, or save it anew"
PAGES = "save each frame or page as an image of its own"


class RefusalError(Exception):
    """Why a file is refused, before the item's name is known; never leaves this room."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that are checked before memory is allocated.

    Parameters
    ----------
    max_bytes : int, default 2 GiB
        Bytes of a file on disk.
    max_pixels : int, default 400 000 000
        Height times width.
    max_channels : int, default 512
        Channels; the product of all three sizes may also not exceed four times ``max_pixels``.
    """

    max_bytes: int = 2 << 30
    max_pixels: int = 400_000_000
    max_channels: int = 512

    def check_bytes(self, size: int) -> None:
        """Raise `RefusalError` for an empty or too large file."""
        if size == 0:
            raise RefusalError("the file is empty (0 bytes)", AGAIN)
        if size > self.max_bytes:
            raise RefusalError(
                f"{size:,} bytes on disk, at most {self.max_bytes:,} are read",
                "raise limits.max_bytes to allow it",
            )

    def check_shape(self, height: int, width: int, channels: int = 1) -> None:
        """Raise `RefusalError` for sizes that are zero or too large."""
        if height < 1 or width < 1 or channels < 1:
            raise RefusalError(f"has no pixels ({width}×{height})", AGAIN)
        if height * width > self.max_pixels:
            raise RefusalError(
                f"its header says {width}×{height} pixels, at most {self.max_pixels:,} are decoded",
                "raise limits.max_pixels to allow it, or cut the image into tiles",
            )
        if channels > self.max_channels:
            raise RefusalError(
                f"has {channels} channels, at most {self.max_channels} are read",
                "raise limits.max_channels to allow it, or check the order of the axes",
            )
        if height * width * channels > 4 * self.max_pixels:
            raise RefusalError(
                f"{width}×{height} pixels of {channels} channels are too many",
                "raise limits.max_pixels to allow it, or cut the image into tiles",
            )
