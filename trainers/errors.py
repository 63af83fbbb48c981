"""Bad input, and how a message quotes it."""

from __future__ import annotations

LONGEST_QUOTE = 80  # characters


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the value, what is allowed, and where."""


def quoted(value: object) -> str:
    """The value as a message shows it: its ``repr``, shortened."""
    return shortened(repr(value))


def shortened(text: str) -> str:
    """``text`` in at most 80 characters: of a longer one the beginning, the end, and how long it is."""
    if len(text) <= LONGEST_QUOTE:
        return text
    length = f" ({len(text)} characters)"
    return f"{text[: LONGEST_QUOTE - 13 - len(length)]} … {text[-10:]}{length}"
