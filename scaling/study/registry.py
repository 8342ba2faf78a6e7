"""Open sets of config classes told apart by `kind`: those of the library, and those that a user
registers.
"""

from typing import Any, Generic, TypeVar, get_args

from pydantic import TypeAdapter

Config = TypeVar("Config")


class Registry(Generic[Config]):
    """The classes that a field of a study may hold.

    `library` is pydantic's discriminated union of the library's own classes. A registered class is
    a frozen pydantic dataclass, a subclass of `base`, with a default for its field `kind`.
    """

    def __init__(self, field: str, base: type[Config], library: Any):
        self.field, self.base = field, base
        self.library: TypeAdapter[Config] = TypeAdapter(library)
        self.classes: dict[str, type[Config]] = {}
        for config in get_args(get_args(library)[0]):
            self.classes[kind_of(config)] = config
        self.registered: dict[str, type[Config]] = {}

    def register(self, config: type[Config]) -> None:
        """Add a user's class. The same class, read again from its file, replaces itself.

        Raises ValueError where the class has no kind, or another class has the same one.
        """
        kind = kind_of(config)
        if not kind or not issubclass(config, self.base):
            raise ValueError(
                f"{config.__name__} cannot be one of {self.field}; expected a subclass of "
                f"{self.base.__name__} with a default for its field `kind`"
            )
        taken = self.classes.get(kind)
        if taken is not None and taken.__qualname__ != config.__qualname__:
            raise ValueError(
                f"{config.__name__} has kind {kind!r}, which {taken.__name__} has among "
                f"{self.field}; choose another kind"
            )
        self.classes[kind] = config
        self.registered[kind] = config

    def knows(self, config: type) -> bool:
        """Whether a class is the library's or registered; one that was registered from its file
        and read from there again is.
        """
        kind = kind_of(config)
        known, own = self.classes.get(kind), self.registered.get(kind)
        return config is known or (own is not None and own.__qualname__ == config.__qualname__)

    def validate(self, value: Any) -> Config:
        """A config out of itself or of plain values, by their `kind`.

        Raises ValidationError naming the field for what fits no class.
        """
        if isinstance(value, self.base):
            return value
        kind = value.get("kind") if isinstance(value, dict) else None
        if kind in self.registered:
            return TypeAdapter(self.registered[kind]).validate_python(value)
        return self.library.validate_python(value)


def kind_of(config: type) -> str:
    """The default of a config class's field `kind`, "" where it has none."""
    fields = getattr(config, "__dataclass_fields__", {})
    return str(fields["kind"].default) if "kind" in fields else ""
