"""Who has to give up how much when a limit is reached: those that hold most (max-min fairness)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def excess_of(held: Mapping[str, int], surplus: int, least: int) -> dict[str, int]:
    """What each of those who hold most gives up, so that they are left with equally much, but not less than ``least``.

    Args:
        held: how much each holder has, of those who hold most, the largest first.
        surplus: how much is to be given up together; where nobody has so much beyond ``least``, the sum is smaller.
        least: how much nobody has to give up.
    """
    level, taken = float(least), 0
    amounts = list(held.values())
    for number, amount in enumerate(amounts, 1):
        taken += amount
        level = max(least, (taken - surplus) / number)
        if number == len(amounts) or level >= amounts[number]:
            break
    return {holder: round(amount - level) for holder, amount in held.items() if amount > level}
