# SPDX-License-Identifier: MIT
"""How a view decodes the kernel's bytes: Field, View, turned() and column(). No field is known by name here.

A view *is* the bytes that the kernel wrote: it is a subclass of bytes. So it is as cheap as bytes, never
changes, can be hashed and pickled, and keeps the tail that a newer kernel added. Type checkers, dir() and
help() show its fields and, of bytes, only the buffer. Offsets come from csrc/mptcp_abi.h by reflection. A
field that the kernel did not return is None, never 0.
"""

from __future__ import annotations

import struct
import sys
from functools import lru_cache
from types import GenericAlias, MappingProxyType

from . import _border
from . import _types as t
from ._records import Shown, dir_of
from ._unpacking import numbers

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from typing import Generic, TypeVar, overload

    from typing_extensions import Never, Self

    N = TypeVar("N", bound=int)
    T_co = TypeVar("T_co", covariant=True)


class Field(property):
    """An attribute of a view, with its meaning.

    - ``unit``: its unit. ``since``: the Linux release that added it. ``__doc__``: a sentence with both.
    - ``kind``: a "counter" only grows, a "gauge" is a current value, an "age" is the time since an event, a
      "limit" was configured or negotiated, a "sequence" is a position in the data, and a "label" is a name,
      an identifier or a set of flags.
    - ``sentinel``: the value that the kernel uses for "none"; or None.
    - ``never``: a function that returns true for a view in which the age's event never happened; or None.
    - ``names``: the members of the enum that the number is shown as, by number; or None.
    """

    unit: str
    since: str
    kind: t.Kind
    sentinel: int | None
    never: t.Callable[[t.Any], bool] | None
    names: t.Mapping[int, int] | None
    #: The plain number in a view, even if its class, or a subclass, shows something else.
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
        """Whether value stands for "none", or for an event that has not happened."""
        if self.sentinel is not None and value == self.sentinel:
            return True
        return self.never is not None and self.never(view)

    def __set_name__(self, owner: type[View], name: str) -> None:
        """Look up the field in the owner's struct."""
        self.name = name
        self.place = place = owner._places[name[:-1] if name.endswith("_") else name]
        #: The shortest struct that holds the field.
        self.needed = needed = owner._size_since.get(self.since, place.end)
        self.number = _getter(place, needed)
        getter = self.number if self.names is None else _named(place, needed, self.names)
        getter.__name__ = name  # for the message of an AttributeError
        super().__init__(getter, doc=self.__doc__)

    def __repr__(self) -> str:
        return f"<Field {self.name}: {self.kind}, {self.unit}, Linux {self.since}>"


#: By size. One Struct for each field would take longer to create.
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
    """As _getter(), but gives enum members, from a table: the enum's own lookup is slower."""
    offset = place.offset
    if place.size == 1:
        table = [names.get(number, number) for number in range(256)]
        return lambda view: table[view[offset]] if len(view) >= needed else None
    get, unpack_from = names.get, _UNPACK[place.size]
    return lambda view: get(number := unpack_from(view, offset)[0], number) if len(view) >= needed else None


if TYPE_CHECKING:

    class FieldOf(Generic[T_co]):
        """A Field as type checkers see it: they cannot know what a subclass of property returns."""

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
        """What type checkers see of bytes in a view."""

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
    """As always(), shown as a member of an enum. A number without a member stays a number."""
    return Field(doc, unit, since, "label", names=names)  # type: ignore[return-value]


def newer(
    since: str,
    doc: str,
    unit: str,
    kind: t.Kind,
    sentinel: int | None = None,
    never: t.Callable[[t.Any], bool] | None = None,
) -> FieldOf[int | None]:
    """A field that some supported kernels do not return."""
    return Field(doc, unit, since, kind, sentinel, never)  # type: ignore[return-value]


_new_bytes: t.MakeView = bytes.__new__  # type: ignore[assignment]  # views are bytes
_equal: t.Callable[[t.Any, object], bool] = bytes.__eq__
_unequal: t.Callable[[t.Any, object], bool] = bytes.__ne__


class View(Bytes, metaclass=Shown):
    """The bytes of a kernel struct. Create one from recorded bytes with ``MPTCPInfo(raw)``.

    Its fields are attributes. ``fields`` has them by name, each with ``unit``, ``since`` and ``kind``.
    ``raw`` is the kernel's bytes, ``asdict(clean=True)`` is for JSON, ``str()`` is a table, and ``repr()``
    shows the most important fields.

    Two views are equal if they have the same bytes and are of the same struct: an MPTCPInfo never equals a
    TCPInfo. A view of a subclass of MPTCPInfo does equal an MPTCPInfo with the same bytes. Plain bytes equal
    every view of the same bytes and have the same hash: do not mix bytes and views in one set.

    ``MPTCPInfo(raw, byteorder="big")`` converts bytes that were recorded on a machine of the other byte
    order: the view holds the bytes that this machine's kernel would have written, except for a tail that this
    release does not know. ValueError if the bytes cannot be this struct: too short, a length that no compiler
    gives it, sizes that contradict each other, or a small number that is small only in the other byte order.
    Values that no kernel uses today are accepted, because a newer kernel may use them.
    """

    __slots__ = ()

    #: The fields by name, in the order of the struct.
    fields: t.ClassVar[t.Mapping[str, Field]] = MappingProxyType({})

    _places: t.ClassVar[t.Mapping[str, _border.Place]] = {}
    #: Length of the struct in the release that added a field, where the end of the field is not enough.
    _size_since: t.ClassVar[t.Mapping[str, int]] = {}
    _smallest: t.ClassVar[int] = 0
    #: The compiler makes the length of the struct a multiple of this, at least.
    _aligned: t.ClassVar[int] = 1
    #: A field whose number is always small. It reveals the wrong byte order.
    _small: t.ClassVar[str] = ""
    #: Attributes that are computed: the function, and the fields that it takes.
    _computed: t.ClassVar[t.Mapping[str, tuple[t.Callable[..., t.Any], tuple[str, ...]]]] = {}
    #: The fields that have a value for "none" or "never".
    _unclean: t.ClassVar[tuple[tuple[str, Field], ...]] = ()
    #: The fields that repr() shows.
    _vital: t.ClassVar[tuple[str, ...]] = ()
    #: The class that declares the struct: this class, or the one that it derives from.
    _struct: t.ClassVar[type]

    def __init_subclass__(cls, **kwargs: t.Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        for base in View.__mro__:
            for name in vars(base).keys() & own.keys():
                raise TypeError(
                    f"{cls.__name__}.{name}: every view already has that attribute; name the field {name}_"
                )
        for name, field in own.items():
            if cls._size_since and field.since not in cls._size_since:
                raise TypeError(f"{cls.__name__}.{name}: _size_since has no length for Linux {field.since}")
        cls.fields = MappingProxyType({**cls.fields, **own})
        cls._unclean = tuple(
            (name, field)
            for name, field in cls.fields.items()
            if field.sentinel is not None or field.never is not None
        )
        if View in cls.__bases__:
            cls._struct = cls

    def __new__(
        cls, raw: bytes | bytearray | memoryview, *, byteorder: t.Literal["little", "big"] | None = None
    ) -> t.Self:
        if not isinstance(raw, (bytes, bytearray, memoryview)):
            raise TypeError(f"{cls.__name__} is made of bytes, not {type(raw).__name__}")
        if byteorder not in ("little", "big", None):
            raise ValueError(f"byteorder must be 'little' or 'big', not {byteorder!r}")
        raw = bytes(raw)
        if len(raw) < cls._smallest:
            raise ValueError(f"{cls.__name__} of {len(raw)} bytes: the smallest is {cls._smallest}")
        if len(raw) % cls._aligned:
            raise ValueError(f"{cls.__name__} of {len(raw)} bytes: not a multiple of {cls._aligned}")
        view = _new_bytes(cls, raw if byteorder in (sys.byteorder, None) else cls._turned(raw))
        view._check()
        return view

    if TYPE_CHECKING:

        @classmethod
        def _trusted(cls, raw: bytes | memoryview) -> t.Self: ...
    else:
        # Creates a view without checks: of bytes that the kernel wrote, or that were checked before.
        _trusted = classmethod(bytes.__new__)

    def __reduce__(self) -> tuple[t.Any, ...]:
        return _of_bytes, (type(self), bytes(self), sys.byteorder), getattr(self, "__dict__", None)

    def _check(self) -> None:
        """ValueError for recorded bytes that contradict themselves. Readers do not call it."""
        if self._small:
            field = self.fields[self._small]  # not the attribute, which a subclass may override
            refuse_turned(type(self), field.number(self), field.place.size)

    @classmethod
    def _turned(cls, raw: bytes) -> bytes:
        """Bytes of the other byte order, converted to this machine's."""
        return turned(raw, cls._places.values())

    @property
    def raw(self) -> bytes:
        """The kernel's bytes, as plain bytes."""
        return bytes(self)

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All fields by name, as plain ints. With clean, a value that means "none" or "never" becomes None.

        Use this for JSON: ``json.dumps(info.asdict(clean=True))``. (A view itself is bytes.) Sequence
        numbers, and without clean also max_pacing_rate, exceed 2^53: JSON readers that only have floats round
        them.
        """
        values = _numbers(type(self), len(self))(self)
        if clean:
            for name, field in self._unclean:
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
        """Name, value and unit of every field that has a meaningful value."""
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


@lru_cache
def _numbers(view: type[View], length: int) -> t.Callable[[View], dict[str, t.Any]]:
    present = [name for name, field in view.fields.items() if field.needed <= length]
    return numbers(view, [name for name in present if _in_struct(view, name)])


def _in_struct(view: type[View], name: str) -> bool:
    """Whether it is a number in the struct, no bit-field, and not what a subclass shows instead."""
    field = view.fields.get(name)
    return type(field) is Field and getattr(view, name) is field and not field.place.mask


def _of_bytes(view: type[View], raw: bytes, byteorder: t.Literal["little", "big"]) -> View:
    """Unpickle a view. The pickle holds the byte order of the machine that wrote it."""
    return view(raw) if byteorder == sys.byteorder else view(raw, byteorder=byteorder)


def unpickled(byteorder: str, make: t.Callable[..., T_co], *parts: object) -> T_co:
    """make(*parts), for objects that hold many structs in the byte order of their machine."""
    if byteorder != sys.byteorder:
        raise ValueError("pickled on a machine of the other byte order: only views can be unpickled there")
    return make(*parts)


def turned(raw: bytes, places: t.Iterable[_border.Place]) -> bytes:
    """raw with these fields in the opposite byte order. Fields beyond its end are ignored."""
    out, bits = bytearray(raw), dict[int, int]()
    for place in places:
        if place.end > len(raw):
            continue
        if place.mask:  # in the other byte order, compilers fill a byte with bit-fields from the other end
            from_other_end = 8 * place.size - place.mask.bit_length() - place.shift
            value = raw[place.offset] >> from_other_end & place.mask
            bits[place.offset] = bits.get(place.offset, 0) | value << place.shift
        else:
            out[place.offset : place.end] = raw[place.offset : place.end][::-1]
    for offset, byte in bits.items():
        out[offset] = byte
    return bytes(out)


def refuse_turned(view: type[View], number: int | None, size: int) -> None:
    """ValueError if number, which is always small, is small only in the other byte order."""
    if number and not number & (1 << 4 * size) - 1:
        raise ValueError(f"{view.__name__}: these bytes are of the other byte order (use byteorder=)")


def column(view: type[View], name: str, rows: memoryview, stride: int, start: int, length: int) -> memoryview:
    """One field of many records at equal distances, without copying.

    rows: bytes. stride: from one record to the next. start: offset of the struct in a record. length: of the
    struct as this kernel returns it. Returns a read-only memoryview of native unsigned ints. ValueError if
    there is no such field, if it is a bit-field, or if this kernel does not report it.
    """
    field = view.fields.get(name)
    if field is None:
        raise ValueError(f"{view.__name__} has no field {name!r}")
    place = field.place
    if place.mask:
        raise ValueError(f"{name} is a bit-field, which has no column")
    if length < field.needed:
        raise ValueError(f"this kernel does not report {name}, which Linux {field.since} added")
    return strided(place, rows, stride, start)


def strided(place: _border.Place, rows: memoryview, stride: int, start: int) -> memoryview:
    """As column(), for a field given by its place."""
    # For B, H, I and Q, native and standard sizes are the same.
    whole: memoryview = rows.cast("B").cast(place.format[1:])  # type: ignore[call-overload]
    return whole[(start + place.offset) // place.size :: stride // place.size].toreadonly()
