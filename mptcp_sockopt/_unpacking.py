# SPDX-License-Identifier: MIT
"""Many fields of a view in a single unpack: several() as a tuple, numbers() and picked() as a dict."""

from __future__ import annotations

import struct
from operator import attrgetter, itemgetter

from . import _types as t


def several(view: t.Any, *names: str) -> t.Callable[[t.Any], tuple[t.Any, ...]]:
    """As operator.attrgetter(*names) of the view, with a single unpack if the kernel returned all of them.

    For fields that are read from every subflow at every update. No bit-fields.
    """
    fields = sorted([view.fields[name] for name in names], key=lambda field: field.place.offset)
    needed = max([field.needed for field in fields])
    unpack_from = _unpacker(fields)
    in_order = itemgetter(*[fields.index(view.fields[name]) for name in names])
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


def picked(
    view: t.Any, at_once: t.Iterable[str], others: t.Iterable[str], unclean: t.Iterable[tuple[str, t.Any]]
) -> t.Callable[[t.Any], dict[str, t.Any]]:
    """As numbers(), for these names only, with None for what an unclean field says is none."""
    names, unpack_from, needed = _unpacking(view, at_once)
    getters = [(name, view.fields[name].number) for name in names]
    attributes = list(others)
    nothing = [(name, field.sentinel, field.never) for name, field in unclean]

    def pick(raw: t.Any) -> dict[str, t.Any]:
        values: dict[str, t.Any]
        if len(raw) >= needed:
            values = dict(zip(names, unpack_from(raw), strict=True))
        else:
            values = {name: number(raw) for name, number in getters}
        for name in attributes:
            values[name] = getattr(raw, name)
        for name, sentinel, never in nothing:
            if (sentinel is not None and values[name] == sentinel) or (never is not None and never(raw)):
                values[name] = None
        return values

    return pick


def _unpacking(
    view: t.Any, names: t.Iterable[str]
) -> tuple[list[str], t.Callable[[t.Any], tuple[int, ...]], int]:
    """These fields in the order of the struct, what unpacks them, and the length that it needs."""
    fields = sorted([view.fields[name] for name in names], key=lambda field: field.place.offset)
    needed = max([field.needed for field in fields], default=0)
    return [field.name for field in fields], _unpacker(fields), needed


def _unpacker(fields: t.Iterable[t.Any]) -> t.Callable[[t.Any], tuple[int, ...]]:
    """unpack_from() of these fields, which are in the order of their offsets."""
    end, form = 0, "="
    for field in fields:
        form += f"{field.place.offset - end}x{field.place.format[1:]}"
        end = field.place.end
    return struct.Struct(form).unpack_from
