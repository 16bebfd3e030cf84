"""Revisions: files as a git repository holds them, copied to a folder apart; the work tree is not touched."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from pharos.quantity.errors import InputError, unknown

# Bytes of a file of code or data that is copied with a whole tree; larger ones are left out.
LARGEST = 64 << 20
# Seconds that a git command may take.
PATIENCE = 300
_LFS = b"version https://git-lfs"


def git(*arguments: str, at: Path | None = None, into: Path | None = None) -> bytes:
    """What a git command that only reads prints, in the current folder or `at`; `into` takes it to a file.

    Raises:
        InputError: git is not there, or says no.
    """
    # no lock is taken, nobody is asked for a password, and messages are in one language
    env = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        if into is None:
            found = subprocess.run(
                ["git", *arguments], capture_output=True, env=env, cwd=at, timeout=PATIENCE
            )
        else:
            with into.open("wb") as target:
                found = subprocess.run(
                    ["git", *arguments],
                    stdout=target,
                    stderr=subprocess.PIPE,
                    env=env,
                    cwd=at,
                    timeout=PATIENCE,
                )
    except FileNotFoundError:
        raise InputError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"git {arguments[0]} takes longer than {PATIENCE} s") from None
    if found.returncode:
        told = found.stderr.decode(errors="replace").strip().splitlines()
        what = told[0].removeprefix("fatal: ") if told else f"fails with {found.returncode}"
        raise InputError(f"git {arguments[0]}: {what}")
    return found.stdout or b""


@dataclass(frozen=True)
class Revision:
    """A commit of the repository that the current folder is in.

    Args:
        name: as it was given: a branch, a tag, a hash, HEAD~2.
        prefix: the current folder inside the repository, "" or ending in a slash.
    """

    name: str
    commit: str
    root: Path
    prefix: str

    @cached_property
    def files(self) -> dict[str, tuple[str, int]]:
        """Path from the repository's root -> (object, bytes), of plain files."""
        listed = git("ls-tree", "-r", "-z", "-l", "--full-tree", self.commit, at=self.root).decode(
            errors="surrogateescape"
        )
        found = {}
        for line in listed.split("\0"):
            told, _, path = line.partition("\t")
            words = told.split()
            # links, and other repositories inside this one, are no files
            if len(words) == 4 and words[1] == "blob" and words[0] != "120000" and _is_inside(path):
                found[path] = (words[2], int(words[3]))
        return found

    def path(self, text: str) -> str:
        """A path from the root: `text` from the current folder, or else from the root.

        Raises:
            InputError: this revision has no such file.
        """
        tried = [_joined(self.prefix, text), _joined("", text)]
        for path in tried:
            if path in self.files:
                return path
        near = unknown("file", tried[0], self.files).hint
        raise InputError("is not in this revision", where=f"{self.name}:{text}", hint=near)

    def read(self, path: str, target: Path) -> None:
        """Copies one file, by its path from the root.

        Raises:
            InputError: only a pointer of Git LFS is there.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        git("cat-file", "blob", self.files[path][0], at=self.root, into=target)
        with target.open("rb") as handle:
            if handle.read(len(_LFS)) == _LFS:
                raise InputError(
                    "is kept by Git LFS and not in the repository itself",
                    where=f"{self.name}:{path}",
                    hint="give the file, checked out, instead of the revision",
                )

    def text(self, path: str) -> str:
        """One file as text, by its path from the root."""
        return git("cat-file", "blob", self.files[path][0], at=self.root).decode(errors="replace")


class Tree:
    """Files of a revision in a temporary folder, copied as they are asked for."""

    def __init__(self, revision: Revision, folder: Path) -> None:
        self.revision, self.folder = revision, folder
        self._whole = False

    @property
    def here(self) -> Path:
        """Where the current folder's files are."""
        return self.folder / self.revision.prefix

    def fetch(self, text: str) -> str:
        """Copies a file, named from the current folder or the root; its path from `here`.

        Raises:
            InputError: this revision has no such file.
        """
        path = self.revision.path(text)
        target = self.folder / path
        if not target.exists():
            self.revision.read(path, target)
        return os.path.relpath(target, self.here)

    def fetch_all(self) -> None:
        """Copies every file but very large ones, for code that imports what lies beside it."""
        if self._whole:
            return
        self._whole = True
        wanted = [
            (name, self.folder / path)
            for path, (name, size) in self.revision.files.items()
            if size <= LARGEST
        ]
        _write_all(self.revision.root, [(name, target) for name, target in wanted if not target.exists()])


@contextmanager
def tree_of(revision: Revision) -> Iterator[Tree]:
    """A revision's files in a temporary folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pharos-") as folder:
        tree = Tree(revision, Path(folder).resolve())
        tree.here.mkdir(parents=True, exist_ok=True)
        yield tree


def find_revision(name: str) -> Revision:
    """The commit that a name means in the current folder's repository.

    Raises:
        InputError: no repository, or no such commit.
    """
    if not name or name.startswith("-"):
        raise InputError(f"{name!r} is no revision")
    prefix = git("rev-parse", "--show-prefix").decode().strip()
    root = Path(git("rev-parse", "--show-toplevel").decode().strip())
    try:
        commit = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
    except InputError:
        shallow = git("rev-parse", "--is-shallow-repository").decode().strip() == "true"
        hint = (
            "this clone is shallow: fetch more of it, such as fetch-depth: 0" if shallow else _branches(name)
        )
        raise InputError(f"{name!r} is no revision of this repository", hint=hint) from None
    return Revision(name=name, commit=commit, root=root, prefix=prefix)


def is_revision(name: str) -> bool:
    """Whether a name is a commit of the current folder's repository; false where there is none."""
    try:
        find_revision(name)
    except InputError:
        return False
    return True


def merge_base(one: str, other: str = "HEAD") -> str:
    """Where two revisions parted; the first itself where they have nothing in common."""
    first, second = find_revision(one), find_revision(other)
    try:
        return git("merge-base", first.commit, second.commit).decode().strip()
    except InputError:
        return first.commit


def changed_since(commit: str) -> set[str]:
    """Paths from the root of files that differ between a commit and the work tree, new ones among them."""
    listed = git("diff", "--name-only", "-z", "--no-ext-diff", commit, "--")
    root = git("rev-parse", "--show-toplevel").decode().strip()
    fresh = git("-C", root, "ls-files", "-z", "--others", "--exclude-standard")
    return {path for path in (listed + fresh).decode(errors="surrogateescape").split("\0") if path}


def tracked(folder: str = ".") -> list[str] | None:
    """Files below a folder that git knows or would add, from the current one; None without a repository."""
    try:
        listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", folder)
    except InputError:
        return None
    return sorted({path for path in listed.decode(errors="surrogateescape").split("\0") if path})


def _joined(prefix: str, text: str) -> str:
    return os.path.normpath(PurePosixPath(prefix) / text.replace(os.sep, "/")).replace(os.sep, "/")


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and not {"..", ".git"} & set(parts)


def _branches(name: str) -> str:
    listed = git("for-each-ref", "--format=%(refname:short)").decode(errors="replace").split()
    return unknown("revision", name, [*listed, "HEAD"]).hint


def _write_all(root: Path, wanted: list[tuple[str, Path]]) -> None:
    """Writes many objects with one git process."""
    if not wanted:
        return
    try:
        process = subprocess.Popen(
            ["git", "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
        )
    except FileNotFoundError:
        raise InputError("git is not installed") from None
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for name, target in wanted:
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
            head = process.stdout.readline().split()
            if len(head) != 3:
                raise InputError(f"git cat-file: {name} is missing")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(process.stdout.read(int(head[2])))
            process.stdout.read(1)
        process.stdin.close()
