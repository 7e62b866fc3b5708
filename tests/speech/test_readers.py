import json
from collections import Counter
from pathlib import Path

import pytest

from headwise.errors import InputError, NotFound
from headwise_speech.readers import read

DATA = Path(__file__).parents[3] / "shared/data"


def touch(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


def manifest(path: Path, lines: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def spoken(folder: Path, count: int, speakers: int = 0) -> list[object]:
    lines: list[object] = []
    for number in range(count):
        touch(folder / f"audio/{number}.wav")
        speaker = {"speaker": number % speakers} if speakers else {}
        lines.append({"audio": f"audio/{number}.wav", "text": "Yes!", **speaker})
    return lines


@pytest.mark.skipif(not (DATA / "an4").is_dir(), reason="../shared/data/an4 is absent")
def test_an4():
    entries = read(DATA / "an4")
    assert Counter(entry.split for entry in entries) == {"train": 848, "valid": 100, "test": 130}
    assert sum(len(entry.text.split()) for entry in entries if entry.split == "test") == 773
    assert sum(len(entry.text.split()) for entry in entries if entry.split != "test") == 5442
    speakers = {split: {e.speaker for e in entries if e.split == split} for split in ("train", "valid", "test")}
    assert len(speakers["train"] | speakers["valid"]) == 74
    assert len(speakers["test"]) == 10
    assert not speakers["test"] & (speakers["train"] | speakers["valid"])
    official = json.loads((DATA / "an4/espnet_split.json").read_text())
    assert {entry.id for entry in entries if entry.split == "valid"} == set(official["train_dev"])
    assert {entry.id for entry in entries if entry.split == "train"} == set(official["train_nodev"])


@pytest.mark.skipif(not (DATA / "an4").is_dir(), reason="../shared/data/an4 is absent")
def test_an4_agrees_with_its_manifests():
    by_id = {entry.id: entry for entry in read(DATA / "an4")}
    for name in ("train.jsonl", "test.jsonl"):
        for entry in read(DATA / "an4" / name):
            assert (entry.text, entry.speaker) == (by_id[entry.id].text, by_id[entry.id].speaker)
            assert entry.audio.samefile(by_id[entry.id].audio)


@pytest.mark.skipif(not (DATA / "fsdd").is_dir(), reason="../shared/data/fsdd is absent")
def test_fsdd():
    entries = read(DATA / "fsdd")
    assert Counter(entry.split for entry in entries) == {"train": 2430, "valid": 270, "test": 300}
    assert Counter(entry.text for entry in entries) == dict.fromkeys(
        ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"], 300
    )
    official = {entry.id for entry in read(DATA / "fsdd/test.jsonl")}
    assert {Path(name).name for name in official} == {entry.id for entry in entries if entry.split == "test"}


@pytest.mark.skipif(not (DATA / "yesno").is_dir(), reason="../shared/data/yesno is absent")
def test_yesno():
    entries = read(DATA / "yesno")
    assert Counter(entry.split == "test" for entry in entries) == {True: 30, False: 30}
    assert entries[0].text == "NO NO NO NO YES YES YES YES"
    assert {entry.split for entry in entries[30:]} == {"test"}
    by_id = {entry.id: entry.text for entry in read(DATA / "yesno/all.jsonl")}
    assert by_id == {entry.id: entry.text for entry in entries}


def test_an4_as_distributed(tmp_path):
    touch(tmp_path / "wav/an4_clstk/fash/an251-fash-b.wav")
    touch(tmp_path / "wav/an4test_clstk/mxyz/cen2-mxyz-b.wav")
    manifest(tmp_path / "etc/an4_train.fileids", ["an4_clstk/fash/an251-fash-b", ""])
    manifest(tmp_path / "etc/an4_train.transcription", ["<s> YES ++NOISE++ NO </s> (an251-fash-b)", ""])
    manifest(tmp_path / "etc/an4_test.fileids", ["an4test_clstk/mxyz/cen2-mxyz-b"])
    manifest(tmp_path / "etc/an4_test.transcription", ["GO (cen2-mxyz-b)"])
    train, test = read(tmp_path)
    assert (train.id, train.text, train.speaker, train.split) == ("an251-fash-b", "YES NO", "fash", "train")
    assert (test.id, test.text, test.speaker, test.split) == ("cen2-mxyz-b", "GO", "mxyz", "test")
    assert test.audio == tmp_path / "wav/an4test_clstk/mxyz/cen2-mxyz-b.wav"

    manifest(tmp_path / "etc/an4_test.transcription", ["", "GO (cen3-mxyz-b)"])
    with pytest.raises(InputError, match=r"an4_test\.transcription, line 2: id 'cen3-mxyz-b' is not in the list"):
        read(tmp_path)
    manifest(tmp_path / "etc/an4_test.transcription", [])
    with pytest.raises(InputError, match=r"an4_test\.fileids: 'cen2-mxyz-b' has no transcription"):
        read(tmp_path)


def test_librispeech(tmp_path):
    for name in (
        "train-clean-5/84/121/84-121-0000.flac",
        "dev-clean/11/7/11-7-0000.flac",
        "test-other/3/5/3-5-0000.wav",
    ):
        touch(tmp_path / "LibriSpeech" / name)
        chapter = (tmp_path / "LibriSpeech" / name).parent
        speaker, part = chapter.parts[-2:]
        manifest(chapter / f"{speaker}-{part}.trans.txt", [f"{speaker}-{part}-0000 DON'T GO"])
    entries = {entry.split: entry for entry in read(tmp_path)}
    assert set(entries) == {"train", "valid", "test"}
    assert (entries["train"].id, entries["train"].speaker, entries["train"].text) == ("84-121-0000", "84", "DON'T GO")
    assert entries["test"].audio.suffix == ".wav"
    assert [entry.split for entry in read(tmp_path / "LibriSpeech/dev-clean")] == ["valid"]


def test_a_manifest_line_may_be_short_or_full(tmp_path):
    touch(tmp_path / "a b.wav")
    elsewhere = touch(tmp_path / "elsewhere/c.flac")
    full = {"audio": elsewhere, "text": " God dag, Åsa ", "id": 0, "speaker": 0, "split": "dev", "duration": 1.5}
    manifest(tmp_path / "in/mine.jsonl", ["\ufeff" + json.dumps({"audio": "../a b.wav", "text": "hej"}), "", full])
    short, long = read(tmp_path / "in/mine.jsonl")
    assert (short.id, short.text, short.speaker, short.split) == ("../a b", "hej", "", "train")
    assert (long.id, long.text, long.speaker, long.split) == ("0", "God dag, Åsa", "0", "valid")
    assert long.audio == Path(elsewhere)


def test_a_folder_of_manifests(tmp_path):
    lines = spoken(tmp_path, 7)
    for name, part in {"train": lines[:4], "dev": lines[4:5], "test": lines[5:]}.items():
        manifest(tmp_path / f"{name}.jsonl", part)
    assert Counter(entry.split for entry in read(tmp_path)) == {"train": 4, "valid": 1, "test": 2}
    assert {entry.split for entry in read(tmp_path / "test.jsonl")} == {"test"}


def test_a_tenth_is_held_out_and_stays_so(tmp_path):
    lines = spoken(tmp_path, 101)
    first = read(manifest(tmp_path / "all.jsonl", lines))
    assert Counter(entry.split for entry in first) == {"train": 81, "valid": 9, "test": 11}
    again = read(manifest(tmp_path / "all.jsonl", lines[::-1]))
    assert {entry.id: entry.split for entry in first} == {entry.id: entry.split for entry in again}
    # The choice is a matter of SHA-256 and of nothing on this machine.
    assert sorted(int(Path(entry.id).name) for entry in first if entry.split == "valid")[:3] == [3, 4, 8]


def test_whole_speakers_are_held_out_where_there_are_enough(tmp_path):
    entries = read(manifest(tmp_path / "train.jsonl", spoken(tmp_path, 130, speakers=13)))
    held = {entry.speaker for entry in entries if entry.split == "valid"}
    assert len(held) == 2
    assert not held & {entry.speaker for entry in entries if entry.split == "train"}
    few = read(manifest(tmp_path / "train.jsonl", spoken(tmp_path, 70, speakers=7)))
    assert Counter(entry.split for entry in few) == {"train": 63, "valid": 7}


def test_one_utterance_stays_in_training(tmp_path):
    assert [entry.split for entry in read(manifest(tmp_path / "one.jsonl", spoken(tmp_path, 1)))] == ["train"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"audio":', r"line 3: '\{\"audio\":' is not JSON"),
        ("[1]", r"line 3: '\[1\]' is not a JSON object"),
        ({"audio": "audio/0.wav"}, "line 3: has no field 'text', only 'audio'"),
        ({"audio": "audio/0.wav", "text": None}, "line 3: text is None, it must be a string"),
        ({"audio": "audio/0.wav", "text": " ... "}, r"line 3: text ' \.\.\. ' has no words"),
        ({"audio": "gone.wav", "text": "GO"}, r"line 3: audio 'gone\.wav': no such file"),
        ({"audio": "audio/0.wav", "text": "GO", "split": "tset"}, "line 3: split 'tset' is none of train, valid"),
    ],
)
def test_the_first_bad_line_is_named_and_the_others_like_it_counted(tmp_path, bad, message):
    good = spoken(tmp_path, 2)
    another = "{" if isinstance(bad, dict) else {"audio": "audio/0.wav"}
    path = manifest(tmp_path / "train.jsonl", [*good, bad, bad, another, bad])
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, ")
    assert str(caught.value).endswith(", and 2 more such lines; correct or remove it")


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(b'\n{"audio": "\xff\xfe"}\n')
    with pytest.raises(InputError, match=r"train\.jsonl, line 2: .* is not UTF-8"):
        read(tmp_path)


def test_other_errors(tmp_path):
    with pytest.raises(NotFound, match="gone: no such file or folder"):
        read(tmp_path / "gone")
    with pytest.raises(InputError, match=r"no layout that is known \(none of etc/\*_train\.fileids, "):
        read(tmp_path)
    lines = spoken(tmp_path, 3)
    with pytest.raises(InputError, match=r"several utterances have id 'audio/1', and 1 more such id; rename them"):
        read(manifest(tmp_path / "train.jsonl", [*lines, *lines[1:]]))
    with pytest.raises(InputError, match="holds no utterances"):
        read(manifest(tmp_path / "train.jsonl", []))
    touch(tmp_path / "fsdd/recordings/3_theo_7.wav")
    touch(tmp_path / "fsdd/recordings/three.wav")
    with pytest.raises(InputError, match=r"three\.wav: its name is not DIGIT_SPEAKER_INDEX"):
        read(tmp_path / "fsdd")
