# SPDX-License-Identifier: MIT
"""Many fields of a view in a single unpack: several() as a tuple, numbers() as a dict."""

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


def numbers(view: t.Any, at_once: t.Iterable[t.Any]) -> t.Callable[[t.Any], dict[str, t.Any]]:
    """A function that gives all fields of a view by name, in order, as plain ints.

    at_once: the fields that are in every such view, which are read in a single unpack. No bit-fields.
    """
    template = dict.fromkeys(view.fields)
    fields = sorted(at_once, key=lambda field: field.place.offset)
    names, unpack_from = [field.name for field in fields], _unpacker(fields)
    others = [name for name in view.fields if name not in names]

    def by_name(raw: t.Any) -> dict[str, t.Any]:
        values = template | dict(zip(names, unpack_from(raw), strict=True))
        for name in others:
            values[name] = getattr(raw, name)
        return values

    return by_name


def _unpacker(fields: t.Iterable[t.Any]) -> t.Callable[[t.Any], tuple[int, ...]]:
    """unpack_from() of these fields, which are in the order of their offsets."""
    end, form = 0, "="
    for field in fields:
        form += f"{field.place.offset - end}x{field.place.format[1:]}"
        end = field.place.end
    return struct.Struct(form).unpack_from
