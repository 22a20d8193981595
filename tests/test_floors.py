"""The house: every module on its floor, every stair going down, no door between the rooms of one floor, no cycle."""

import ast
import pathlib

import pytest

SOURCE = pathlib.Path(__file__).parent.parent / "src" / "quell"

# Rooms by floor. Rooms in one set have no doors between them; within a list, later ones may import earlier ones.
FLOORS: list[list[set[str]]] = [
    [{"sentences", "units"}, {"delivery"}, {"keys", "evidence", "bounded", "store"}, {"blocks"}, {"machine"}],
    [{"promises"}, {"questions"}, {"protocol"}, {"cells"}, {"parquet"}, {"tables"}, {"study"}, {"outcomes"}],
    [{"body", "measure", "analysis", "exchange"}],
    [{"allocation", "posterior"}, {"trial", "calibrate"}, {"applicability"}],
    [{"design"}, {"impact", "exam"}, {"response"}, {"credibility"}],
    [{"figures"}, {"report"}],
    [{"verbs", "exam_verb", "own_verb", "design_verb"}, {"cli", "web"}],
]
# What a room may see of the floors below: less than everything, by design.
SEES = {
    "analysis": {"protocol", "promises", "questions", "study", "outcomes", "tables", "units", "keys", "sentences"},
    "body": {"units", "keys", "blocks", "machine", "sentences"},
}
SHUNNED = {"utils", "util", "core", "common", "helpers", "types", "config", "exceptions", "misc"}
# Only trial sees both promise and body; only design (and what stands above it) sees both trial and analysis.
HEIGHT = {room: (f, s) for f, floor in enumerate(FLOORS) for s, step in enumerate(floor) for room in step}


def modules() -> list[pathlib.Path]:
    return sorted(path for path in SOURCE.rglob("*.py"))


def room_of(path: pathlib.Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: pathlib.Path) -> list[tuple[str, int]]:
    """Full dotted names of quell modules that a file imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module and node.module.split(".")[0] == "quell":
                found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names if alias.name.split(".")[0] == "quell"]
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_stair_goes_down(path: pathlib.Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in HEIGHT, f"the room '{room}' has no floor: give it a row in FLOORS"
    for name, line in imports(path):
        target = name.split(".")[1] if "." in name else ""
        if target in ("", "__version__", room):
            continue
        assert target in HEIGHT, f"{path}:{line}: imports '{name}', which has no floor"
        assert HEIGHT[target] < HEIGHT[room], f"{path}:{line}: '{room}' must not import '{target}'"
        if room in SEES:
            assert target in SEES[room], f"{path}:{line}: '{room}' must not see '{target}'"


def test_no_cycle_between_modules() -> None:
    names = {
        ".".join(("quell", *p.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): p
        for p in modules()
    }

    def edges(name: str) -> set[str]:
        found = set()
        for full, _ in imports(names[name]):
            while full and full not in names:
                full = full.rpartition(".")[0]
            if full and full not in ("quell", name):
                found.add(full)
        return found

    graph = {name: edges(name) for name in names}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"import cycle: {' > '.join((*above[above.index(name) :], name))}"
        if name in done:
            return
        for other in sorted(graph[name]):
            visit(other, (*above, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_small_and_named(path: pathlib.Path) -> None:
    assert not SHUNNED & set(path.relative_to(SOURCE).with_suffix("").parts), f"{path} is a room without a name"
    text = path.read_text("utf-8")
    assert text.count("\n") <= 500, f"{path}: split it by meaning"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            size = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert size <= 60, f"{path}:{node.lineno}: {node.name} has {size} lines"
            if any("app.command" in ast.unparse(decorator) for decorator in node.decorator_list):
                continue  # a command's options are its user's
            arguments = [a.arg for a in (*node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")]
            assert len(arguments) <= 9, (
                f"{path}:{node.lineno}: {node.name} takes {len(arguments)} arguments: a noun is missing"
            )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_chance_comes_only_by_address(path: pathlib.Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            assert "random" not in names, f"{path}:{node.lineno}: the random module has no addresses"
        if isinstance(node, ast.Attribute) and node.attr == "random" and isinstance(node.value, ast.Name):
            assert node.value.id not in ("np", "numpy"), f"{path}:{node.lineno}: numpy.random has no addresses"
