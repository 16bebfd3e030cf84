"""Composites: groups of small operators that together are one known operator, found and replaced by it."""

from pharos.passes.composites.fusing import fuse_composites as fuse_composites
