"""Texts from programs and models as data: cut where long, harmless where they are shown."""

import re

# Control characters but for tab and line feed; marks that turn the direction of writing.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def shortened(text: str, most_chars: int, *, keep_end: bool = False) -> str:
    """Return a text of at most `most_chars` characters, with a mark where something was cut.

    Args:
        text: any text.
        most_chars: the limit, the mark included; one too small for the mark leaves no mark.
        keep_end: cut in the middle, since the end matters as well.
    """
    if len(text) <= most_chars:
        return text
    # The mark's own length changes with the number in it, but never by more than this bound.
    room = most_chars - len(_mark(len(text)))
    if room < 0:
        return text[:most_chars]
    tail = room // 2 if keep_end else 0
    mark = _mark(len(text) - room)
    return text[: room - tail] + mark + (text[-tail:] if tail else "")


def _mark(chars: int) -> str:
    return f"\n[… {chars:,} characters cut …]\n"


def visible(text: str) -> str:
    """Return a text with hidden characters written out as `\\uXXXX`, which no terminal obeys.

    Inside a JSON string the result means the same as before.
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
