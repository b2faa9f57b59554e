"""The names of a batch's result where the thread-based SDK has them; they live in `durapool.results`."""

from durapool.results import BatchItem, BatchItemStatus, BatchResult, CompletionReason

__all__ = ["BatchItem", "BatchItemStatus", "BatchResult", "CompletionReason"]
