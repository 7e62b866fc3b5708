"""What names a user or an item."""

from typing import TypeAlias

Id: TypeAlias = int | str  # as its source has it
