"""The names of operations where the thread-based SDK has them; they live in `durapool.records`."""

from durapool.records import ErrorObject, OperationStatus, OperationSubType, OperationType
from durapool.records import Payload as OperationPayload

__all__ = ["ErrorObject", "OperationPayload", "OperationStatus", "OperationSubType", "OperationType"]
