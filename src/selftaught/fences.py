"""Finding the program in a language model's answer.

This file imports the standard library only: its text is also what a program inside the
sandbox gets as `helpers`, so that host and guest extract exactly the same code.
"""

import ast
import re
from typing import Any

_FENCE = re.compile(r"```([A-Za-z0-9_+#.-]*)")


def extract_code(answer: Any) -> Any:
    """Return the largest fenced block of an answer, or None where it has none.

    Fences nest: the code may itself contain fences (an improver builds prompts from them), so
    a fence with a language name opens and a bare one closes, and the outermost pair counts.
    Where counting leaves text that is no Python but a shorter or longer extent of the same
    block is, the longest extent that parses is returned. An answer that was cut off before its
    closing fence yields what there is.

    Args:
        answer: one answer (str), or a list of answers.

    Returns:
        The code without its fences for a string; a list of the same length for a list. None
        stands for an answer without a fence or that is no string.
    """
    if isinstance(answer, (list, tuple)):
        return [extract_code(one) for one in answer]
    if not isinstance(answer, str):
        return None
    blocks = [_best_extent(answer, start, end) for start, end in _outer_blocks(answer)]
    return max(blocks, key=len) if blocks else None


def _outer_blocks(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of the content of each outermost fence; an open last one runs on."""
    blocks, depth, start = [], 0, 0
    for fence in _FENCE.finditer(text):
        if depth == 0:
            depth, start = 1, fence.end()
        elif fence.group(1):
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                blocks.append((start, fence.start()))
    if depth:
        blocks.append((start, len(text)))
    return blocks


def _best_extent(text: str, start: int, end: int) -> str:
    code = text[start:end].strip("\n")
    closers = [m.start() for m in _FENCE.finditer(text, start) if not m.group(1)]
    if all(close == end for close in closers) or _parses(code):
        # Where there is one extent, whether it parses makes no difference.
        return code
    for close in sorted(closers, reverse=True)[:40]:
        longer = text[start:close].strip("\n")
        if _parses(longer):
            return longer
    return code


def _parses(code: str) -> bool:
    if not code.strip():
        return False
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
