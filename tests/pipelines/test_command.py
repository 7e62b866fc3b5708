"""The command line: quick to answer, one message for whatever is wrong with it, and the same exit codes everywhere."""

import json
import os
import re
import subprocess
import sys

import pytest

import headwise_pipelines.doctor
from headwise import __version__
from headwise.errors import HeadwiseError, InputError, ParityError
from headwise_pipelines.command import main
from headwise_pipelines.training import NAMES, presets_of

TRAIN = ("train", "recsys", "shopping", "--data", "SHOP")
COMMANDS = (
    *("quickstart", "train", "sweep", "evaluate", "export", "promote", "rollback"),
    *("serve", "recommend", "transcribe", "align", "ui", "doctor"),
)
HEAVY = "{'torch', 'mlflow', 'polars', 'numpy', 'onnx', 'onnxruntime', 'pytorch_lightning', 'fastapi'}"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["serve", "--help"]])
def test_help_is_given_without_loading_anything_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from headwise_pipelines.command import main
try:
    main({arguments!r})
finally:
    print({HEAVY} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"
    assert done.stdout.startswith("usage: headwise" if "--help" in arguments else f"headwise {__version__}")


def test_help_names_every_command(place) -> None:
    said = place.run("--help")
    assert said.code == 0
    assert [name for name in COMMANDS if not re.search(rf"^    {name}\b", said.out, re.MULTILINE)] == []


def test_training_help_lists_the_presets_of_both_products(place) -> None:
    said = place.run("train", "--help")
    assert said.code == 0
    for product in NAMES:
        assert f"presets of {product}:" in said.out
        assert [name for name in presets_of(product) if f"\n  {name} " not in said.out] == []


def test_help_of_a_preset_lists_and_explains_every_value(place) -> None:
    said = place.run("train", "recsys", "shopping", "--help")
    assert said.code == 0
    words = " ".join(said.out.split())
    assert "--model.width WIDTH of the embeddings and blocks. (type: int, default: 64)" in words
    assert "--fit.epochs EPOCHS passes over the training data, at most." in words
    assert "--config" in words


@pytest.mark.parametrize("product", NAMES)
def test_every_preset_prints_its_configuration_and_reads_it_back(product, place) -> None:
    for name in presets_of(product):
        printed = place.run("train", product, name, "--fit.seed", 5, "--print_config")
        assert printed.code == 0, printed.err
        (place.folder / "run.yaml").write_text(printed.out, encoding="utf-8")
        again = place.run("train", product, name, "--config", "run.yaml", "--print_config")
        assert again.out == printed.out


def test_flags_go_over_the_file_and_the_file_over_the_preset(place) -> None:
    (place.folder / "run.yaml").write_text("model:\n  width: 22\n  heads: 11\n", encoding="utf-8")
    said = place.run("train", "recsys", "shopping", "--config", "run.yaml", "--model.width", 44, "--print_config")
    assert {"  width: 44", "  heads: 11", "  window: 64"} <= set(said.out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "recsys", "nosuch"], "there is no preset 'nosuch' for recsys; there are: ml-1m, "),
        (["train", "recsys", "shopping"], "--data is missing: give the file or folder with the raw data of shopping"),
        (["train", "recsys", "shopping", "--data", "nowhere"], "nowhere: there is no such file or folder"),
        ([*TRAIN, "extra"], "unrecognized arguments: extra; `headwise train recsys shopping --help` lists"),
        ([*TRAIN, "--model.widht", "3"], "unrecognized arguments: --model.widht 3; `headwise train"),
        ([*TRAIN, "--nam", "x"], "unrecognized arguments: --nam x"),
        ([*TRAIN, "--model.width", "x"], '"model.width": Expected int. Got value: x'),
        ([*TRAIN, "--model.width", "0"], "model.width (0) must be at least 1"),
        ([*TRAIN, "--model.width", "15"], "model.width (15) must be divisible by model.heads (2)"),
        (
            [*TRAIN, "--model.width", "22", "--model.positions", "rotary"],
            "model.width / model.heads (22 / 2) must be even",
        ),
        ([*TRAIN, "--model.kernel", "linear", "--model.positions", "alibi"], "model.kernel (linear) cannot add"),
        ([*TRAIN, "--model.dropout", "1"], "model.dropout (1.0) must be from 0 to below 1"),
        ([*TRAIN, "--model.window", "0"], "model.window (0) must be at least 1"),
        ([*TRAIN, "--tokens", "0"], "tokens (0) must be at least 1"),
        ([*TRAIN, "--min_count", "0"], "min_count (0) must be at least 1"),
        ([*TRAIN, "--fit.epochs", "0"], "fit.epochs (0) must be at least 1"),
        ([*TRAIN, "--fit.average", "1"], "fit.average (1.0) is a decay"),
        ([*TRAIN, "--optimizer.rate", "-1"], "optimizer.rate (-1.0) must be above 0"),
        ([*TRAIN, "--optimizer.beta2", "1"], "optimizer.beta2 (1.0) must be from 0 to below 1"),
        ([*TRAIN, "--split", "other"], '"split": Expected a typing.Literal'),
        ([*TRAIN, "--config", "nowhere.yaml"], '"config": File does not exist'),
        ([*TRAIN, "--config", "broken.yaml"], "broken.yaml: not a YAML file of values (Problems parsing config"),
        ([*TRAIN, "--config", "empty.yaml"], "empty.yaml: not a YAML file of values"),
        ([*TRAIN, "--config=typo.yaml"], "Option 'modle.width' is not accepted"),
        ([*TRAIN, "--from-run", "nosuch"], "tracking at sqlite:"),
        (["train", "speech", "an4", "--data", "SHOP", "--model.heads", "5"], "model.width (144) must be divisible"),
        (["train", "speech", "an4", "--data", "SHOP", "--seconds", "0"], "seconds (0.0) must be at least 1"),
        (["evaluate", "nosuch", "--data", "SHOP"], "nosuch: not a model folder, there is no such folder"),
        (["evaluate", "models:/nosuch@champion", "--data", "SHOP"], "no model 'nosuch' in sqlite:"),
        (["evaluate", "runs:/nosuch", "--data", "SHOP"], "tracking at sqlite:"),
        (["evaluate", "RECOMMENDER", "--data", "nowhere"], "nowhere: there is no such file or folder"),
        (["evaluate", "RECOMMENDER", "--data", "SHOP"], "shop: the model knows none of its 101 items"),
        (["evaluate", "RECOGNISER", "--data", "SHOP", "--split", "temporal"], "--split is for recommenders"),
        (["export", "nosuch", "--out", "out"], "tracking at sqlite:"),
        (["export", "RECOMMENDER", "--out", "empty.yaml"], "empty.yaml: exists already"),
        (["export", "RECOMMENDER", "--out", "empty.yaml/out"], "empty.yaml/out: empty.yaml is a file"),
        (["promote", "nosuch", "1"], "models:/nosuch/1: no model is registered as nosuch; there are: none"),
        (["promote", "recommender", "one"], "version 'one' is not a number"),
        (["promote", "recommender", "1", "--force", ""], "--force needs a reason"),
        (["promote", "recommender", "1", "--alias", "a@b"], "--alias 'a@b': letters, digits, _ and -"),
        (["rollback", "nosuch"], "models:/nosuch@champion: no model is registered as nosuch; there are: none"),
        (["rollback", "recommender", "--alias", "v2"], "--alias 'v2': letters, digits, _ and -"),
        (["serve", "nosuch"], "nosuch: not a model folder"),
        (["serve", "models:recommender"], "models:recommender: not a model; write models:/NAME@ALIAS"),
        (["serve", "RECOMMENDER", "RECOMMENDER"], "two of the models recommender, recommender answer /v1/rec"),
        (["serve", "RECOMMENDER", "--host", "nosuch.invalid"], "--host nosuch.invalid: not an address"),
        (["recommend", "RECOMMENDER", "7", "-k", "3"], "items that this model does not know: 7"),
        (["recommend", "RECOMMENDER", "101", "-k", "0"], "k is 0; this model recommends 1 to 7 items"),
        (["recommend", "RECOGNISER", "101"], "RECOGNISER: a recogniser, a recommender is needed here"),
        (["transcribe", "RECOMMENDER", "x.wav"], "RECOMMENDER: a recommender, a recogniser is needed here"),
        (["transcribe", "RECOGNISER", "nowhere.wav"], "nowhere.wav: no such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_left(
    arguments, message, place, shop, recommender_folder, recogniser_folder
) -> None:
    for name, text in {"broken.yaml": "model: [3\n", "empty.yaml": "", "typo.yaml": "modle: {width: 22}\n"}.items():
        (place.folder / name).write_text(text, encoding="utf-8")
    paths = {"SHOP": shop, "RECOMMENDER": recommender_folder, "RECOGNISER": recogniser_folder}
    before = place.files()
    said = place.run(*(paths.get(argument, argument) for argument in arguments))
    assert said.code == 2, said.err
    for name, path in paths.items():
        message = message.replace(name, str(path))
    assert message in said.refusal
    assert {name for name in place.files() - before if not name.startswith(".headwise/data/shop-")} == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["nosuch"], "invalid choice: 'nosuch'"),
        (["train", "music", "preset"], "invalid choice: 'music'"),
        ([*TRAIN, "--from-run"], "argument --from-run: expected one argument"),
        (["serve", "model", "--port", "99999"], "'99999' is not a number from 0 to 65535"),
        (["doctor", "--nosuch"], "unrecognized arguments: --nosuch"),
        (["evaluate", "model"], "the following arguments are required: --data"),
    ],
)
def test_a_line_that_is_no_command_shows_how_it_is_written(arguments, message, place) -> None:
    said = place.run(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("usage: headwise")
    assert message in said.err.splitlines()[-1]


def test_training_of_nothing_in_particular_lists_what_there_is(place) -> None:
    said = place.run("train", "recsys")
    assert said.code == 2
    assert said.err == "headwise: train what? name a product and one of its presets\n"
    assert "presets of recsys:" in said.out


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (InputError("the input is wrong"), 2, "headwise: the input is wrong\n"),
        (HeadwiseError("the store is away"), 1, "headwise: the store is away\n"),
        (ParityError("the graph disagrees"), 1, "headwise: the graph disagrees\n"),
        (OSError(28, "No space left on device"), 1, "headwise: [Errno 28] No space left on device\n"),
        (KeyboardInterrupt(), 130, "headwise: stopped\n"),
        (KeyboardInterrupt("training was stopped"), 130, "headwise: training was stopped\n"),
    ],
)
def test_exit_code_says_whose_fault_it_was(raised, code, message, place, monkeypatch) -> None:
    def doctor(*, quiet: bool) -> None:
        raise raised

    monkeypatch.setattr(headwise_pipelines.doctor, "doctor", doctor)
    said = place.run("doctor", "--json")
    assert (said.code, said.out, said.err) == (code, "", message)


def test_doctor_tells_a_person_and_a_program_the_same(place) -> None:
    told = place.run("doctor")
    answer = place.run("doctor", "--json")
    [line] = answer.out.splitlines()
    findings = {finding["what"]: finding["found"] for finding in json.loads(line)["findings"]}
    assert findings["headwise"] == __version__
    assert {"Python", "processors", "free disk here", "tracking store", "torch", "mlflow", "GPU"} <= findings.keys()
    assert [what for what in findings if what not in told.out] == []


def test_pages_are_those_of_the_store_and_refused_where_there_is_none(tmp_path, monkeypatch, capsys) -> None:
    became = []
    monkeypatch.setattr(os, "execve", lambda program, arguments, environment: became.append(arguments))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["ui"]) == 2
    assert capsys.readouterr().err.startswith("headwise: there is no mlflow.db here; train something first")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert main(["ui"]) == 2
    assert "is a server already: open http://127.0.0.1:5000 in a browser" in capsys.readouterr().err
    assert became == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    assert main(["ui", "--port", "5003"]) == 0
    [line] = became
    assert " ".join(line).startswith(f"{sys.executable} -m mlflow server --backend-store-uri sqlite:///elsewhere.db")
    assert line[line.index("--port") + 1] == "5003"
