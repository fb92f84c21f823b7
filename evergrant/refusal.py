"""What keeps Evergrant from running here, in words for whoever has to repair it."""

from __future__ import annotations


class RefusalError(Exception):
    """The message is one or more whole sentences: what is in the way, and which setting or act removes it."""
