"""One screen a file; `registry.py` names them, and each is imported when it is first opened."""
