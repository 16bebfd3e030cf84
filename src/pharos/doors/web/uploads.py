"""Uploads: models that the page was given, kept under names of the server's own until room is needed."""

import hashlib
import re
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pharos.doors.web.bounds import LARGEST_KEPT, LARGEST_UPLOAD
from pharos.quantity.errors import InputError

# A model in a query that is an upload: this and its digits.
MARK = "@"
_ID = re.compile(r"@[0-9a-f]{24}")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Upload:
    """One file.

    Args:
        id: "@" and 24 digits of its content's digest. title: what its owner called it, for show alone.
        path: where the server keeps it.
    """

    id: str
    title: str
    path: Path
    size: int


def is_upload(model: str) -> bool:
    """Whether a model's name means an upload."""
    return model.startswith(MARK)


class Uploads:
    """A folder of the server's own, bounded in bytes; what was not asked for the longest goes first."""

    def __init__(self, most: int = LARGEST_KEPT) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pharos-ui-")
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self.most = most

    def add(self, title: str, content: BinaryIO) -> Upload:
        """Keeps a file under a name made of its digest.

        Raises:
            InputError: empty, or larger than an upload may be.
        """
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=self._folder.name, delete=False) as held:
            part = Path(held.name)
            first = b""
            while piece := content.read(_CHUNK):
                first = first or piece[:64].lstrip()
                size += len(piece)
                if size > LARGEST_UPLOAD:
                    break
                digest.update(piece)
                held.write(piece)
        if not size or size > LARGEST_UPLOAD:
            part.unlink()
            what = "is empty" if not size else f"has more than {LARGEST_UPLOAD // 10**6} MB"
            hint = "" if not size else "the command line reads files of any size; weights are not needed"
            raise InputError(what, where="the file", hint=hint)
        suffix = ".json" if first[:1] in (b"{", b"[") or first.startswith(b"\xef\xbb\xbf") else ".onnx"
        name = digest.hexdigest()[:24]
        place = Path(self._folder.name) / f"{name}{suffix}"
        part.replace(place)
        made = Upload(MARK + name, shown(title, suffix), place, size)
        self._kept[made.id] = made
        self._kept.move_to_end(made.id)
        self._make_room()
        return made

    def find(self, name: str) -> Upload:
        """The upload of an id.

        Raises:
            InputError: there is none by that id, or no more.
        """
        if not _ID.fullmatch(name) or name not in self._kept:
            raise InputError("that upload is not on this server, or no more", where="Model",
                             hint="upload the file again")  # fmt: skip
        self._kept.move_to_end(name)
        return self._kept[name]

    def forget(self, name: str) -> None:
        """Drops an upload that could not be read."""
        found = self._kept.pop(name, None)
        if found is not None:
            found.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Removes the folder."""
        self._folder.cleanup()

    def _make_room(self) -> None:
        while sum(u.size for u in self._kept.values()) > self.most and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            oldest.path.unlink(missing_ok=True)


def shown(title: str, suffix: str) -> str:
    """The last part of what a file was called, in harmless characters; it is never part of a path."""
    last = re.split(r"[\\/]", title)[-1]
    return re.sub(r"[^\w.() -]", "_", last)[:80].strip(". ") or f"model{suffix}"
