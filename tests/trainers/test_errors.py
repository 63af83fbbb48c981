"""Quotations in messages: whole where they are short, and short where they are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.config import ConfigError, ModelConfig
from trainers.errors import LONGEST_QUOTE, quoted, shortened


@given(st.text(max_size=300))
def test_a_quotation_is_short(text: str) -> None:
    short = shortened(text)
    assert len(short) <= LONGEST_QUOTE
    assert short == text or (short.startswith(text[:40]) and f"{text[-10:]} ({len(text)} characters)" in short)


def test_short_values_are_quoted_whole() -> None:
    assert [quoted(value) for value in ("a", 1.5, None, [1])] == ["'a'", "1.5", "None", "[1]"]
    assert shortened("x" * LONGEST_QUOTE) == "x" * LONGEST_QUOTE


def test_a_message_does_not_repeat_a_long_value_whole() -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig(name="perceptron" * 90)
    message = str(caught.value)
    assert message.startswith("models.name = 'perceptronperceptron")
    assert "rceptron' (902 characters): must be 'mlp', 'cnn' or 'module:function'" in message
    assert len(message) < 150
