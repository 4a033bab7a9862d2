"""The wheel holds one package, `diag`, with `probes` and `traces` inside: their own names are others' on PyPI.

A checkout and an editable install have the three side by side, as the sources say (docs/ARCHITECTURE.md).
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OUTER, INNER = "diag", ("probes", "traces")
SHIPPED = (".py", ".toml", ".typed", ".html", ".css", ".js")
COMMAND = re.compile(rf"python -m (?=({'|'.join(INNER)})\b)")


class OnePackage(BuildHookInterface[Any]):
    """Gives hatchling a copy of the packages with their new names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self.copy = tempfile.mkdtemp()
        if version == "editable":
            return
        root = Path(self.root)
        for path in (path for name in (OUTER, *INNER) for path in sorted((root / name).rglob("*"))):
            place = path.relative_to(root)
            if path.suffix in SHIPPED:
                copied = Path(self.copy, "" if place.parts[0] == OUTER else OUTER, place)
                copied.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix == ".py":
                    copied.write_text(moved(path.read_text("utf-8"), root), "utf-8")
                else:
                    shutil.copy(path, copied)
        build_data["force_include"][str(Path(self.copy, OUTER))] = OUTER

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self.copy)


def moved(source: str, root: Path) -> str:
    """The text of a module with the new names: where it imports, where a string names a module, and in commands.

    root: the folder of the packages.  Raises ValueError for `import traces`, which binds the name itself.
    """
    lines = source.splitlines(keepends=True)
    places = sorted({place for node in ast.walk(ast.parse(source)) for place in _names_in(node, root)}, reverse=True)
    for line, column in places:  # from the end, so that the columns before it stay
        text = lines[line - 1]
        found = re.compile(rf"(?:{'|'.join(INNER)})\b").search(text, len(text.encode()[:column].decode()))
        assert found is not None
        lines[line - 1] = f"{text[: found.start()]}{OUTER}.{text[found.start() :]}"
    return COMMAND.sub(f"python -m {OUTER}.", "".join(lines))


def _names_in(node: ast.AST, root: Path) -> list[tuple[int, int]]:
    """(line, column in bytes) of what holds a name of an inner package that has to change."""
    if isinstance(node, ast.Import) and any(alias.name.partition(".")[0] in INNER for alias in node.names):
        raise ValueError(f"line {node.lineno}: write `from {node.names[0].name} import ...`")
    if isinstance(node, ast.ImportFrom) and not node.level and str(node.module).partition(".")[0] in INNER:
        return [(node.lineno, node.col_offset)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_module(node.value, root):
        return [(node.lineno, node.col_offset)]
    return []


def _is_module(text: str, root: Path) -> bool:
    first, dot, _ = text.partition(".")
    if not dot or first not in INNER or not re.fullmatch(r"\w+(\.\w+)+", text):
        return False
    path = root.joinpath(*text.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
