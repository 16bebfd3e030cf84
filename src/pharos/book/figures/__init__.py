"""Figures, one file each: `@figure(number, name, summary, section)` on a function that draws it."""
