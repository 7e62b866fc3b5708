import pytest
import pytorch_lightning as pl

from headwise.training.fit import fit
from headwise.training.settings import FitSettings

SETTINGS = FitSettings(epochs=4, threads=1, accelerator="cpu")


@pytest.fixture
def train(toy, tmp_path):
    def run(watch, settings=SETTINGS):
        pl.seed_everything(3, verbose=False)
        return fit(
            toy.Regression(),
            toy.Rows(),
            settings=settings,
            folder=tmp_path,
            monitor="valid/loss",
            mode="min",
            watch=watch,
        )

    return run


def test_a_watch_is_told_of_every_validation(train):
    told = []
    fitted = train(lambda epoch, score: told.append((epoch, score)) or True)
    assert told == [(row["epoch"], row["valid/loss"]) for row in fitted.history]
    assert fitted.epochs_run == 4


def test_training_ends_after_the_epoch_in_which_the_watch_says_so(train):
    fitted = train(lambda epoch, score: epoch < 2)
    assert fitted.epochs_run == 2
    assert fitted.best.is_file()
    assert (fitted.best.parent / "last.ckpt").is_file()


def test_an_epoch_without_validation_is_none_to_tell_of(train):
    told = []
    train(
        lambda epoch, score: told.append(epoch) or True,
        FitSettings(epochs=4, validate_every=2, threads=1, accelerator="cpu"),
    )
    assert told == [2, 4]
