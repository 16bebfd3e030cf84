"""Tables, one file each: `@table(key, name, title, section)` on a function that fills it."""
