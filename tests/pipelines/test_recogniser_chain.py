"""One command, from recordings to a served recogniser: everything that it promises is there."""

import io
import json
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headwise.model_folder import read_card
from headwise.serving.app import create_app
from headwise.training.checkpoints import restore
from headwise_pipelines.configuration import configure
from headwise_pipelines.serve import load

if missing := [name for name in ("torchaudio", "soundfile", "espeakng_loader") if find_spec(name) is None]:
    pytest.skip(f"{', '.join(missing)} not installed", allow_module_level=True)

import soundfile

from headwise_pipelines.speech.decoder import Decoder
from headwise_pipelines.speech.presets import spelled
from headwise_pipelines.speech.report import listen
from headwise_pipelines.speech.train import build
from headwise_speech import synthesis
from headwise_speech.prepare import prepare
from headwise_speech.task import RecogniserTask
from headwise_speech.text import Vocabulary

pytestmark = pytest.mark.slow

LANGUAGE = "language.arpa.gz"
SIZES = {"train": 61, "valid": 13, "test": 17}
TINY = {
    "model.width": 20,
    "model.blocks": 1,
    "model.heads": 2,
    "model.span": 3,
    "model.channels": 5,
    "seconds": 13,
    "optimizer.warmup": 5,
    "decoder.width": 7,
    "decoder.bonus": 11,  # so that a model that has learnt nothing yet says something
    "fit.epochs": 2,
    "fit.threads": 1,
}


@pytest.fixture(scope="module")
def heard(tmp_path_factory, migrated, chain) -> Any:
    data = tmp_path_factory.mktemp("data") / "spelled"
    synthesis.generate(data, **SIZES)
    return chain(tmp_path_factory.mktemp("recogniser"), ("train", "speech", "spelled"), data, TINY)


def test_run_is_finished_whole_and_registered(heard) -> None:
    with heard.place.entered() as client:
        run = client.get_run(heard.outcome["run"])
        figures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
        version = client.get_model_version_by_alias("recogniser", "champion")
    assert (run.info.status, version.run_id, int(version.version)) == ("FINISHED", run.info.run_id, 1)
    assert run.data.params.items() >= {"model.width": "20", "augment.bands": "1", "decoder.kind": "lexicon"}.items()
    assert run.data.metrics["test/wer"] == heard.outcome["metrics"]["wer"]
    assert run.data.metrics["baseline/commonest text/wer"] == heard.outcome["baselines"]["commonest text"]["wer"]
    assert {"valid/loss", "train/loss", "system/cpu_utilization_percentage"} <= run.data.metrics.keys()
    assert figures == {f"figures/{name}.png" for name in ("learning curves", "attention", "explanation")}
    assert json.loads(run.inputs.dataset_inputs[0].dataset.profile)["utterances"] == sum(SIZES.values())


def test_model_folder_is_complete(heard) -> None:
    card = read_card(heard.model)
    assert card.files.keys() == {
        "recogniser.onnx",
        "explanation.onnx",
        "examples.npz",
        "vocabulary.json",
        "words.json",
        LANGUAGE,
    }
    assert card.settings == {
        "sample_rate": 16000,
        "hop": 640,
        "voice": False,
        "decoder": "lexicon",
        "beam": {"unit": "word", "width": 7, "weight": 0.3, "bonus": 11.0},
    }
    for parity in (card.parity, card.parity["explanation"]):
        assert parity["max_difference"] <= parity["tolerance"]


def test_served_transcripts_are_those_of_the_trained_model(heard, talking_to) -> None:
    data = prepare(heard.data, heard.place.folder / ".headwise/data")
    config = configure(spelled, [flag for flag in heard.arguments if "=" in flag], command="test", again=None)
    texts = [data.texts[index] for index in data.subset("train")]
    vocabulary = Vocabulary.of(texts)
    model = build(config, data, vocabulary)
    task = RecogniserTask(model, vocabulary, config.optimizer, config.augment)
    restore(task, heard.model.parent / "checkpoints/best.ckpt")
    with torch.inference_mode():
        want = listen(model, Decoder(config.decoder, vocabulary, texts).transcriber(model), vocabulary, data, "test")
    with heard.place.entered():
        app = create_app([load("models:/recogniser@champion")])
    with talking_to(app) as client:
        answers = [
            client.post("/v1/audio/transcriptions", files={"file": ("a.wav", wav(data.waveform(index)))}).json()
            for index in want.indices.tolist()
        ]
    assert [answer["text"] for answer in answers] == list(want.hypotheses)
    assert len(set(want.hypotheses)) > 1  # they do say something
    assert want.metrics() == heard.outcome["metrics"]


def wav(waveform: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, 16000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def test_transcribe_and_evaluate_hear_the_same(heard) -> None:
    recordings = [Path(heard.data) / "audio/test-0000.wav", Path(heard.data) / "audio/test-0001.wav"]
    said = heard.place.run("transcribe", "models:/recogniser@champion", *recordings, "--json")
    assert said.code == 0, said.err
    words = heard.place.run("transcribe", heard.model, *recordings)
    texts = [said.json["files"][str(recording)]["text"] for recording in recordings]
    assert words.out.splitlines() == [f"{file}: {text}" for file, text in zip(recordings, texts, strict=True)]
    why = heard.place.run("transcribe", heard.model, recordings[0], "--explain", "--json")
    [answer] = why.json["files"].values()
    assert (answer["text"], answer["hop"]) == (texts[0], 0.04)
    assert [word["word"] for word in answer["words"]] == texts[0].split()
    assert all(sum(word["attention"]) == pytest.approx(1, abs=1e-3) for word in answer["words"])
    figures = heard.place.run("evaluate", "models:/recogniser@champion", "--data", heard.data, "--json")
    assert figures.json["metrics"] == heard.outcome["metrics"]
    assert figures.json["baselines"] == heard.outcome["baselines"]


def test_stopped_and_continued_it_hears_as_if_nothing_had_been(heard, place, monkeypatch) -> None:
    step = RecogniserTask.training_step

    def interrupted(task: RecogniserTask, batch: Any, number: int) -> Any:
        if (task.current_epoch, number) == (1, 3):
            signal.raise_signal(signal.SIGINT)
        return step(task, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(RecogniserTask, "training_step", interrupted)
        stopped = place.run(*heard.arguments)
    assert stopped.code == 130, stopped.err
    again = place.run(*heard.arguments)
    assert again.code == 0, again.err
    assert f"continued run {again.json['run']}" in again.err
    assert (again.json["metrics"], again.json["version"]) == (heard.outcome["metrics"], 1)
