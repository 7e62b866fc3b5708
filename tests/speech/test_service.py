"""The tiny recogniser: hears one token in every tenth of a second by its loudness, 0.4 is A, 0.6 is B, 0.8 is C, 0.2 a space."""

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.errors import InputError, NotFound
from headwise.examples import Examples
from headwise.model_folder import ModelCard, read_card, writing
from headwise.serving.app import create_app
from headwise.serving.session import Session
from headwise_speech.asking import Asked
from headwise_speech.decoding import Decoder, kneser_ney
from headwise_speech.rescoring import TwoPass
from headwise_speech.service import PATH, Recogniser, load
from headwise_speech.text import BLANK, Vocabulary
from headwise_speech.transcription import Transcriber

BLOCK = 1600  # samples, 0.1 s
VOCABULARY = Vocabulary((BLANK, " ", "A", "B", "C"))
LOUDNESS = {"-": 0.0, " ": 0.2, "A": 0.4, "B": 0.6, "C": 0.8}


def recording(tokens: str, rate: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    waveform = np.concatenate([np.full(rate // 10, LOUDNESS[token], np.float32) for token in tokens])
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.fixture(scope="module", name="recogniser")
def recogniser_fixture(recogniser_folder: Path) -> Recogniser:
    return load(recogniser_folder, max_seconds=3)


@pytest.fixture(scope="module", name="client")
def client_fixture(recogniser_folder: Path, talking_to: Callable[..., Any]) -> Iterator[Any]:
    with talking_to(create_app([load(recogniser_folder, version="2", max_seconds=3)])) as client:
        yield client


def send(client: Any, content: bytes, name: str = "a.wav", **fields: Any) -> Any:
    return client.post(PATH, files={"file": (name, content)}, data=fields)


def refused(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["detail"])


SURE = pytest.approx(1, abs=2e-3)


def test_the_formats(client: Any) -> None:
    wav = recording("AB-B CC")
    assert send(client, wav).json() == {"text": "ABB C"}
    assert send(client, wav, model="recogniser", response_format="text").text == "ABB C\n"
    assert send(client, wav, response_format="srt").text == "1\n00:00:00,000 --> 00:00:00,700\nABB C\n"
    vtt = send(client, wav, response_format="vtt")
    assert vtt.text == "WEBVTT\n\n00:00:00.000 --> 00:00:00.700\nABB C\n"
    assert vtt.headers["content-type"] == "text/vtt; charset=utf-8"
    verbose = send(client, wav, response_format="verbose_json").json()
    assert verbose.pop("score") == pytest.approx(0, abs=1e-3)
    [segment] = verbose.pop("segments")
    assert verbose == {
        "text": "ABB C",
        "duration": 0.7,
        "model": "recogniser",
        "version": "2",
        "task": "transcribe",
        "language": "und",
    }
    assert segment.pop("avg_logprob") == pytest.approx(0, abs=2e-3)
    assert segment == {
        "id": 0,
        "start": 0.0,
        "end": 0.7,
        "text": "ABB C",
        "tokens": [2, 3, 3, 1, 4],
        "compression_ratio": pytest.approx(5 / 13, abs=1e-3),
        "no_speech_prob": 0.0,
        "seek": 0,
        "temperature": 0.0,
    }


def test_words_have_times_and_confidences(client: Any) -> None:
    wav = recording("-AB- C")
    words = [
        {"word": "AB", "start": 0.1, "end": 0.3, "confidence": SURE},
        {"word": "C", "start": 0.5, "end": 0.6, "confidence": SURE},
    ]
    for response_format in ("json", "verbose_json"):
        fields = {"response_format": response_format, "timestamp_granularities[]": ["segment", "word"]}
        assert client.post(PATH, files={"file": ("a.wav", wav)}, data=fields).json()["words"] == words
    only = {"response_format": "verbose_json", "timestamp_granularities[]": "segment"}
    answer = send(client, wav, **only).json()
    assert "words" not in answer
    assert [segment["text"] for segment in answer["segments"]] == ["AB C"]


def test_a_pause_ends_a_segment(recogniser: Recogniser) -> None:
    answer, words = recogniser.transcribe(recording("A--------- B" + "-" * 9 + " C"))
    assert [segment.text for segment in answer.segments] == ["A", "B", "C"]
    assert [word.word for word in words] == ["A", "B", "C"]


def test_hot_words_of_one_request(client: Any) -> None:
    wav = recording("A B")
    assert send(client, wav, hotwords="A C\t15").json() == {"text": "A C"}
    assert send(client, wav, hotwords="").json() == send(client, wav).json() == {"text": "A B"}
    assert "hotwords, line 1: boost 'x' is not a number" in refused(send(client, wav, hotwords="A\tx"), 422)
    assert "'X' is not among the recogniser's characters" in refused(send(client, wav, hotwords="AX"), 422)
    files = {"file": ("a.wav", wav)}
    assert "hotwords" not in client.post(PATH, files=files, data={"prompt": "AB"}).json()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF"])
@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_any_file_and_any_sample_rate(client: Any, kind: str, rate: int) -> None:
    assert send(client, recording("AABBCC", rate, kind)).json() == {"text": "ABC"}


def test_silence_is_empty_text(client: Any) -> None:
    answer = send(client, recording("---"), response_format="verbose_json").json()
    assert (answer["text"], answer["segments"]) == ("", [])


def test_less_than_a_frame_is_empty_text(client: Any) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.full(7, 0.4), 16_000, format="WAV")
    assert send(client, file.getvalue()).json() == {"text": ""}


def test_other_fields_of_openais_form_change_nothing(client: Any) -> None:
    assert send(client, recording("A"), language="en", temperature="0", prompt="x").json() == {"text": "A"}


def test_too_long_is_refused_before_it_is_decoded(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwise_speech.audio.decode", None)
    detail = refused(send(client, recording("A" * 31), "long.wav"), 413)
    assert detail == "long.wav: lasts 3.1 s, at most 3 s are accepted; cut it into pieces"
    assert send(client, recording("A" * 31)).json()["max_seconds"] == 3


def test_what_is_no_recording(client: Any) -> None:
    assert "a.wav: not audio" in refused(send(client, b"no audio at all"), 415)
    assert "a.wav: holds 0 bytes" in refused(send(client, b""), 422)
    assert "truncated" in refused(send(client, recording("ABC")[:-1600]), 422)
    assert "there is no recording" in refused(client.post(PATH, files={"other": ("a.wav", recording("A"))}), 422)
    no_file = {"content-type": "multipart/form-data; boundary=b"}
    field = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nA\r\n--b--\r\n'
    assert "there is no recording" in refused(client.post(PATH, content=field, headers=no_file), 422)


def test_what_is_no_form(client: Any) -> None:
    assert "multipart/form-data" in refused(client.post(PATH, json={"file": "a.wav"}), 415)
    assert "multipart/form-data" in refused(client.post(PATH, content=recording("A")), 415)
    refused(client.post(PATH, content=b"x", headers={"content-type": "multipart/form-data"}), 400)
    two = [("file", ("a.wav", recording("A"))), ("file", ("b.wav", recording("B")))]
    refused(client.post(PATH, files=two), 400)


def test_options_that_are_not_offered(client: Any) -> None:
    assert "json, text, srt, verbose_json, vtt" in refused(send(client, recording("A"), response_format="ass"), 422)
    word = {"timestamp_granularities[]": "word"}
    assert "text has no list of times" in refused(send(client, recording("A"), response_format="text", **word), 422)
    odd = {"timestamp_granularities[]": "letter"}
    assert "timestamp_granularities[] is 'letter'; it can be word, segment" in refused(
        send(client, recording("A"), **odd), 422
    )
    assert "no model 'whisper-1' here; the one that listens is 'recogniser'" in refused(
        send(client, recording("A"), model="whisper-1"), 404
    )


def test_an_upload_that_is_too_big(client: Any) -> None:
    refused(send(client, bytes(26 << 20)), 413)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=301), st.sampled_from(["multipart/form-data; boundary=b", "multipart/form-data;boundary=", "x"])
)
def test_no_body_makes_the_server_fail(client: Any, content: bytes, kind: str) -> None:
    for body in (
        content,
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content + b"\r\n--b--",
    ):
        response = client.post(PATH, content=body, headers={"content-type": kind})
        assert response.status_code in (400, 415, 422), response.text


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 43), st.binary(min_size=1, max_size=5))
def test_no_damaged_header_makes_the_server_fail(client: Any, at: int, damage: bytes) -> None:
    wav = recording("AB")
    response = send(client, wav[:at] + damage + wav[at + len(damage) :])
    assert response.status_code in (200, 413, 415, 422), response.text


def test_the_plain_call_takes_a_file_or_its_bytes(recogniser: Recogniser, tmp_path: Path) -> None:
    path = tmp_path / "seven.flac"
    path.write_bytes(recording("A B", kind="FLAC"))
    assert recogniser.transcribe(path)[0].text == "A B"
    assert recogniser.transcribe(path.read_bytes())[0].duration == 0.3
    with pytest.raises(NotFound, match=r"none.wav: no such file"):
        recogniser.transcribe(tmp_path / "none.wav")
    with pytest.raises(InputError, match=r"at most 3 s"):
        recogniser.transcribe(recording("A" * 31))


def test_an_explanation_by_hand(client: Any, recogniser: Recogniser) -> None:
    wav = recording("-AAB- C--")  # each frame looks at itself alone
    words = [
        {
            "word": "AB",
            "start": 0.1,
            "end": 0.4,
            "confidence": SURE,
            "attention": pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0, 0]),
        },
        {"word": "C", "start": 0.6, "end": 0.7, "confidence": SURE, "attention": [0, 0, 0, 0, 0, 0, 1, 0, 0]},
    ]
    assert send(client, wav, explain="true").json() == {"text": "AB C", "words": words, "hop": 0.1}
    verbose = send(client, wav, explain="true", response_format="verbose_json").json()
    assert (verbose.pop("words"), verbose.pop("hop")) == (words, 0.1)
    assert verbose == send(client, wav, explain="false", response_format="verbose_json").json()
    assert msgspec.to_builtins(recogniser.transcribe(wav, Asked(explain=True))[0])["words"] == words


def test_a_word_ends_before_the_recording_does() -> None:
    vocabulary = Vocabulary((BLANK, " ", "A"))
    rows = np.log(np.eye(3)[[0, 0, 2, 2, 2]] + 1e-6)  # the fifth frame of 40 ms is only half there
    read = Transcriber(TwoPass(Decoder("greedy", vocabulary)), 0.04, voice=False)
    _, [word], _ = read.timed(np.zeros(2720, np.float32), rows)
    assert word == ("A", 0.08, 0.17, SURE)
    _, [word], _ = read.timed(np.zeros(2560, np.float32), np.log(np.eye(3)[[0, 0, 0, 0, 2]] + 1e-6))
    assert word[1:3] == (0.15, 0.16)


def test_what_is_read_off_noise_is_no_text(
    recogniser_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"sample_rate": 16_000, "decoder": "greedy", "hop": BLOCK}
    for voice in (True, False):
        card = ModelCard("recogniser", "quiet", {**settings, "voice": voice}, {}, {}, {})
        with writing(tmp_path / str(voice), card) as draft:
            for file in ("recogniser.onnx", "vocabulary.json"):
                shutil.copy(recogniser_folder / file, draft)
    monkeypatch.setattr("headwise_speech.voice.CLEARNESS", 1.1)  # this recogniser never doubts
    hum = recording("AB")  # a still sound, whatever tokens it is like
    heard = {voice: load(tmp_path / str(voice)).transcribe(hum)[0] for voice in (True, False)}
    assert (heard[False].text, heard[True].text) == ("AB", "")
    assert heard[True].segments == []
    assert heard[True].score < heard[False].score


def test_silence_has_nothing_to_explain(client: Any) -> None:
    assert send(client, recording("---"), explain="true").json() == {"text": "", "words": [], "hop": 0.1}


def test_explanations_that_are_not_offered(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "explain is 'maybe'; it can be true, false" in refused(send(client, recording("A"), explain="maybe"), 422)
    detail = refused(send(client, recording("A"), explain="true", response_format="text"), 422)
    assert detail == "response_format text cannot explain; json, verbose_json can"
    monkeypatch.setattr("headwise_speech.service.MAX_EXPLAINED", 2)
    long = recording("A" * 21)
    detail = refused(send(client, long, explain="true"), 413)
    assert detail == "a.wav: lasts 2.1 s, at most 2 s are explained; cut it into pieces"
    assert send(client, long).json() == {"text": "A"}
    assert refused(send(client, recording("A" * 31), explain="true"), 413).endswith(
        "at most 2 s are explained; cut it into pieces"
    )


def test_a_folder_without_explanations_transcribes(
    recogniser_folder: Path, tmp_path: Path, talking_to: Callable[..., Any]
) -> None:
    settings = {"sample_rate": 16_000, "decoder": "greedy", "hop": BLOCK}
    with writing(tmp_path / "old", ModelCard("recogniser", "old", settings, {}, {}, {})) as draft:
        for file in ("recogniser.onnx", "vocabulary.json"):
            shutil.copy(recogniser_folder / file, draft)
    with talking_to(create_app([load(tmp_path / "old")])) as client:
        assert client.get("/readyz").status_code == 200
        assert send(client, recording("AB")).json() == {"text": "AB"}
        detail = refused(send(client, recording("AB"), explain="true"), 422)
    assert "exported without explanation.onnx" in detail


def test_a_waveform_is_heard_without_any_limit(recogniser_folder: Path) -> None:
    patient = load(recogniser_folder, max_seconds=float("inf"))
    assert patient.hear(np.full(3 * BLOCK, LOUDNESS["B"], np.float32)) == "B"
    assert patient.transcribe(recording("A" * 700))[0].duration == 70


def test_a_closed_list_of_words(recogniser_folder: Path, tmp_path: Path) -> None:
    decoder = Decoder("lexicon", VOCABULARY, ["AB", "CA"], kneser_ney([["AB", "CA"]], 2), {"width": 5})
    card = ModelCard("recogniser", "closed", {"sample_rate": 16_000, "hop": BLOCK, **decoder.card}, {}, {}, {})
    with writing(tmp_path / "closed", card) as draft:
        shutil.copy(recogniser_folder / "recogniser.onnx", draft)
        decoder.write(draft)
    assert load(tmp_path / "closed").transcribe(recording("AB CA"))[0].text == "AB CA"


def test_openapi_documents_the_form(client: Any) -> None:
    operation = client.get("/openapi.json").json()["paths"][PATH]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"file", "model", "response_format", "explain", "hotwords", "timestamp_granularities[]"}
    assert {"200", "400", "404", "413", "415", "422", "429", "500", "503"} <= set(operation["responses"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_rate": 8000}, "settings.sample_rate is 8000"),
        ({"decoder": "oracle"}, "settings.decoder is 'oracle'"),
        ({"decoder": "lexicon"}, r"words.json: cannot be read"),
        ({"hop": None}, r"settings.hop is missing, as an earlier headwise wrote it; export again"),
    ],
)
def test_folders_that_cannot_be_served(recogniser_folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    settings = {"sample_rate": 16_000, "decoder": "greedy", "hop": BLOCK, **change}
    settings = {name: value for name, value in settings.items() if value is not None}
    with writing(tmp_path / "model", ModelCard("recogniser", "odd", settings, {}, {}, {})) as draft:
        for file in ("recogniser.onnx", "vocabulary.json"):
            shutil.copy(recogniser_folder / file, draft)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "model")


@pytest.mark.parametrize(
    ("first", "second", "agreement"),
    [
        (b'{"text": "a b"}', b'{"text": "a b", "duration": 3.0}', 1.0),
        (b'{"text": "a b"}', b'{"text": "a c"}', 0.0),
        (b"a b\n", b"a b\n", 1.0),
        (b"7\n", b"3\n", 0.0),
    ],
)
def test_whether_two_answers_agree(recogniser_folder, first, second, agreement) -> None:
    assert load(recogniser_folder).agreement(first, second) == agreement


@pytest.mark.parametrize("wrong", [0.0, 0.5])
def test_a_graph_that_answers_otherwise_than_at_export_is_not_loaded(recogniser_folder, tmp_path, wrong) -> None:
    asked = {"waveform": np.full((1, 1600), 0.4, np.float32), "lengths": np.array([1600])}
    session = Session(recogniser_folder / "recogniser.onnx", inputs=asked, outputs=("log_probs", "frames"))
    log_probs, frames = session.run(**asked)
    with writing(tmp_path / "model", read_card(recogniser_folder)) as draft:
        for name in read_card(recogniser_folder).files:
            shutil.copyfile(recogniser_folder / name, draft / name)
        Examples(asked, {"log_probs": log_probs - np.float32(wrong), "frames": frames}).save(draft)
    if not wrong:
        assert load(tmp_path / "model").hear(asked["waveform"][0]) == "A"
        return
    with pytest.raises(InputError, match=r"recogniser.onnx: its log_probs for the example .* are not those"):
        load(tmp_path / "model")
