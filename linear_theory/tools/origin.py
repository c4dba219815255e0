"""What a result was computed by: a digest of each module that its code can reach, and the versions of its numerics.

A digest is of what computes. Comments, layout and documentation strings do not count, nor do the functions named draw_…
and the lists FIGURES of the wing that draws, nor modules that are never imported. So a kept result stays good for as
long as it would come out the same again, and where it is not, the names of what changed say why.
"""

import ast
import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the wings: of the checkout, or of the installed package."""
PROJECT = "stopgrad"
PICTURES = "stopgrad.figures."
"""The wing whose functions draw_… and _draw_… draw pictures; elsewhere such a name may draw random numbers."""
PLUMBING = (
    *(f"stopgrad.{wing}" for wing in ("linear_theory", "deep", "experiments", "figures")),
    *(f"stopgrad.linear_theory.tools.{name}" for name in ("door", "errors", "exports", "files", "kept", "origin")),
)
"""What the wings export by name, arguments, refusals, files and this module: they change no number, and never count."""
NUMERICS = ("numpy", "scipy", "torch")
version = functools.cache(metadata.version)
"""A package's version, for which its files are read once in a process."""


def modules(name: str, silent: Sequence[str] = (), root: Path = ROOT, pictures: bool = False) -> dict[str, str]:
    """{module: digest} of the module `name` and of all the project's modules that it imports, directly or not.

    `name` itself may be anybody's module, a script too. `silent` modules (or patterns: "stopgrad.deep.words*") change
    no result: neither they nor what only they import count. With `pictures` functions that draw count too. Each file is
    read once in a process, since one edited while the work goes on is not the code that does it.
    """
    file = None if name.startswith(f"{PROJECT}.") else getattr(sys.modules.get(name), "__file__", None)
    return dict(_reached(name, (*silent, *PLUMBING), Path(root), pictures, file))


@functools.cache
def _reached(name: str, skipped: tuple[str, ...], root: Path, pictures: bool, file: str | None) -> dict[str, str]:
    """`modules`, told what it skips and the file of a module that is not of the project."""
    digests, todo = {}, [name]
    while todo:
        module = todo.pop()
        foreign = not module.startswith(f"{PROJECT}.")
        if module in digests or (foreign and module != name) or _matches(module, skipped):
            continue
        found = _parsed(module, root, pictures, file if foreign else None)
        if found:
            digests[module], imported = found
            todo += imported
        elif not foreign:
            todo += _homes(module, root)
        if "." in module and not foreign:
            todo.append(module.rpartition(".")[0])  # importing a.b executes a
    return dict(sorted(digests.items()))


@functools.cache
def _matches(module: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(module, pattern) for pattern in patterns)


def code(
    name: str, silent: Sequence[str] = (), packages: Sequence[str] = NUMERICS, root: Path = ROOT
) -> dict[str, str]:
    """`modules(name, silent)`, and {package: version}."""
    return modules(name, silent, root) | {package: version(package) for package in packages}


def call(function: Callable) -> tuple[str, str]:
    """(module, digest of name and arguments) of a function, or of a functools.partial of one."""
    arguments = []
    while isinstance(function, functools.partial):
        arguments += [function.args, sorted(function.keywords.items())]
        function = function.func
    return function.__module__, digest(f"{function.__module__}.{function.__qualname__} {arguments!r}")


def of_class(kind: type, silent: Sequence[str] = (), root: Path = ROOT) -> dict[str, str]:
    """`modules` of the module that defines a class; of one outside of the project, as in a script, that file alone."""
    if kind.__module__.startswith(f"{PROJECT}."):
        return modules(kind.__module__, silent, root)
    try:
        text = inspect.getsource(sys.modules[kind.__module__])
    except (OSError, TypeError, KeyError):  # typed into a prompt
        text = repr(sorted(vars(kind)))
    return {f"{kind.__module__}.{kind.__qualname__}": digest(text)}


def difference(old: dict, now: dict) -> str | None:
    """'a, b changed': the entries in which two origins differ; None where they agree."""
    changed = sorted(name for name in {*old, *now} if old.get(name) != now.get(name))
    return f"{', '.join(changed)} changed" if changed else None


def digest(text: str) -> str:
    """16 hexadecimal digits of the text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_of(module: str, root: Path = ROOT) -> Path | None:
    """The file of a module or package of the project; None where there is none."""
    path = root.joinpath(*module.split(".")[1:])
    files = (path.with_name(f"{path.name}.py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


@functools.cache
def _parsed(module: str, root: Path, pictures: bool, foreign: str | None) -> tuple[str, tuple[str, ...]] | None:
    """(digest of what computes, names that may be imported modules) of a module; None where there is no such file.

    `foreign`: the file of a module that is not of the project.
    """
    file = Path(foreign) if foreign else file_of(module, root)
    if file is None:
        return None
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    imported = tuple(dict.fromkeys(_imported(tree, package)))
    computing = _Computing(bool(foreign) or module.startswith(PICTURES), pictures)
    return digest(ast.dump(computing.visit(tree))), imported


@functools.cache
def _homes(name: str, root: Path) -> tuple[str, ...]:
    """The modules behind a name that a package offers by a table {"room.file": "name name"}; of `package.*`, all."""
    package, _, short = name.rpartition(".")
    file = root.joinpath(*package.split(".")[1:], "__init__.py")
    if not file.is_file():
        return ()
    tables = (node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Dict))
    rows = [tuple(getattr(v, "value", None) for v in row) for t in tables for row in zip(t.keys, t.values)]
    rows = [row for row in rows if all(isinstance(v, str) for v in row)]
    return tuple(f"{package}.{home}" for home, names in rows if short == "*" or short in names.split())


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Names that may be modules in every import at any depth, `import_module("…")` included."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name for alias in names for name in (alias.name, f"{alias.name}.*"))
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base = ".".join([*above, *([module] if module else [])])
                yield base
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


class _Computing(ast.NodeTransformer):
    """Drops what changes no number: documents, offered names; in the wing that draws draw_…, and lists of figures."""

    def __init__(self, draws: bool, pictures: bool):
        self.draws, self.pictures = draws, pictures

    def visit_Expr(self, node):
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)

    def visit_Assign(self, node):
        listed = self.draws and ast.unparse(node.targets[0]) == "FIGURES"
        offered = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", None) == "exports"
        return None if listed or offered else self.generic_visit(node)

    def visit_FunctionDef(self, node):
        draws = self.draws and not self.pictures and node.name.lstrip("_").startswith("draw_")
        return None if draws else self.generic_visit(node)
