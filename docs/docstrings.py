"""How the package's docstrings, written to be read as plain text, become Markdown for the reference.

Aligned lists of arguments become bulleted ones, and brackets and asterisks of formulas stay what they are.
"""

import re
from typing import Any

import griffe

ARGUMENT = re.compile(r"^(?P<names>``[^`]+``(?:, ``[^`]+``)*)(?: {2,}|$)(?P<text>.*)$")


def to_markdown(text: str) -> str:
    """The docstring as Markdown: an argument per bullet, formulas untouched."""
    lines: list[str] = []
    in_list = False
    for line in text.splitlines():
        found = ARGUMENT.match(line)
        if found:
            if not in_list and lines and lines[-1]:
                lines.append("")
            lines.append(f"- {found['names']}: {found['text'].strip()}".rstrip(": "))
            in_list = True
        elif in_list and line.startswith("  ") and line.strip():
            lines[-1] += f" {line.strip()}"  # the rest of an argument's text
        else:
            if in_list and line.strip():
                lines.append("")
            in_list = in_list and not line.strip()
            lines.append(line)
    return "\n".join(_escaped(line) for line in lines)


def _escaped(line: str) -> str:
    if line.startswith("    "):
        return line  # a block of formulas, which Markdown takes as it stands
    pieces = re.split(r"(`+[^`]*`+)", line)
    pieces[::2] = [re.sub(r"\*(?=\w)|\[", r"\\\g<0>", piece) for piece in pieces[::2]]
    return "".join(pieces)


class PlainDocstrings(griffe.Extension):
    """Rewrites every docstring on its way into the reference."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
