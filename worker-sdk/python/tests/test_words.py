"""Examples in docstrings and in the guide, and the stubs."""

import ast
import doctest
import inspect
import pathlib
import re

import hotpair
import hotpair.testing

HERE = pathlib.Path(hotpair.__file__).parent
GUIDE = pathlib.Path(__file__).parents[3] / "docs" / "workers-python.md"


def test_docstrings():
    for module in (hotpair, hotpair.testing):
        failed, tried = doctest.testmod(module)
        assert tried > 0 and failed == 0, module


def test_the_guide():
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.M | re.S)
    assert len(blocks) > 2
    names = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)  # one after the other, as one reads


def test_the_stubs_name_what_there_is():
    for module, stub in ((hotpair, "__init__.pyi"), (hotpair.testing, "testing.pyi")):
        for node in ast.parse((HERE / stub).read_text()).body:
            if isinstance(node, ast.FunctionDef):
                assert inspect.isfunction(getattr(module, node.name))
            if isinstance(node, ast.ClassDef):
                there = getattr(module, node.name)
                members = {n.name for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
                public = {name for name in vars(there) if not name.startswith("_")}
                named = {name for name in members if not name.startswith("_")}
                if not issubclass(there, Exception):
                    assert named == public, node.name
    assert set(hotpair.__all__) <= set(dir(hotpair))
