import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from headwise.errors import InputError, NotFound
from headwise_speech.audio import SAMPLE_RATE, decode, duration

DATA = Path(__file__).parents[3] / "shared/data"


def tone(hertz: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples: np.ndarray, rate: int = SAMPLE_RATE, **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **({"format": "WAV"} | options))
    return file.getvalue()


@pytest.mark.parametrize(
    ("rate", "options"),
    [
        (8_000, {}),
        (16_000, {"format": "FLAC"}),
        (22_050, {"subtype": "FLOAT"}),
        (44_100, {"format": "OGG", "subtype": "VORBIS"}),
        (48_000, {"format": "OGG", "subtype": "OPUS"}),
        (96_000, {"subtype": "PCM_24"}),
    ],
)
def test_any_rate_and_format_becomes_the_same_tone_at_16_khz(rate, options):
    waveform = decode(encoded(tone(1_000, 0.7, rate), rate, **options))
    assert waveform.dtype == np.float32
    assert len(waveform) == pytest.approx(0.7 * SAMPLE_RATE, abs=1)
    spectrum = np.abs(np.fft.rfft(waveform))
    assert spectrum.argmax() * SAMPLE_RATE / len(waveform) == pytest.approx(1_000, abs=2)
    middle = waveform[SAMPLE_RATE // 10 : -SAMPLE_RATE // 10]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


def test_16_bit_samples_at_16_khz_come_back_bit_for_bit():
    samples = np.array([0, 1, -1, 32767, -32768, 3], np.int16)
    np.testing.assert_array_equal(decode(encoded(samples)) * 32_768, samples)


def test_channels_are_averaged():
    left, right = tone(300, 0.1, SAMPLE_RATE), tone(700, 0.1, SAMPLE_RATE)
    expected = (left + right + 0) / 3
    samples = np.stack([left, right, np.zeros_like(left)], axis=1)
    np.testing.assert_allclose(decode(encoded(samples, subtype="FLOAT")), expected, atol=1e-7)


def test_path_and_bytes_give_the_same(tmp_path):
    path = tmp_path / "a.flac"
    path.write_bytes(encoded(tone(440, 0.3, 11_025), 11_025, format="FLAC"))
    np.testing.assert_array_equal(decode(path), decode(path.read_bytes()))
    assert duration(path) == duration(path.read_bytes()) == pytest.approx(0.3, abs=1e-4)


def test_samples_stay_within_full_scale():
    assert np.abs(decode(encoded(np.full(1_000, 1.7, np.float32), subtype="FLOAT"))).max() == 1.0


def test_what_is_too_long_is_refused_by_its_header(tmp_path):
    cut = encoded(tone(440, 3, SAMPLE_RATE), format="FLAC")[:500]  # there is nothing to decode behind the header
    assert duration(cut) == 3
    with pytest.raises(InputError, match=r"^talk\.flac: lasts 3\.0 s, at most 2 s is accepted"):
        decode(cut, name="talk.flac", max_seconds=2)
    decode(encoded(tone(440, 2, SAMPLE_RATE)), max_seconds=2)


def test_a_stream_of_unknown_length_is_refused():
    flac = bytearray(encoded(tone(440, 1, SAMPLE_RATE), format="FLAC"))
    flac[21] &= 0xF0  # the last 36 bits of this field count the samples; 0 is "unknown"
    flac[22:26] = bytes(4)
    with pytest.raises(InputError, match="its header gives no length"):
        duration(bytes(flac))


def test_a_wav_written_into_a_pipe_is_whole():
    wav = bytearray(encoded(tone(440, 0.1, SAMPLE_RATE)))
    wav[4:8] = wav[40:44] = b"\xff" * 4
    assert len(decode(bytes(wav))) == 1_600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encoded(np.zeros(0, np.float32)), "holds 0 samples"),
        (b"this is text, renamed to .wav" * 5, "not audio that can be read"),
        (b"", "not audio that can be read"),
        (encoded(tone(440, 1, SAMPLE_RATE), format="FLAC")[:-5_000], "truncated"),
        (encoded(tone(440, 1, SAMPLE_RATE))[:-5_000], "truncated, 27000 of 32000 bytes are there"),
        (encoded(np.array([0, np.nan, np.inf], np.float32), subtype="FLOAT"), "sample 1 is nan, and 1 more"),
        (encoded(np.array([0, 12_345], np.float32), subtype="FLOAT"), "samples reach 12345"),
        (encoded(tone(3, 1, 100), 100), "sample rate 100 Hz"),
        (encoded(np.zeros(1, np.float32), 48_000), "holds 0 samples at 16000 Hz"),
    ],
    # By name: libsndfile writes the time into a file of floats, and the processes of a test run must find the same tests.
    ids=["empty", "text", "nothing", "cut flac", "cut wav", "not a number", "too loud", "too low a rate", "too short"],
)
def test_one_message_names_the_file_and_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "talk.wav"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        decode(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert "BytesIO" not in str(caught.value)


def test_missing_and_headerless_files(tmp_path):
    with pytest.raises(NotFound, match=r"gone\.wav: no such file"):
        decode(tmp_path / "gone.wav")
    (tmp_path / "an4.raw").write_bytes(bytes(100))
    with pytest.raises(InputError, match=r"an4\.raw: not audio that can be read"):
        decode(tmp_path / "an4.raw")


@pytest.mark.skipif(not (DATA / "speech_samples").is_dir(), reason="../shared/data/speech_samples is absent")
def test_a_real_recording():
    waveform = decode(DATA / "speech_samples/whisper_jfk.flac")  # 44.1 kHz
    assert len(waveform) == 11 * SAMPLE_RATE
    assert 0.01 < np.sqrt(np.mean(waveform**2)) < 0.5
