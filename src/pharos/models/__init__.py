"""Models: families as short functions over shared blocks, one file or more a family."""
