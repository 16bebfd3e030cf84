"""Labs, one file each: `@lab(name, summary)` on a function that runs it and says what it found."""
