"""The page: a small local web application; `app.py` serves it, one file a page, workers do the sums."""
