"""Bad input, and how a message quotes it."""

from __future__ import annotations

LONGEST_QUOTE = 80  # characters
LONGEST_LINE = 300  # for what should be read whole: a path, or the message of another error


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the value, what is allowed, and where."""


def quoted(value: object, longest: int = LONGEST_QUOTE) -> str:
    """The value as a message shows it: its ``repr``, shortened."""
    try:
        return shortened(repr(value), longest)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes, or a table that is too deep
        if isinstance(value, int):
            return f"a number of some {int(value.bit_length() * 0.30103):,} digits"
        return f"a {type(value).__name__} that is too large to show"


def shortened(text: str, longest: int = LONGEST_QUOTE) -> str:
    """``text`` in at most ``longest`` characters: of a longer one the beginning, the end, and how long it is."""
    if len(text) <= longest:
        return text
    length = f" ({len(text)} characters)"
    return f"{text[: longest - 13 - len(length)]} … {text[-10:]}{length}"
