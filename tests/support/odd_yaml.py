"""YAML that programs read differently, made at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

_SCALARS: Final = (
    *("a", "'y'", "y", "No", "on", "~", "null", "nULL", "''", '"x\\u0041"', "<<", "=", "2001-01-01", "1:30", "-", "é"),
    *("1", "010", "0o17", "0x1F", "0b10", "1_000", "09", "1.5", ".5", "5.", "1e3", "-0", "+1", "9223372036854775807"),
    *("!!str 1", "!!int 3", "!!float 1", "!!bool yes", "!!null ~", "!!str y"),
)
_KEYS: Final = ("a", "b", "c", "image", "'1'", "1", "yes", "'true'", "<<", "<<", "'<<'", "!!merge <<", "!!str a", "0x1")


class Odd:
    """Makes mappings with anchors, merges, tags and values of all kinds.

    Args:
        random: what is made depends on nothing else.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._anchors: list[str] = []

    def mapping(self, indent: str, depth: int = 2) -> str:
        """A mapping in lines that begin with this indent."""
        lines = ""
        for _ in range(self._random.randint(1, 4)):
            key = self._random.choice(_KEYS)
            if depth and self._random.random() < 1 / 2:
                lines += f"{indent}{key}:\n{self.mapping(indent + '  ', depth - 1)}"
            else:
                lines += f"{indent}{key}: {self._value(2)}\n"
        return lines

    def _value(self, depth: int) -> str:
        chance = self._random.random()
        if self._anchors and chance < 1 / 4:
            return f"*{self._random.choice(self._anchors)} "
        anchor = ""
        if chance > 5 / 6:
            self._anchors.append(f"n{len(self._anchors)}")
            anchor = f"&{self._anchors[-1]} "
        if not depth or chance < 1 / 2:
            return anchor + self._random.choice(_SCALARS)
        inner = range(self._random.randint(0, 3))
        if chance < 2 / 3:
            return f"{anchor}[{', '.join(self._value(depth - 1) for _ in inner)}]"
        return f"{anchor}{{{', '.join(f'{self._random.choice(_KEYS)}: {self._value(depth - 1)}' for _ in inner)}}}"
