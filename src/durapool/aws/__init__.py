"""The AWS Lambda durable execution service as the place where executions live.

    the service's event -> entry -> ServiceJournal -> LambdaStore -> ServiceClient -> boto3
                             |                                           CheckpointDurableExecution
                        the handler                                      GetDurableExecutionState

Needs boto3 (the extra `aws`), which is imported by the first invocation that brings no client of its own.
"""

from __future__ import annotations

from durapool.aws.client import ServiceError
from durapool.aws.store import LambdaStore

__all__ = ["LambdaStore", "ServiceError"]
