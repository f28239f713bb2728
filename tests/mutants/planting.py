# SPDX-License-Identifier: Apache-2.0
"""Small changes that a careless hand could make in C, found in its text.

A change is found by patterns in a copy of the text in which comments, literals and directives are
blanks, so that every offset is that of the original. Only bodies of functions are looked at. What
does not compile in the end is no loss: the caller draws another one."""

import re
from dataclasses import dataclass

SPACES = re.compile(r"[^\n]")
BLANKED = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    r"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*",
    re.S | re.M,
)

# Promises that the code checks of itself, and words to people: without them all is as before.
UNJUDGED = re.compile(r"^(?:CHECK\w*|LOG\w*|log_\w+|assert|static_assert|_Static_assert)$")

TURNED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
RETURNS = {"true": "false", "false": "true", "0": "-1"}


@dataclass(frozen=True)
class Change:
    """Puts `text` in place of what stands from `begin` to `end`."""

    path: str
    line: int
    kind: str
    begin: int
    end: int
    text: str

    def planted(self, source):
        return source[: self.begin] + self.text + source[self.end :]


def blanked(source):
    """The same text, as long, with blanks for all that is not code."""
    return BLANKED.sub(lambda found: SPACES.sub(" ", found[0]), source)


def closing(code, at):
    """Where the parenthesis or brace that opens at `at` is closed."""
    pairs = {"(": ")", "{": "}"}
    opening, close, depth = code[at], pairs[code[at]], 0
    for position in range(at, len(code)):
        if code[position] == opening:
            depth += 1
        elif code[position] == close:
            depth -= 1
            if depth == 0:
                return position
    raise ValueError("an unclosed " + opening)


def bodies(code):
    """(begin, end) of each function's body: a brace at the outermost level behind a parenthesis."""
    position = 0
    while (position := code.find("{", position)) >= 0:
        end = closing(code, position)
        if code[:position].rstrip().endswith(")"):
            yield position, end
        position = end


def statement_ends(code, found):
    """Whether a match is a statement of its own: what stands before it ends another one."""
    before = code[: found.start()].rstrip()
    return before.endswith((";", "{", "}", ":", ")")) or before.endswith("else")


def comparisons(code):
    for found in re.finditer(r"(?<![-<>=!])(<=|>=|==|!=|<|>)(?![<>=])", code):
        yield "comparison", found.start(), found.end(), TURNED[found[1]]


def bounds(code):
    for found in re.finditer(r"(?:<=?|>=?|==|!=|[-+])\s*(\d+)\b(?![.\w])", code):
        yield "bound", found.start(1), found.end(1), str(int(found[1]) + 1)
    for found in re.finditer(
        r"(?<![-<>])(?:<=?|>=?|==)\s*(?!NULL\b)([A-Z][A-Z0-9_]+)\b(?!\()", code
    ):
        yield "bound", found.start(1), found.end(1), f"({found[1]} + 1)"


def conditions(code):
    for found in re.finditer(r"\b(if|while)\s*(\()", code):
        end = closing(code, found.start(2))
        values = ("false",) if found[1] == "while" else ("false", "true")
        for value in values:
            yield "condition", found.start(2) + 1, end, value
    for found in re.finditer(r"&&|\|\|", code):
        yield "condition", found.start(), found.end(), "||" if found[0] == "&&" else "&&"
    for found in re.finditer(r"!(?=[\w(])", code):
        yield "condition", found.start(), found.end(), ""


def calls(code):
    for found in re.finditer(r"\b([a-z_A-Z]\w*(?:(?:->|\.)\w+)*)(\()", code):
        if not statement_ends(code, found) or found[1] in (
            "if",
            "while",
            "for",
            "switch",
            "return",
        ):
            continue
        end = closing(code, found.start(2)) + 1
        if code[end : end + 1] == ";" and not UNJUDGED.match(found[1]):
            yield "call", found.start(), end, ""


def counters(code):
    for found in re.finditer(
        r"(?:(?:\+\+|--)[\w.\->\[\]]+|\*?\w[\w.\->\[\]]*\s*" r"(?:\+\+|--|[-+|]=[^=;][^;]*))(?=;)",
        code,
    ):
        if statement_ends(code, found):
            yield "counter", found.start(), found.end(), ""


def fields(code):
    for found in re.finditer(r"\b\w[\w\[\]]*(?:->|\.)[\w.\->\[\]]*\s=\s[^;]*(?=;)", code):
        if statement_ends(code, found):
            yield "field", found.start(), found.end(), ""


def results(code):
    for found in re.finditer(r"\breturn (true|false|0|-E[A-Z]+)(?=;)", code):
        yield "result", found.start(1), found.end(1), RETURNS.get(found[1], "0")


KINDS = (comparisons, bounds, conditions, calls, counters, fields, results)


def unjudged_ranges(code):
    """Where the arguments of checks and log lines are: nothing is planted there."""
    for found in re.finditer(r"\b(\w+)(\()", code):
        if UNJUDGED.match(found[1]):
            yield found.start(), closing(code, found.start(2))


def changes_of(path, source):
    """Every change that can be planted in one file."""
    code = blanked(source)
    inside = list(bodies(code))
    left_alone = list(unjudged_ranges(code))
    for kind in KINDS:
        for name, begin, end, text in kind(code):
            if any(first < begin < last for first, last in inside) and not any(
                first <= begin < last for first, last in left_alone
            ):
                yield Change(path, source.count("\n", 0, begin) + 1, name, begin, end, text)
