# SPDX-License-Identifier: MIT
"""What results have in common: dir(), help(), hints for misplaced attributes, and the base class Record."""

from __future__ import annotations

from . import _types as t

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**of):
        return lambda record: record


class Elsewhere(str):
    """Stands in for an attribute that a part of the result has: the AttributeError says where it is.

    Its text is the attribute's name. ``_elsewhere`` of the result's class maps each part to the names in it.
    (A __getattr__ would do the same, but slow down the access to existing attributes.)
    """

    __slots__ = ()

    def __get__(self, result: object, owner: t.Any) -> t.Any:
        parts = [part for part, names in owner._elsewhere.items() if self in names][:1]
        where = "".join(f": see .{part}.{self}" for part in parts)
        raise AttributeError(f"{owner.__name__!r} object has no attribute {self!r}{where}")


class Shown(type):
    """The metaclass of views and records: dir() and help() leave out what comes from bytes.

    That a view is bytes is an implementation detail, for speed.
    """

    def __dir__(cls) -> list[str]:
        parts: dict[str, object] = {}
        for base in reversed(cls.__mro__):
            if base is not bytes:
                parts.update(vars(base))
        return sorted(name for name, part in parts.items() if not isinstance(part, Elsewhere))


def dir_of(result: object) -> t.Iterable[str]:
    """dir() of an instance of such a class."""
    return {*dir(type(result)), *getattr(result, "__dict__", ())}


class ShownByName:
    """For an enum of ints: str() and f"{}" give the name on every Python, f"{:d}" the number."""

    name: str

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        if spec and spec[-1] in "bcdeEfFgGnoxX%":
            return int.__format__(self, spec)  # type: ignore[arg-type]  # an enum of ints
        return format(str(self), spec)


@dataclass_transform(frozen_default=True)
class Record(metaclass=Shown):
    """A small immutable object with named parts: those in ``__slots__``, with their docstrings, in order.

    Type checkers see a frozen dataclass: each class declares its parts and its __init__.
    """

    __slots__: t.ClassVar[t.Mapping[str, str]] = {}
    #: The names of all parts, including those of base classes.
    _names: t.ClassVar[tuple[str, ...]] = ()
    #: A setter for each part, for an __init__ that is called often.
    _setters: t.ClassVar[tuple[t.Callable[[Record, object], None], ...]] = ()

    def __init_subclass__(cls, **kwargs: t.Any) -> None:
        super().__init_subclass__(**kwargs)
        slots = vars(cls).get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else slots
        new = tuple(name for name in names if name not in ("__dict__", "__weakref__"))
        cls._names += new
        cls._setters += tuple(vars(cls)[name].__set__ for name in new)
        type.__setattr__(cls, "__match_args__", cls._names)  # checkers derive it, as for a dataclass

    def __init__(self, *parts: object) -> None:
        for set_part, part in zip(self._setters, parts, strict=True):
            set_part(self, part)

    def _parts(self) -> tuple[t.Any, ...]:
        return tuple(getattr(self, name) for name in self._names)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Record) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash((type(self), self._parts()))

    __dir__ = dir_of

    def __reduce__(self) -> tuple[t.Any, ...]:
        return type(self), self._parts()

    def __repr__(self) -> str:
        parts = zip(self._names, self._parts(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={part!r}' for name, part in parts)})"
