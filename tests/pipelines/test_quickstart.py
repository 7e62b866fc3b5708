"""The quick start, in small: from nothing to a served answer of both products."""

from dataclasses import replace
from importlib.util import find_spec

import pytest

import headwise_pipelines.quickstart as quickstart
from headwise_pipelines.recsys import presets as recsys
from headwise_recsys import shopping

pytestmark = pytest.mark.slow


def tiny_shopping() -> recsys.RecsysConfig:
    """As the quick start's, smaller."""
    whole = recsys.shopping()
    return replace(whole, model=recsys.SASRecSettings(width=14), fit=replace(whole.fit, epochs=1))


def test_both_products_are_made_served_and_asked(place, monkeypatch) -> None:
    speech = not [name for name in ("torchaudio", "soundfile", "espeakng_loader") if find_spec(name) is None]
    write = shopping.write
    monkeypatch.setattr(shopping, "write", lambda folder: write(folder, users=211, items=101, events=23))
    monkeypatch.setattr(quickstart, "shopping_run", tiny_shopping)
    if speech:
        from headwise_pipelines.speech import presets
        from headwise_speech import synthesis

        whole, generate = presets.spelled(), synthesis.generate
        model = presets.RecogniserSettings(width=20, blocks=1, heads=2, span=3, channels=5)
        tiny = replace(whole, model=model, fit=replace(whole.fit, epochs=1))
        monkeypatch.setattr(presets, "spelled", lambda: tiny)
        monkeypatch.setattr(synthesis, "generate", lambda folder: generate(folder, train=31, valid=7, test=11))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.environment.items():
            patch.setenv(name, value)
        said = place.run("quickstart", "--json")
    assert said.code == 0, said.err
    answer = said.json
    assert len(answer["recommendation"]["items"]) == 5
    assert all(item["title"] for item in answer["recommendation"]["items"])
    assert answer["best_possible"]["ndcg_10"] > answer["recommender"]["metrics"]["ndcg_10"]
    assert answer["best_possible"]["ndcg_10"] > answer["recommender"]["baselines"]["Markov"]["ndcg_10"]
    for words in ("best possible", "popularity", "models:/recommender/1", "headwise ui", "POST /v1/recommendations"):
        assert words in said.out
    if speech:
        assert "text" in answer["transcription"]
        assert "WER" in said.out
