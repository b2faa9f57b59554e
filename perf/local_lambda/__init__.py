"""Lambda on this machine: AWS's own local service, and what runs the functions that it calls.

    local.py: start functions, callbacks, history ----> service.py      a program: AWS's local runner, over HTTP
                                                           | Invoke
    endpoint.py: the Lambda Invoke API <-------------------+
        | a pipe
        +-------> environment.py                           a program: an execution environment, which runs handlers
                      | boto3: CheckpointDurableExecution, GetDurableExecutionState
    proxy.py <--------+                                    counts the calls, and loses or fails some if told to
        +----------------------------------------------> service.py

Needs the packages boto3 and aws-durable-execution-sdk-python-testing. `tests/aws/service` and the benchmark
`lambda_service` use it.
"""
