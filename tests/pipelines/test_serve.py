"""The server's process: started by the command, small, and stopped in order."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import soundfile

from headwise_pipelines.command import main

SCRIPT = """
import sys
from headwise_pipelines.command import main
code = main(["serve", *sys.argv[1:], "--port", "0"])
heavy = {"torch", "torchaudio", "pytorch_lightning", "mlflow", "polars", "pandas", "scipy", "onnx", "matplotlib", "rich"}
print("heavy:", *sorted(heavy & set(sys.modules)), flush=True)
sys.exit(code)
"""


def test_the_server_started_by_the_command_holds_no_torch(recommender_folder, recogniser_folder) -> None:
    command = [sys.executable, "-c", SCRIPT, str(recommender_folder), str(recogniser_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as server:
        try:
            assert server.stdout is not None
            ready = server.stdout.readline()
            assert ready.startswith("headwise is ready at http://127.0.0.1:")
            with urllib.request.urlopen(f"{ready.split()[-1]}/v1/models") as answer:
                kinds = [model["kind"] for model in json.load(answer)["data"]]
            server.send_signal(signal.SIGTERM)
            out, _ = server.communicate(timeout=60)
        finally:
            server.kill()
    assert kinds == ["recommender", "recogniser"]
    assert (out.strip(), server.returncode) == ("heavy:", 0)


def test_a_recommendation_is_explained_in_words_and_in_json(recommender_folder, capsys) -> None:
    asked = ["recommend", str(recommender_folder), "151", "103", "-k", "2", "--explain"]
    assert main(asked) == 0
    assert capsys.readouterr().out.splitlines() == [
        "  1     1.000  107  Title 107   (carried by 103)",
        "  2     0.500  109  Title 109   (carried by 103)",
        "",
        "what the model looked at, newest first:",
        " 66.7%  ████████████████████  103",
        " 33.3%  ██████████            Title 151",
    ]
    assert main(["recommend", str(recommender_folder), "107", "103", "-k", "1", "--explain"]) == 0
    [first, *_] = capsys.readouterr().out.splitlines()
    assert first == "  1     0.500  109  Title 109"  # it scores 1 without the last item: nothing carried it
    assert main([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [item["attention"] for item in answer["history"]] == pytest.approx([1 / 3, 2 / 3])
    assert [item["leave_one_out"] for item in answer["items"]] == [[0, pytest.approx(2 / 3)], [0, 0.25]]


def test_a_transcript_is_explained_in_words_and_in_json(recogniser_folder, tmp_path, capsys) -> None:
    levels = np.repeat([0.0, 0.4, 0.6, 0.2, 0.8], 1600)  # silence, A, B, a space, C; each frame looks at itself
    soundfile.write(tmp_path / "a.wav", levels, 16_000)
    asked = ["transcribe", str(recogniser_folder), str(tmp_path / "a.wav"), "--explain"]
    assert main(asked) == 0
    assert capsys.readouterr().out.splitlines() == [
        "AB C",
        f"    0.10 to   0.30 s  {' ' * 8}{'█' * 16}{' ' * 16}  AB",
        f"    0.40 to   0.50 s  {' ' * 32}{'█' * 8}  C",
    ]
    assert main([*asked, "--json"]) == 0
    [answer] = json.loads(capsys.readouterr().out)["files"].values()
    assert [word["attention"] for word in answer["words"]] == [[0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 1]]
