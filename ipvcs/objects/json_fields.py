"""Read the fields of a JSON object strictly: each at most once, of the expected type, and none left over.

Bytes are a string under their name when they are UTF-8, else base64 under the name with `Base64` added, so that nothing
is lost and most of it can be read and edited.
"""

import base64
import binascii
import json
from typing import Any, Final

from ipvcs.errors import DecodeError, LimitError

MAX_JSON: Final = 64 * 1024 * 1024
"""Bytes or characters of text; a block of 2 MiB takes at most some 20 MiB."""


class ObjectJsonError(DecodeError):
    """JSON is not an object's. `where` is the path of the field at fault, as in `links[3].hash`."""

    def __init__(self, where: str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"invalid object JSON: '{where}' {problem}" if where else f"invalid object JSON: {problem}", hint=hint
        )
        self.where = where


def parse_json(text: str | bytes) -> dict[str, Any]:
    """Return the one JSON object that `text` writes.

    Raises:
        ObjectJsonError: not JSON, not an object, a key twice, or nested too deeply.
        LimitError: longer than `MAX_JSON`.
    """
    if len(text) > MAX_JSON:
        raise LimitError(f"JSON of {len(text)} bytes is over the limit of {MAX_JSON}")
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ObjectJsonError("", "nested too deeply") from None
    except ValueError as exc:  # JSONDecodeError, UnicodeDecodeError, an integer of thousands of digits
        raise ObjectJsonError("", f"not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise ObjectJsonError("", "not an object in braces")
    return document


def put_bytes(fields: dict[str, Any], name: str, data: bytes | None) -> None:
    """Set the field for `data`: `name` or `nameBase64`; None sets none."""
    if data is None:
        return
    try:
        fields[name] = data.decode()
    except UnicodeDecodeError:
        fields[f"{name}Base64"] = base64.b64encode(data).decode()


class Fields:
    """The fields of one JSON object, each taken once; `where` is its path in the document."""

    def __init__(self, fields: object, where: str) -> None:
        if not isinstance(fields, dict):
            raise ObjectJsonError(where, "is not an object in braces")
        self._left: dict[str, Any] = dict(fields)
        self.where = where

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, kind: type, what: str) -> Any:
        """Return the field; raises ObjectJsonError when it is missing or not of type `kind`, described as `what`."""
        if name not in self._left:
            raise ObjectJsonError(self.at(name), "is missing")
        value = self._left.pop(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ObjectJsonError(self.at(name), f"is not {what}")
        return value

    def take_text(self, name: str) -> str:
        """Return the string; raises ObjectJsonError."""
        return str(self.take(name, str, "a string"))

    def take_size(self, name: str) -> int:
        """Return the integer from 0 to 2**63 - 1; raises ObjectJsonError."""
        value = int(self.take(name, int, "an integer"))
        if not 0 <= value < 1 << 63:
            raise ObjectJsonError(self.at(name), "is not from 0 to 2^63 - 1")
        return value

    def take_null(self, name: str) -> bool:
        """Take the field if it is there and null, and tell."""
        if name in self._left and self._left[name] is None:
            del self._left[name]
            return True
        return False

    def take_bytes(self, name: str) -> bytes | None:
        """Return the bytes of `name` or `nameBase64`, None if neither is there; raises ObjectJsonError if both are."""
        encoded = f"{name}Base64"
        if encoded in self._left:
            if name in self._left:
                raise ObjectJsonError(self.at(name), f"is given twice, also as '{encoded}'")
            try:
                return base64.b64decode(self.take_text(encoded), validate=True)
            except (binascii.Error, ValueError) as exc:
                raise ObjectJsonError(self.at(encoded), f"is not base64: {exc}") from exc
        if name not in self._left:
            return None
        try:
            return self.take_text(name).encode()
        except UnicodeEncodeError:
            raise ObjectJsonError(self.at(name), "has half a surrogate pair") from None

    def finish(self) -> None:
        """Raise ObjectJsonError if a field is left: a misspelt one must not be lost in silence."""
        if self._left:
            raise ObjectJsonError(self.at(min(self._left)), "is not a field of this type of object")

    def at(self, name: str) -> str:
        """Return the path of a field for an error."""
        return f"{self.where}.{name}" if self.where else name


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ObjectJsonError("", "a key is there twice")
    return fields
