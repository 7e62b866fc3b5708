"""The exceptions that headwise raises on purpose.

HeadwiseError
├── InputError        what the user gave is wrong: exit code 2, or HTTP 4xx
│   └── NotFound      what the user named does not exist: HTTP 404
└── ParityError       an exported graph disagrees with the model it came from: exit code 1
"""


class HeadwiseError(Exception):
    """Anything that headwise raises on purpose; its text is one message for a person."""


class InputError(HeadwiseError):
    """What the user gave is wrong; the text names what (file, line, field, value), why, and the remedy."""


class NotFound(InputError):
    """The model, run, file or preset that the user named does not exist."""


class ParityError(HeadwiseError):
    """An exported graph disagrees with the model that it came from."""
