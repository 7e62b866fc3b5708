"""Every example of the gallery, as a stranger runs it, at a reduced size: it learns, says what, and leaves a picture."""

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
EXAMPLES = HOUSE / "examples"


@dataclass(frozen=True)
class Run:
    """An example at its reduced size.

    Attributes:
        steps: of training.
        figure: how the line with the figure of merit begins.
        chance: percent that guessing would reach.
        least: percent that must be reached.
    """

    steps: int
    figure: str
    chance: float
    least: float


RUNS = {
    "translation": Run(200, "sentences with new numbers", 0.0, 10),
    "document_classification": Run(150, "stars right", 20.0, 50),
    "summarisation": Run(150, "names copied to their place", 12.0, 50),
    "captioning": Run(250, "words right", 52.0, 58),  # those that are always there, and the others by chance
    "detection": Run(200, "things found", 1.0, 5),
}


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_stands_on_the_core_alone(name):
    allowed = {"torch", "numpy", "matplotlib", "scipy", *sys.stdlib_module_names}
    for node in ast.walk(ast.parse((EXAMPLES / f"{name}.py").read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]:
                assert module.split(".")[0] in allowed or module in ("headwise.attention", "headwise.transformer")


def test_readme_names_every_example():
    text = (EXAMPLES / "README.md").read_text()
    assert set(re.findall(r"\[(\w+)\.py\]\(\1\.py\)", text)) == set(RUNS)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_learns_and_leaves_a_picture(name, tmp_path):
    import matplotlib.image

    run, picture = RUNS[name], tmp_path / "picture.png"
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--steps", str(run.steps), "--out", picture],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOUSE / "platform")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = [float(n) for n in re.findall(rf"^{run.figure}.*?: ([\d.]+)%$", done.stdout, re.M)]
    assert figures, done.stdout
    assert figures[-1] >= run.least > run.chance, done.stdout
    pixels = matplotlib.image.imread(picture)
    assert min(pixels.shape[:2]) > 200
    assert pixels[..., :3].std() > 0.02
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
