"""What computes each claim of the chapter, by section: a file's CLAIMS maps a claim's id to its rule."""
