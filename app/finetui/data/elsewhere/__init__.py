"""What other tools would do with the same rows, by their own loaders: kept, changed, dropped, or stopped."""

from finetui.data.elsewhere.compare import TOOLS, Comparison, compare

__all__ = ["TOOLS", "Comparison", "compare"]
