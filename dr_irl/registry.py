"""Names that settings may use and what each stands for: built in here, or brought by a package that is installed.

Another package brings one by an entry point in its `pyproject.toml`, for example a judge:

    [project.entry-points."dr_irl.judges"]
    strict = "my_package.judges:strict"
"""

import importlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from dr_irl.errors import SettingsError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Name -> thing, in the order of the tables. Listing names imports nothing; a thing is imported when asked for."""

    def __init__(self, kind: str, group: str, entries: Mapping[str, str]) -> None:
        """Lay out a table.

        Args:
            kind: what one is called in messages, such as `judge`.
            group: the entry points of other packages.
            entries: what is built in, name -> `module:attribute`.
        """
        self.kind = kind
        self.group = group
        self._built_in = dict(entries)

    @cached_property
    def entries(self) -> Mapping[str, str]:
        """Name -> `module:attribute`.

        Raises:
            SettingsError: two packages bring the same name, or one that is built in.
        """
        found = dict(self._built_in)
        for point in sorted(entry_points(group=self.group), key=lambda point: (point.name, point.value)):
            if found.setdefault(point.name, point.value) != point.value:
                raise SettingsError(
                    f"{self.kind} {point.name!r} is {found[point.name]} and also {point.value} (entry point of group "
                    f"{self.group}); a name stands for one thing: rename one of them"
                )
        return found

    def check(self, name: str) -> str:
        """Return the name of something that is there.

        Raises:
            ValueError: there is none of this name.
        """
        if name not in self.entries:
            raise ValueError(
                f"there is no {self.kind} {name!r}; there are {', '.join(self.entries)}; other packages bring more by "
                f"entry points of group {self.group}"
            )
        return name

    def __getitem__(self, name: str) -> T:
        """Import what a name stands for."""
        if name not in self.entries:
            raise KeyError(name)
        module, _, attribute = self.entries[name].partition(":")
        try:
            return cast(T, getattr(importlib.import_module(module), attribute))
        except (ImportError, AttributeError) as error:
            raise SettingsError(
                f"{self.kind} {name!r} is {self.entries[name]}, which cannot be had: {error}"
            ) from error

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.entries)

    def __len__(self) -> int:
        """Count the names."""
        return len(self.entries)
