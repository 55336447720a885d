"""Iterative stratification of groups over parts.

Source:
    Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data, 2011.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

NORMAL = ""
"""The class of an image without a box; no class of a user can be named so."""


@dataclass
class Stratum:
    """What one group holds: its number of images, and of boxes per class."""

    images: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def distribute(
    strata: Mapping[str, Stratum],
    shares: Mapping[str, float],
    seed: int,
    fixed: Mapping[str, str],
) -> dict[str, str]:
    """Finds a part for every group so that each class is divided as the shares say.

    First every part gets a group of every class it lacks, the rarest class first; then the
    class with the fewest groups left is dealt out to the part that lacks most of it.

    Args:
        strata: Group to what it holds.
        shares: Part to its share, above 0; they sum to 1.
        seed: Breaks ties.
        fixed: Group to part for groups that have one already; they count, and stay.

    Returns:
        Group to part, for all of `strata`.
    """
    deal = _Deal(strata, shares, seed)
    for group in strata:
        # A part whose share is 0 now may still hold groups from before.
        if group in fixed:
            deal.place(group, fixed[group])
    deal.cover()
    deal.spread()
    deal.mend(frozen=frozenset(fixed))
    return deal.placed


class _Deal:
    """The state of one distribution: what is placed, and what each part still lacks."""

    def __init__(
        self, strata: Mapping[str, Stratum], shares: Mapping[str, float], seed: int
    ) -> None:
        self.strata = strata
        self.parts = tuple(shares)
        self.placed: dict[str, str] = {}
        # A hash, not a shuffle: adding a group leaves the order of the others as it was.
        self.rank = {
            group: hashlib.sha256(f"{seed}\n{group}".encode()).digest() for group in strata
        }
        self.order = sorted(strata, key=self.rank.__getitem__)
        total: Counter[str] = Counter()
        self.groups_of: dict[str, list[str]] = {}
        for group in self.order:
            total.update(strata[group].counts)
            for name in strata[group].counts:
                self.groups_of.setdefault(name, []).append(group)
        images = sum(item.images for item in strata.values())
        self.lack = {
            part: {name: count * share for name, count in total.items()}
            for part, share in shares.items()
        }
        self.room = {part: images * share for part, share in shares.items()}
        self.held: dict[str, Counter[str]] = {part: Counter() for part in shares}

    def place(self, group: str, part: str) -> None:
        """Puts a group into a part, in place of where it was."""
        old = self.placed.get(group)
        if old is not None:
            self._count(group, old, -1)
        self.placed[group] = part
        self._count(group, part, 1)

    def _count(self, group: str, part: str, sign: int) -> None:
        if part not in self.lack:
            return
        stratum = self.strata[group]
        for name, count in stratum.counts.items():
            self.lack[part][name] -= sign * count
            self.held[part][name] += sign
        self.room[part] -= sign * stratum.images

    def _left(self, name: str) -> list[str]:
        return [group for group in self.groups_of[name] if group not in self.placed]

    def cover(self) -> None:
        """Gives every part a group of every class, as far as there are groups."""
        for name in sorted(self.groups_of, key=lambda name: (len(self.groups_of[name]), name)):
            missing = [part for part in self.parts if not self.held[part][name]]
            # With groups for some parts only, the largest share comes first: training.
            missing.sort(key=lambda part: -self.room[part])
            for part in missing:
                left = self._left(name)
                if left:
                    self.place(min(left, key=lambda group: self._overfill(group, part)), part)

    def _overfill(self, group: str, part: str) -> tuple[float, bytes]:
        excess = self.strata[group].images - self.room[part]
        return max(0.0, excess), self.rank[group]

    def spread(self) -> None:
        """Deals out all groups that are left, the class with the fewest boxes left first."""
        remaining = {
            name: sum(self.strata[group].counts[name] for group in self._left(name))
            for name in self.groups_of
        }
        while remaining := {name: count for name, count in remaining.items() if count > 0}:
            rarest = min(remaining, key=lambda name: (remaining[name], name))
            # In the order of the seed: sorted by size, the crowded images would all be trained on.
            for group in self._left(rarest):
                part = max(self.parts, key=lambda part: self._need(part, rarest))
                self.place(group, part)
                for name, count in self.strata[group].counts.items():
                    remaining[name] -= count

    def _need(self, part: str, name: str) -> tuple[float, float]:
        return self.lack[part][name], self.room[part]

    def mend(self, frozen: frozenset[str]) -> None:
        """Moves single groups where a part still lacks a class that others can spare."""
        for name in sorted(self.groups_of, key=lambda name: (len(self.groups_of[name]), name)):
            for part in self.parts:
                if self.held[part][name]:
                    continue
                movable = [
                    group
                    for group in self.groups_of[name]
                    if group not in frozen and self._can_spare(group)
                ]
                if movable:
                    self.place(min(movable, key=lambda g: self._overfill(g, part)), part)

    def _can_spare(self, group: str) -> bool:
        held = self.held.get(self.placed[group])
        return held is not None and all(held[name] > 1 for name in self.strata[group].counts)
