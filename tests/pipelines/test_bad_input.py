"""Bad data, bad recordings, a full disk and a damaged model: one clear message, and nothing half-written."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwise.files import sha256
from headwise.model_folder import read_card
from headwise.serving.app import create_app
from headwise_pipelines.serve import load

soundfile = pytest.importorskip("soundfile")

RATE = 8000  # Hz
TRANSCRIPTIONS, RECOMMENDATIONS = "/v1/audio/transcriptions", "/v1/recommendations"


def tone(seconds: float) -> np.ndarray:
    return np.sin(np.arange(int(seconds * RATE)) / 5).astype(np.float32) / 2


def encoded(samples: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, **({"format": "WAV"} | options))
    return file.getvalue()


def two_hours() -> bytes:
    # Silence of 1 kHz in FLAC: hours in a few thousand bytes.
    file = io.BytesIO()
    soundfile.write(file, np.zeros(7200 * 1000, np.int16), 1000, format="FLAC")
    return file.getvalue()


def truncated() -> bytes:
    whole = encoded(np.random.default_rng(3).uniform(-0.5, 0.5, 3 * RATE), format="FLAC")
    return whole[: len(whole) // 2]


RECORDINGS: dict[str, tuple[Callable[[], bytes], str]] = {
    "silent.wav": (lambda: encoded(np.zeros(0, np.float32)), "holds 0 samples"),
    "empty.wav": (lambda: b"", ""),
    "text.wav": (lambda: b"these are words, not sound\n" * 11, "not audio that can be read"),
    "cut.flac": (truncated, "truncated"),
    "nan.wav": (
        lambda: encoded(np.where(np.arange(2 * RATE) == 13, np.nan, tone(2)), subtype="FLOAT"),
        "sample 13 is nan",
    ),
}

SPOKEN = {"id": "good", "audio": "good.wav", "text": "ONE TWO", "speaker": "s"}
EVENTS: dict[str, tuple[bytes, str]] = {
    "no column": (b"who,what,when\na,b,1\n", "events.csv: "),
    "empty": (b"", "events.csv: is empty"),
    "head alone": (b"user,item,timestamp\n", "events.csv: has no events"),
    "not UTF-8": ("user,item,timestamp\nJosé,b,1\n".encode("latin-1"), "events.csv, line 2: "),
    "no time": (b"user,item,timestamp\na,b,1\na,c,soon\n", "events.csv, line 3"),
    "no item": (b"user,item,timestamp\na,b,1\na,,2\n", "events.csv, line 3"),
}


@pytest.mark.parametrize("kind", EVENTS)
def test_events_that_cannot_be_read_name_file_and_line(kind, place) -> None:
    content, message = EVENTS[kind]
    data = place.folder / "events.csv"
    data.write_bytes(content)
    said = place.run("train", "recsys", "shopping", "--data", data)
    assert said.code == 2, said.err
    assert message in said.refusal
    assert place.files() == {"events.csv"}


def test_a_manifest_whose_recording_is_missing_names_file_and_line(place) -> None:
    (place.folder / "good.wav").write_bytes(encoded(tone(1)))
    lines = [SPOKEN, SPOKEN | {"id": "gone", "audio": "gone.wav"}, SPOKEN | {"id": "lost", "audio": "lost.wav"}]
    (place.folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    said = place.run("train", "speech", "spelled", "--data", place.folder / "train.jsonl")
    assert said.code == 2
    assert "train.jsonl, line 2: audio 'gone.wav': no such file in " in said.refusal
    assert "and 1 more such line" in said.refusal
    assert place.files() == {"good.wav", "train.jsonl"}


@pytest.mark.parametrize("name", RECORDINGS)
def test_training_names_the_recording_that_cannot_be_used(name, place) -> None:
    make, message = RECORDINGS[name]
    (place.folder / "good.wav").write_bytes(encoded(tone(1)))
    (place.folder / name).write_bytes(make())
    lines = [SPOKEN, SPOKEN | {"id": "bad", "audio": name}, SPOKEN | {"id": "third"}]
    (place.folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    before = place.files()
    said = place.run("train", "speech", "spelled", "--data", place.folder / "train.jsonl")
    assert said.code == 2, said.err
    assert f"{name}: {message}" in said.refusal
    assert place.files() == before


@pytest.mark.parametrize("name", RECORDINGS)
def test_transcribe_names_the_recording_and_why(name, place, recogniser_folder) -> None:
    make, message = RECORDINGS[name]
    (place.folder / name).write_bytes(make())
    said = place.run("transcribe", recogniser_folder, place.folder / name, "--json")
    assert said.code == 2, said.err
    assert f"{name}: {message}" in said.refusal


def test_transcribe_refuses_two_hours_by_the_header(place, recogniser_folder) -> None:
    (place.folder / "long.flac").write_bytes(two_hours())
    said = place.run("transcribe", recogniser_folder, place.folder / "long.flac")
    assert said.code == 2
    assert "long.flac: lasts 7200.0 s, at most 60 s are accepted" in said.refusal


def test_a_server_answers_bad_recordings_with_problems(recogniser_folder, talking_to) -> None:
    recordings = {name: make for name, (make, _) in RECORDINGS.items()} | {"long.flac": two_hours}
    with talking_to(create_app([load(str(recogniser_folder))])) as client:
        answers = {
            name: client.post(TRANSCRIPTIONS, files={"file": (name, make())}) for name, make in recordings.items()
        }
        good = client.post(TRANSCRIPTIONS, files={"file": ("good.wav", encoded(tone(1)))})
    assert {name: answer.status_code for name, answer in answers.items()} == {
        "silent.wav": 422,
        "empty.wav": 422,
        "text.wav": 415,
        "cut.flac": 422,
        "nan.wav": 422,
        "long.flac": 413,
    }
    for name, answer in answers.items():
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].startswith(f"{name}: ")
    assert good.status_code == 200


def test_a_server_answers_bad_histories_with_problems_and_long_ones_with_items(trained, talking_to) -> None:
    with talking_to(create_app([load(str(trained.model))])) as client:

        def ask(**body: Any) -> Any:
            return client.post(RECOMMENDATIONS, json=body)

        known = [f"sku-{number:04d}" for number in range(1, 71)]
        assert len(known) > 17  # the window
        answer = ask(history=known, k=30)
        assert answer.status_code == 200
        assert {item["id"] for item in answer.json()["items"]}.isdisjoint(known)
        refused = {
            "unknown": ask(history=["sku-0001", "nosuch"]),
            "empty": ask(history=[]),
            "k": ask(history=["sku-0001"], k=0),
            "shape": ask(history="sku-0001"),
            "field": ask(histroy=["sku-0001"]),
            "json": client.post(RECOMMENDATIONS, content=b"{", headers={"content-type": "application/json"}),
            "nowhere": client.post("/v1/nowhere", json={}),
        }
    assert [answer.status_code for answer in refused.values()] == [422, 422, 422, 422, 422, 400, 404]
    assert {answer.headers["content-type"] for answer in refused.values()} == {"application/problem+json"}
    assert "nosuch" in refused["unknown"].json()["detail"]


@pytest.mark.parametrize("command", ["serve MODEL", "recommend MODEL sku-0001", "evaluate MODEL --data SHOP", "export"])
def test_a_model_folder_with_a_changed_byte_is_refused_everywhere(command, trained, shop, place) -> None:
    folder = place.folder / "model"
    shutil.copytree(trained.model, folder)
    graph = folder / "recommender.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    before = place.files()
    line = "export MODEL --out out" if command == "export" else command
    said = place.run(*({"MODEL": folder, "SHOP": shop}.get(word, word) for word in line.split()))
    assert said.code == 2, said.err
    assert said.refusal.startswith(f"{graph}: its bytes are not those that model.json vouches for; ")
    assert place.files() == before


def test_a_full_disk_ends_a_run_with_one_message_and_the_same_command_continues_it(trained, place, monkeypatch) -> None:
    opened = Path.open

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + memoryview(data).nbytes > 10_007:
                raise OSError(28, "No space left on device")
            return super().write(data)

    def open_on_a_full_disk(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if "last.ckpt" in path.name and mode == "wb":
            return Full(path, "wb")
        return opened(path, mode, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_on_a_full_disk)
        said = place.run(*trained.arguments)
    assert (said.code, said.out) == (1, "")
    assert "Traceback" not in said.err
    message = said.err.splitlines()[-1]
    assert message.startswith("headwise: .headwise/runs/recsys-shopping-")
    assert "last.ckpt: the checkpoint could not be written (No space left on device)" in message
    [run] = (place.folder / ".headwise/runs").iterdir()
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt"}
    assert not (run / "model").exists()
    again = place.run(*trained.arguments)
    assert again.code == 0, again.err
    assert (again.json["version"], again.json["metrics"]) == (1, trained.outcome["metrics"])
    assert (
        sha256(place.folder / again.json["folder"] / "items.json")
        == read_card(trained.model).files["items.json"]["sha256"]
    )
