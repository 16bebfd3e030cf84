"""Book: the textbook, executable."""
