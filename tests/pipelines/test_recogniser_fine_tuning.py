"""A recogniser that starts from another's weights, with one character more to write."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from headwise.training.checkpoints import load

if missing := [name for name in ("torchaudio", "soundfile", "espeakng_loader") if find_spec(name) is None]:
    pytest.skip(f"{', '.join(missing)} not installed", allow_module_level=True)

from headwise_speech import synthesis
from headwise_speech.text import Vocabulary

pytestmark = pytest.mark.slow

SIZES = {"train": 31, "valid": 7, "test": 5}
TINY = {
    "model.width": 20,
    "model.blocks": 1,
    "model.heads": 2,
    "model.span": 3,
    "model.channels": 5,
    "seconds": 13,
    "optimizer.warmup": 3,
    "decoder.kind": "greedy",
    "fit.epochs": 1,
    "fit.threads": 1,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("data") / "plain"
    synthesis.generate(data, **SIZES)
    return data


@pytest.fixture(scope="module")
def accented(plain) -> Path:
    """The same recordings, every other one, with ZERO written with an accent."""
    data = plain.with_name("accented")
    shutil.copytree(plain, data)
    for path in data.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            line["text"] = line["text"].replace("ZERO", "ZÉRO")
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines[::2]), encoding="utf-8")
    return data


@pytest.fixture(scope="module")
def earlier(tmp_path_factory, chain, plain) -> Any:
    return chain(tmp_path_factory.mktemp("earlier"), ("train", "speech", "spelled"), plain, TINY)


@pytest.mark.parametrize("freeze", [False, True])
def test_characters_are_matched_and_the_front_end_is_the_earlier_one(freeze, earlier, accented, place) -> None:
    line = [str(accented) if word == str(earlier.data) else word for word in earlier.arguments]
    more = ["--freeze"] if freeze else []
    said = place.run(*line, "--init-from", earlier.model.parent, *more)
    assert said.code == 0, said.err
    new = Vocabulary.load(place.folder / said.json["folder"] / "vocabulary.json").tokens
    old = Vocabulary.load(earlier.model / "vocabulary.json").tokens
    matched = len(set(new) & set(old))
    assert matched < len(new), "one character is new"
    for name in ("weight", "bias"):
        assert f"resized  head.{name}: {matched} of {len(new)} rows, by character" in said.err
    before, after = (weights(folder) for folder in (earlier.model.parent, place.folder / said.json["folder"] / ".."))
    still = {
        name for name in after if before[name].shape == after[name].shape and torch.equal(before[name], after[name])
    }
    constants = {"front_end.mean", "front_end.deviation"}
    assert still == constants | ({name for name in after if name.startswith("encoder.blocks.")} if freeze else set())


def test_another_store_or_width_is_refused(earlier, accented, place) -> None:
    line = [str(accented) if word == str(earlier.data) else word for word in earlier.arguments]
    said = place.run(*line, "--init-from", earlier.outcome["run"], "--model.width=28")
    assert (said.code, "tracking at sqlite:" in said.err) == (2, True), "another store does not know the run"
    said = place.run(*line, "--init-from", earlier.model.parent, "--model.width=28")
    assert said.code == 2
    assert said.err.splitlines()[-1].endswith(
        "model.width is 28, that of the earlier run 20: nothing of its encoder fits; give --model.width 20"
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = load(folder / "checkpoints/best.ckpt")["state_dict"]
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}
