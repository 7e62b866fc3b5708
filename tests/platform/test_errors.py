import pytest

from headwise import errors
from headwise.errors import HeadwiseError, InputError, NotFound, ParityError


def test_the_tree_is_as_drawn():
    assert InputError.__bases__ == ParityError.__bases__ == (HeadwiseError,)
    assert NotFound.__bases__ == (InputError,)
    assert HeadwiseError.__bases__ == (Exception,)
    drawn = errors.__doc__.split()
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined == {word for word in drawn if word in defined}


@pytest.mark.parametrize("kind", [HeadwiseError, InputError, NotFound, ParityError])
def test_the_text_is_the_message(kind):
    assert str(kind("ratings.dat:17: item is empty; give every line an item")).endswith("give every line an item")
