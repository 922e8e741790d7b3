# SPDX-License-Identifier: MIT
"""Many fields of a view in a single unpack: several() as a tuple, numbers() as a dict; and in_order() and
Plan, for what unpacks even more at once."""

from __future__ import annotations

import struct
from operator import attrgetter, itemgetter

from . import _types as t


def several(view: t.Any, *names: str) -> t.Callable[[t.Any], tuple[t.Any, ...]]:
    """As operator.attrgetter(*names) of the view, with a single unpack if the kernel returned all of them.

    For fields that are read from every subflow at every update. No bit-fields.
    """
    unpacked, unpack_from, needed = _unpacking(view, names)
    in_order = itemgetter(*map(unpacked.index, names))
    one_by_one = attrgetter(*names)
    return lambda raw: in_order(unpack_from(raw)) if len(raw) >= needed else one_by_one(raw)


def numbers(view: t.Any, at_once: t.Iterable[str]) -> t.Callable[[t.Any], dict[str, t.Any]]:
    """A function that gives all fields of a view by name, in order, as plain ints.

    at_once: those that are in every such view, which are read in a single unpack. No bit-fields.
    """
    template = dict.fromkeys(view.fields)
    names, unpack_from, _ = _unpacking(view, at_once)
    others = [name for name in view.fields if name not in names]

    def by_name(raw: t.Any) -> dict[str, t.Any]:
        values = template | dict(zip(names, unpack_from(raw), strict=True))
        for name in others:
            values[name] = getattr(raw, name)
        return values

    return by_name


def in_order(view: t.Any, names: t.Iterable[str], length: int) -> list[str]:
    """Those of these fields that structs of this length have, in the order of the struct. No bit-fields."""
    fields = [view.fields[name] for name in names if view.fields[name].needed <= length]
    return [field.name for field in sorted(fields, key=lambda field: field.place.offset)]


class Plan:
    """How some attributes of a view are unpacked from structs of one length, as asdict(clean=True) has them.

    ``places`` are those of the numbers that finish() takes, in order.
    """

    def __init__(self, view: t.Any, names: t.Iterable[str], length: int) -> None:
        wanted = list(dict.fromkeys(names))
        places: dict[t.Any, t.Any] = {}
        self._absent: list[str] = []
        self._bits: list[tuple[str, int, int, int]] = []
        self._nothing: list[tuple[str, int]] = []
        self._ages: list[tuple[str, list[str]]] = []
        self._computed = [(name, *view._computed[name]) for name in wanted if name in view._computed]
        for name in wanted:
            if name in view._computed:
                continue
            field = view.fields[name]
            place = field.place
            if field.needed > length:
                self._absent.append(name)
            elif place.mask:
                places[place.offset] = place
                self._bits.append((name, place.offset, place.shift, place.mask))
            else:
                places[name] = place
            if field.sentinel is not None:
                self._nothing.append((name, field.sentinel))
            if field.never is not None:
                self._ages.append((name, field.never.counters))
        needed = [name for _, counters in self._ages for name in counters]
        needed += [name for _, _, names in self._computed for name in names]
        for name in needed:
            if view.fields[name].needed <= length:
                places[name] = view.fields[name].place
        in_order = sorted(places.items(), key=lambda item: item[1].offset)
        self._keys, self.places = [key for key, _ in in_order], [place for _, place in in_order]
        self._empty = dict.fromkeys(self._keys)
        self._extra = [key for key in self._keys if key not in wanted]
        self._ages = [
            (name, [counter for counter in counters if counter in places])
            for name, counters in self._ages
            if name in places
        ]

    def finish(self, numbers: t.Iterable[int]) -> dict[str, t.Any]:
        """The attributes, from the numbers at ``places``."""
        values: dict[t.Any, t.Any] = self._empty.copy()  # of the right size: filling it moves nothing
        values.update(zip(self._keys, numbers))  # noqa: B905  # strict= takes longer than two short lists
        for name, counters in self._ages:
            for counter in counters:
                if not values[counter]:
                    values[name] = None
        for name, nothing in self._nothing:
            if values.get(name) == nothing:
                values[name] = None
        for name, byte, shift, mask in self._bits:
            values[name] = values[byte] >> shift & mask
        for name, function, names in self._computed:
            values[name] = function(*[values[of] for of in names])
        for key in self._extra:
            del values[key]
        for name in self._absent:
            values[name] = None
        return values


class Without:
    """For ``Field.never``: whether one of these counters of a view is 0."""

    def __init__(self, *counters: str) -> None:
        self.counters = counters

    def __call__(self, view: t.Any) -> bool:
        return any(getattr(view, name) == 0 for name in self.counters)


def _unpacking(
    view: t.Any, names: t.Iterable[str]
) -> tuple[list[str], t.Callable[[t.Any], tuple[int, ...]], int]:
    """These fields in the order of the struct, what unpacks them, and the length that it needs."""
    fields = sorted([view.fields[name] for name in names], key=lambda field: field.place.offset)
    needed = max([field.needed for field in fields], default=0)
    end, form = 0, "="
    for field in fields:
        form += f"{field.place.offset - end}x{field.place.format[1:]}"
        end = field.place.end
    return [field.name for field in fields], struct.Struct(form).unpack_from, needed
