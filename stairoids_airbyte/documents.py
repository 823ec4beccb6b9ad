"""Documents: the JSON files a connector is started with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from stairoids_airbyte.exceptions import WrongConfigError
from stairoids_airbyte.protocol import ConfiguredCatalog

if TYPE_CHECKING:
    from pathlib import Path

Json = Any  # what JSON can hold; narrowed where it is read

_Some = TypeVar("_Some")


def read_document(path: Path, kind: type[_Some], *, name: str) -> _Some:
    """Return what a file holds.

    Args:
        kind: What it must be.
        name: What to call it in an error.

    Raises:
        WrongConfigError: It cannot be read, or is something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        msg = f"The {name} cannot be read: {error.strerror}."
        raise WrongConfigError(msg) from error
    except msgspec.ValidationError as error:  # names a place and types, no values
        msg = f"The {name} is not what Airbyte writes: {error}."
        raise WrongConfigError(msg) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        msg = f"The {name} is not JSON."
        raise WrongConfigError(msg) from None


def read_config(path: Path) -> dict[str, Json]:
    """Return a connector's config.

    Raises:
        WrongConfigError: It is none.
    """
    return read_document(path, dict[str, Any], name="config")


def read_catalog(path: Path) -> ConfiguredCatalog:
    """Return a configured catalog.

    Raises:
        WrongConfigError: It is none.
    """
    return read_document(path, ConfiguredCatalog, name="catalog")


def read_state(path: Path | None) -> Json:
    """Return what a state's file holds; None without one.

    Raises:
        WrongConfigError: It is no JSON.
    """
    return None if path is None else read_document(path, object, name="state")
