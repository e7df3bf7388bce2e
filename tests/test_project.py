"""The house rules that no linter knows: sizes, names, floors, words on every public thing, the weight of an install."""

import ast
import re
import tomllib
from collections import deque
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "fieldwright"
MODULES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FORBIDDEN = {"utils", "util", "helpers", "helper", "misc", "common", "tools", "core", "base_utils"}


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, known: set[str]) -> set[str]:
    """The package's own modules that a file imports when it is loaded (imports inside functions are left out)."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found & known


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_module_is_short_and_named_for_its_idea(path):
    assert len(path.read_text().splitlines()) < 600
    assert path.stem not in FORBIDDEN
    assert len(path.relative_to(PACKAGE).parts) <= 3, "two folder levels below the package at most"


def test_modules_import_each_other_in_no_circle():
    known = {dotted(path) for path in MODULES}
    # A package's __init__ hands names on, so importing a sibling through it is not a circle of ideas.
    graph = {dotted(path): imports(path, known) - {dotted(path)} for path in MODULES if path.name != "__init__.py"}
    waiting = {name: len([n for n in needs if n in graph]) for name, needs in graph.items()}
    ready = deque(name for name, count in waiting.items() if count == 0)
    done = set()
    while ready:
        name = ready.popleft()
        done.add(name)
        for other, needs in graph.items():
            if name in needs:
                waiting[other] -= 1
                if waiting[other] == 0:
                    ready.append(other)
    assert set(graph) == done, f"modules in a circle: {sorted(set(graph) - done)}"


def public_without_words(path: Path) -> list[str]:
    """Public functions, classes and methods without a docstring.

    A method whose class inherits says what it does where it is first stated; a property's name and type say it; a
    function inside a function is nobody's face.
    """
    missing = []

    def visit(node: ast.Module | ast.ClassDef, prefix: str, inherits: bool) -> None:
        for child in node.body:
            if not isinstance(child, (ast.FunctionDef, ast.ClassDef)) or child.name.startswith("_"):
                continue
            decorators = {ast.unparse(d).split("(")[0].split(".")[-1] for d in child.decorator_list}
            excused = isinstance(child, ast.FunctionDef) and (
                inherits
                or child.name == "forward"
                or decorators & {"property", "overload", "setter", "cached_property"}
            )
            if ast.get_docstring(child) is None and not excused:
                missing.append(f"{prefix}{child.name}")
            if isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}{child.name}.", bool(child.bases))

    tree = ast.parse(path.read_text())
    visit(tree, "", False)
    if ast.get_docstring(tree) is None:
        missing.append("the module itself")
    return missing


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_everything_public_says_what_it_is(path):
    assert not public_without_words(path)


def test_floors_hold():
    linter = pytest.importorskip("importlinter.cli", reason="import-linter comes with the test extra")
    assert (
        linter.lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None) == linter.EXIT_STATUS_SUCCESS
    )


def test_a_plain_install_brings_at_most_sixty_packages():
    needed, queue = set(), [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    while queue:
        requirement = queue.pop()
        seen = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if seen in needed:
            continue
        needed.add(seen)
        for text in metadata.requires(requirement.name) or ():
            child = Requirement(text)
            extras = requirement.extras or {""}
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                queue.append(child)
    packages = {name for name, _ in needed}
    # A CUDA build of torch brings NVIDIA's libraries as packages of their own; they belong to the device.
    assert len({name for name in packages if not name.startswith(("nvidia-", "cuda-", "triton"))}) <= 60


def test_no_two_files_of_the_tests_have_one_name():
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))  # pytest imports them by their names alone


def test_every_package_of_a_plain_install_and_of_the_tests_is_pinned():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines)
    pins = dict(line.split("==") for line in lines)
    assert pins["torch"] == "2.13.0"
    extras = PROJECT["project"]["optional-dependencies"]
    for text in PROJECT["project"]["dependencies"] + extras["test"] + extras["docs"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def start_blocks() -> list[str]:
    section = (ROOT / "README.md").read_text().split("\n## Start\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)


def test_readme_starts_with_the_demo_and_the_tests():
    assert [block.strip() for block in start_blocks()[:2]] == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "check", "bench", "docs", "clean", "reproduce"):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_version_is_stated_once_and_the_same():
    assert metadata.version("fieldwright") == PROJECT["project"]["version"]
    assert f'version: "{PROJECT["project"]["version"]}"' in (ROOT / "CITATION.cff").read_text()


def test_every_room_of_the_source_has_its_tests():
    rooms = {path.relative_to(PACKAGE).parts[0] for path in MODULES if path.parent != PACKAGE}
    tests = ROOT / "tests"
    untested = {room for room in rooms if not [*(tests / room).glob("test_*.py"), *tests.glob(f"test_{room}*.py")]}
    assert not untested
