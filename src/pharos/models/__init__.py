"""Models: families as short functions over shared blocks; importing this room registers them."""

from importlib import import_module

for _name in ("mlp", "cnn", "classic", "dense", "rnn", "transformer", "recsys"):
    import_module(f"{__name__}.{_name}")
