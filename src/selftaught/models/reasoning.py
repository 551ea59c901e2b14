"""A reasoning effort in words as a number of tokens, for models that want a number."""

from selftaught.errors import UsageError

# Low to high are the numbers that Google takes the same words for.
_TOKENS = {
    "minimal": 1_024,
    "low": 1_024,
    "medium": 8_192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 32_768,
}


def thinking_tokens(effort: str) -> int:
    """Return the tokens that a model may think.

    Raises:
        UsageError: there is no such word.
    """
    tokens = _TOKENS.get(effort.lower())
    if tokens is None:
        raise UsageError(
            f"There is no reasoning effort {effort!r} for this provider; there are: "
            f"{', '.join(_TOKENS)}."
        )
    return tokens
