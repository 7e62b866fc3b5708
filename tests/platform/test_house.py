"""What the house looks like is part of its contract: roots that are no packages, a core that needs torch alone, exact exports."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
ROOTS = "platform", "recsys", "speech", "pipelines"
EXACT = "headwise.attention", "headwise.transformer"

BROUGHT = """
import sys
import torch, jaxtyping
before = set(sys.modules)
import headwise.attention
print(*sorted(set(sys.modules) - before))
"""


def python(code):
    environment = {"PYTHONPATH": str(HOUSE / "platform")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=HOUSE, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def files(package):
    return sorted((HOUSE / "platform" / package.replace(".", "/")).rglob("*.py"))


@pytest.mark.parametrize("root", ROOTS)
def test_a_root_is_not_a_package(root):
    assert (HOUSE / root).is_dir()
    assert not (HOUSE / root / "__init__.py").exists(), f"{root}/__init__.py would make the source root a package"


def test_tests_are_not_packages():
    assert [str(path.relative_to(HOUSE)) for path in (HOUSE / "tests").rglob("__init__.py")] == []


def test_platform_is_pythons_own():
    assert python("import platform; print(platform.python_version(), platform.__file__)")[0].count(".") == 2
    import platform

    assert not Path(platform.__file__).is_relative_to(HOUSE / "platform")


def test_the_core_imports_nothing_but_torch_and_jaxtyping():
    allowed = {"headwise", "torch", "jaxtyping", *sys.stdlib_module_names}
    for path in files("headwise.attention"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                assert {name.split(".")[0] for name in names} <= allowed, f"{path.name}:{node.lineno}"


def test_the_core_brings_nothing_that_torch_and_jaxtyping_do_not():
    brought = {name for name in python(BROUGHT) if name.split(".")[0] not in sys.stdlib_module_names}
    inside = {name for name in brought if name == "headwise" or name.startswith("headwise.attention")}
    lazily = {name for name in brought if name.split(".")[0] == "torch"}  # torch imports some of itself on first use
    assert brought - inside - lazily == set()
    assert {"headwise.attention", "headwise.attention.kernels"} <= inside


@pytest.mark.parametrize("name", EXACT)
def test_all_is_exact(name):
    package = importlib.import_module(name)
    defined = {public for path in files(name) if path.name[0] != "_" for public in publics(path)}
    assert sorted(package.__all__) == sorted(defined)
    assert package.__all__ == sorted(package.__all__, key=lambda n: (n.islower(), n)), "constants, classes, functions"
    for public in package.__all__:
        assert getattr(package, public) is not None


def publics(path):
    """The names that a module defines, as opposed to imports, without a leading underscore."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign):
            names = [node.target.id]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


@pytest.mark.parametrize("name", EXACT)
def test_every_module_is_imported_by_its_package(name):
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(package.__path__, f"{name}."):
        assert module.name in sys.modules
