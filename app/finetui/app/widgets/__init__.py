"""Small things that screens are made of, each of them usable in any screen."""
