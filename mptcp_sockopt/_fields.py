# SPDX-License-Identifier: MIT
"""How a view decodes: Field, View, turned() and column(), which know no field by name.

A view *is* the bytes that the kernel wrote (a bytes subclass), so it costs what bytes cost, never changes,
hashes and pickles as they do, and keeps the tail that a newer kernel added. Type checkers, dir() and help()
see its fields, and of bytes no more than a buffer. Where a field lies is reflected from csrc/mptcp_abi.h. A
field that the kernel did not return is None, never 0.
"""

from __future__ import annotations

import struct
import sys
from operator import attrgetter, itemgetter
from types import GenericAlias, MappingProxyType

from . import _border
from . import _types as t
from ._records import Shown, dir_of

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from typing import Generic, TypeVar, overload

    from typing_extensions import Never, Self

    N = TypeVar("N", bound=int)
    T_co = TypeVar("T_co", covariant=True)


class Field(property):
    """An attribute of a view: where it lies, and what it means.

    ``unit`` is its unit, ``since`` the Linux release that brought it, ``sentinel`` the value that the
    kernel uses for "none" (or None), ``__doc__`` a sentence with both. ``never`` (or None) tells of a view
    whether the value is of something that has not happened: another field of the same answer shows it.
    ``kind`` is what the number is: a "counter" only grows, a "gauge" is of this moment, an "age" is the time
    since something happened, a "limit" was configured or negotiated, a "sequence" is a position in the data,
    a "label" names or describes. ``names`` has the members of the enum that a number is shown as, or is None.
    """

    unit: str
    since: str
    kind: t.Kind
    sentinel: int | None
    never: t.Callable[[t.Any], bool] | None
    names: t.Mapping[int, int] | None
    #: The plain number in a view, whatever its class or a class made of it shows.
    number: t.Callable[[t.Any], t.Any]

    __class_getitem__: t.ClassVar[t.Any] = classmethod(GenericAlias)  # FieldOf[int]

    def __init__(
        self,
        doc: str,
        unit: str,
        since: str,
        kind: t.Kind,
        sentinel: int | None = None,
        never: t.Callable[[t.Any], bool] | None = None,
        names: t.Mapping[int, int] | None = None,
    ) -> None:
        self.__doc__ = f"{doc} ({unit}; Linux {since})"
        self.unit = unit
        self.since = since
        self.kind = kind
        self.sentinel = sentinel
        self.never = never
        self.names = names

    def says_none(self, view: View, value: object) -> bool:
        """Whether value is the kernel's way to say that there is none, or of what has not happened."""
        if self.sentinel is not None and value == self.sentinel:
            return True
        return self.never is not None and self.never(view)

    def __set_name__(self, owner: type[View], name: str) -> None:
        """Find the place in the owner's struct."""
        self.name = name
        self.place = place = owner._places[name[:-1] if name.endswith("_") else name]
        #: The struct's length from which the field is in it.
        self.needed = needed = owner._size_since.get(self.since, place.end)
        self.number = _getter(place, needed)
        getter = self.number if self.names is None else _named(place, needed, self.names)
        getter.__name__ = name  # for the message of an AttributeError
        super().__init__(getter, doc=self.__doc__)

    def __repr__(self) -> str:
        return f"<Field {self.name}: {self.kind}, {self.unit}, Linux {self.since}>"


#: By size: a Struct for each field would take longer to make.
_UNPACK = {struct.calcsize(form): struct.Struct(form).unpack_from for form in ("=H", "=I", "=Q")}


def _getter(place: _border.Place, needed: int) -> t.Callable[[View], int | None]:
    offset = place.offset
    if place.mask:
        shift, mask = place.shift, place.mask
        return lambda view: (view[offset] >> shift) & mask if len(view) >= needed else None
    if place.size == 1:
        return lambda view: view[offset] if len(view) >= needed else None
    unpack_from = _UNPACK[place.size]
    return lambda view: unpack_from(view, offset)[0] if len(view) >= needed else None


def _named(place: _border.Place, needed: int, names: t.Mapping[int, int]) -> t.Callable[[View], int | None]:
    """As _getter(), by a table: an enum's own look-up would cost more than the rest."""
    offset = place.offset
    if place.size == 1:
        table = [names.get(number, number) for number in range(256)]
        return lambda view: table[view[offset]] if len(view) >= needed else None
    get, unpack_from = names.get, _UNPACK[place.size]
    return lambda view: get(number := unpack_from(view, offset)[0], number) if len(view) >= needed else None


if TYPE_CHECKING:

    class FieldOf(Generic[T_co]):
        """What a type checker sees of a Field: it cannot know what a property subclass returns."""

        unit: str
        since: str
        kind: t.Kind
        sentinel: int | None
        never: t.Callable[[t.Any], bool] | None
        names: t.Mapping[int, int] | None

        @overload
        def __get__(self, view: None, owner: type[View]) -> Self: ...
        @overload
        def __get__(self, view: View, owner: type[View]) -> T_co: ...
        def __get__(self, view: View | None, owner: type[View]) -> Self | T_co: ...
        def __set__(self, view: View, value: Never) -> Never: ...

    class Bytes:
        """What a type checker sees of bytes in a view."""

        def __buffer__(self, flags: int, /) -> memoryview: ...
        def __bytes__(self) -> bytes: ...
        def __len__(self) -> int: ...
        @overload
        def __getitem__(self, index: int, /) -> int: ...
        @overload
        def __getitem__(self, index: slice, /) -> bytes: ...
        def __getitem__(self, index: int | slice, /) -> int | bytes: ...

else:
    FieldOf, Bytes = Field, bytes


def always(
    doc: str,
    unit: str,
    since: str,
    kind: t.Kind,
    sentinel: int | None = None,
    never: t.Callable[[t.Any], bool] | None = None,
) -> FieldOf[int]:
    """A field that every supported kernel returns."""
    return Field(doc, unit, since, kind, sentinel, never)  # type: ignore[return-value]


def named(doc: str, unit: str, since: str, names: t.Mapping[int, N]) -> FieldOf[N | int]:
    """The same, shown as a member of an enum; a number that the enum does not have stays a number."""
    return Field(doc, unit, since, "label", names=names)  # type: ignore[return-value]


def newer(
    since: str,
    doc: str,
    unit: str,
    kind: t.Kind,
    sentinel: int | None = None,
    never: t.Callable[[t.Any], bool] | None = None,
) -> FieldOf[int | None]:
    """A field that some supported kernel does not return."""
    return Field(doc, unit, since, kind, sentinel, never)  # type: ignore[return-value]


_new_bytes: t.MakeView = bytes.__new__  # type: ignore[assignment]  # views are bytes
_equal: t.Callable[[t.Any, object], bool] = bytes.__eq__
_unequal: t.Callable[[t.Any, object], bool] = bytes.__ne__


class View(Bytes, metaclass=Shown):
    """The bytes of a kernel struct. Build one from recorded bytes with ``MPTCPInfo(raw)``.

    Its fields are attributes; ``fields`` has them by name, each with ``unit``, ``since`` and ``kind``.
    ``raw`` is the kernel's bytes, ``asdict(clean=True)`` is for JSON, ``str()`` a table, ``repr()`` what
    matters in it.

    Two views are equal if their bytes are, and are of the same struct: an MPTCPInfo never equals a TCPInfo,
    but it does equal a view of the same bytes whose class you derived from MPTCPInfo. Plain bytes equal every
    view of the same bytes, and have the same hash: do not mix bytes and views in one set.

    Bytes that a machine of the other byte order recorded are turned by ``MPTCPInfo(raw, byteorder="big")``:
    the view holds them as this machine's kernel would have written them, but for a tail that this release
    does not know. ValueError for what cannot be bytes of the struct: too few, a length that no compiler
    gives it, sizes that contradict each other, a small number that is one in the other byte order only.
    A value that no kernel writes today is taken: a newer one may.
    """

    __slots__ = ()

    #: The fields by name, in the order of the struct.
    fields: t.ClassVar[t.Mapping[str, Field]] = MappingProxyType({})

    _places: t.ClassVar[t.Mapping[str, _border.Place]] = {}
    #: Length of the struct in the release that added a field, where the end of the field will not do.
    _size_since: t.ClassVar[t.Mapping[str, int]] = {}
    _smallest: t.ClassVar[int] = 0
    #: What the compiler rounds the length of the struct up to, at least.
    _aligned: t.ClassVar[int] = 1
    #: A field whose number is always a small one.
    _small: t.ClassVar[str] = ""
    #: The fields that are shown as members of an enum.
    _named: t.ClassVar[tuple[str, ...]] = ()
    #: The fields that repr() shows.
    _vital: t.ClassVar[tuple[str, ...]] = ()
    #: The class of the struct that the bytes are of: this one, or the one that it was made of.
    _struct: t.ClassVar[type]

    def __init_subclass__(cls, **kwargs: t.Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        for base in View.__mro__:
            for name in vars(base).keys() & own.keys():
                raise TypeError(
                    f"{cls.__name__}.{name}: every view has that attribute; name the field {name}_"
                )
        for name, field in own.items():
            if cls._size_since and field.since not in cls._size_since:
                raise TypeError(f"{cls.__name__}.{name}: _size_since has no length of Linux {field.since}")
        cls.fields = MappingProxyType({**cls.fields, **own})
        cls._named = tuple(name for name, field in cls.fields.items() if field.names is not None)
        if View in cls.__bases__:
            cls._struct = cls

    def __new__(
        cls, raw: bytes | bytearray | memoryview, *, byteorder: t.Literal["little", "big"] | None = None
    ) -> t.Self:
        if not isinstance(raw, (bytes, bytearray, memoryview)):
            raise TypeError(f"{cls.__name__} is made of bytes, not {type(raw).__name__}")
        if byteorder not in ("little", "big", None):
            raise ValueError(f"byteorder is 'little' or 'big', not {byteorder!r}")
        raw = bytes(raw)
        if len(raw) < cls._smallest:
            raise ValueError(f"{cls.__name__} of {len(raw)} bytes: the smallest is {cls._smallest}")
        if len(raw) % cls._aligned:
            raise ValueError(f"{cls.__name__} of {len(raw)} bytes: that is no multiple of {cls._aligned}")
        view = _new_bytes(cls, raw if byteorder in (sys.byteorder, None) else cls._turned(raw))
        view._check()
        return view

    if TYPE_CHECKING:

        @classmethod
        def _trusted(cls, raw: bytes | memoryview) -> t.Self: ...
    else:
        # A view of what a kernel wrote, or of bytes that were checked: they are not checked again.
        _trusted = classmethod(bytes.__new__)

    def __reduce__(self) -> tuple[t.Any, ...]:
        return _of_bytes, (type(self), bytes(self), sys.byteorder), getattr(self, "__dict__", None)

    def _check(self) -> None:
        """ValueError for recorded bytes that contradict themselves. Those of a reader are not asked."""
        if self._small:
            field = self.fields[self._small]  # not the attribute: a subclass may show it in its own way
            refuse_turned(type(self), field.number(self), field.place.size)

    @classmethod
    def _turned(cls, raw: bytes) -> bytes:
        """Bytes of the other byte order, in this one."""
        return turned(raw, cls._places.values())

    @property
    def raw(self) -> bytes:
        """The kernel's bytes, as plain bytes."""
        return bytes(self)

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All fields by name, as plain ints. With clean, None for what means "none" or has never happened.

        Make JSON of this, ``json.dumps(info.asdict(clean=True))``: a view itself is bytes. Sequence numbers,
        and without clean max_pacing_rate, exceed 2^53: readers of JSON that know floats alone round them.
        """
        values = {name: getattr(self, name) for name in self.fields}
        for name in self._named:
            if isinstance(values[name], int):  # a class made of this one may show something else
                values[name] = int(values[name])
        if clean:
            for name, field in self.fields.items():
                if field.says_none(self, values[name]):
                    values[name] = None
        return values

    def __eq__(self, other: object) -> bool:
        if isinstance(other, View) and other._struct is not self._struct:
            return False
        return _equal(self, other)

    def __ne__(self, other: object) -> bool:
        if isinstance(other, View) and other._struct is not self._struct:
            return True
        return _unequal(self, other)

    if TYPE_CHECKING:

        def __hash__(self) -> int: ...

    else:
        __hash__ = bytes.__hash__

    __dir__ = dir_of

    def _rows(self) -> list[t.Row]:
        """Name, value and unit of every field that says something."""
        values = [(name, getattr(self, name), field) for name, field in self.fields.items()]
        return [
            (name, value, "" if field.kind == "label" else field.unit)
            for name, value, field in values
            if value is not None and not field.says_none(self, value)
        ]

    def __repr__(self) -> str:
        from ._shown import short

        return short(type(self).__name__, {name: getattr(self, name) for name in self._vital})

    def __str__(self) -> str:
        from ._shown import table

        return table(type(self).__name__, self._rows())


def _of_bytes(view: type[View], raw: bytes, byteorder: t.Literal["little", "big"]) -> View:
    """A view out of a pickle, which knows its byte order."""
    return view(raw) if byteorder == sys.byteorder else view(raw, byteorder=byteorder)


def unpickled(byteorder: str, make: t.Callable[..., T_co], *parts: object) -> T_co:
    """make(*parts), for what holds many structs in the byte order of its machine."""
    if byteorder != sys.byteorder:
        raise ValueError("pickled on a machine of the other byte order: views alone can be unpickled there")
    return make(*parts)


def turned(raw: bytes, places: t.Iterable[_border.Place]) -> bytes:
    """raw with these fields in the opposite byte order; those that it does not hold are left alone."""
    out, bits = bytearray(raw), dict[int, int]()
    for place in places:
        if place.end > len(raw):
            continue
        if place.mask:  # where the byte order is another, a compiler fills a byte from its other end
            from_other_end = 8 * place.size - place.mask.bit_length() - place.shift
            value = raw[place.offset] >> from_other_end & place.mask
            bits[place.offset] = bits.get(place.offset, 0) | value << place.shift
        else:
            out[place.offset : place.end] = raw[place.offset : place.end][::-1]
    for offset, byte in bits.items():
        out[offset] = byte
    return bytes(out)


def refuse_turned(view: type[View], number: int | None, size: int) -> None:
    """ValueError if number, which is a small one, is so in the other byte order only."""
    if number and not number & (1 << 4 * size) - 1:
        raise ValueError(f"{view.__name__}: these bytes are of the other byte order (byteorder= turns them)")


def several(view: type[View], *names: str) -> t.Callable[[t.Any], tuple[t.Any, ...]]:
    """As operator.attrgetter(*names) of the view, by one unpack where the kernel returned all of them.

    For what is read of every subflow at every update. No bit-fields.
    """
    fields = sorted([view.fields[name] for name in names], key=lambda field: field.place.offset)
    needed, end, form = max([field.needed for field in fields]), 0, "="
    for field in fields:
        form += f"{field.place.offset - end}x{field.place.format[1:]}"
        end = field.place.end
    unpack_from = struct.Struct(form).unpack_from
    in_order = itemgetter(*[fields.index(view.fields[name]) for name in names])
    one_by_one = attrgetter(*names)
    return lambda raw: in_order(unpack_from(raw)) if len(raw) >= needed else one_by_one(raw)


def column(view: type[View], name: str, rows: memoryview, stride: int, start: int, length: int) -> memoryview:
    """One field of all records of a kind that lie at equal distances, without copying.

    rows are bytes, stride from record to record, start in front of the view's struct; length is what the
    kernel made of that struct. Read-only, of native unsigned ints. ValueError for what is no field of the
    view, for a bit-field, and for a field that this kernel does not report.
    """
    field = view.fields.get(name)
    if field is None:
        raise ValueError(f"{view.__name__} has no field {name!r}")
    place = field.place
    if place.mask:
        raise ValueError(f"{name} is a bit-field: there is no column of it")
    if length < field.needed:
        raise ValueError(f"this kernel does not report {name}: it came with Linux {field.since}")
    return strided(place, rows, stride, start)


def strided(place: _border.Place, rows: memoryview, stride: int, start: int) -> memoryview:
    """The field at a place of all records, as column()."""
    # Native sizes are the standard ones for B, H, I and Q.
    whole: memoryview = rows.cast("B").cast(place.format[1:])  # type: ignore[call-overload]
    return whole[(start + place.offset) // place.size :: stride // place.size].toreadonly()
