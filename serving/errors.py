"""The exception tree of the whole suite.

    SeatrialError                exit code 1, HTTP 500, gRPC INTERNAL
    ├── UsageError               exit code 2: what was asked for cannot be read as a request
    │   ├── FileError            a file is missing, empty or not of the kind asked for
    │   ├── ContractError        a contract contradicts itself
    │   └── ManifestError        a manifest has an unknown kind or field, or an impossible canary
    ├── DataError                rows break their contract; HTTP 400, gRPC INVALID_ARGUMENT
    ├── BundleError              a bundle is incomplete, altered, or of another contract
    ├── StageError               a stage of a longer run did not end as it must
    ├── PlayerError              the local player could not do what it was told
    ├── GateError                a rollout's gate cannot look, decide or act
    ├── Overloaded               too much is waiting; HTTP 503, gRPC RESOURCE_EXHAUSTED
    └── InferenceFailed          the model failed on a valid row; HTTP 500, gRPC INTERNAL
        └── InferenceTimeout     it exceeded its time budget; HTTP 504, gRPC DEADLINE_EXCEEDED

Each message is one sentence that names the file, the field and the value, and says what to do.
"""

from __future__ import annotations


class SeatrialError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 1
    http_status = 500
    grpc_status = "INTERNAL"


class UsageError(SeatrialError):
    exit_code = 2
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"


class FileError(UsageError):
    pass


class ContractError(UsageError):
    pass


class ManifestError(UsageError):
    pass


class DataError(SeatrialError):
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"


class BundleError(SeatrialError):
    pass


class StageError(SeatrialError):
    pass


class PlayerError(SeatrialError):
    pass


class GateError(SeatrialError):
    pass


class Overloaded(SeatrialError):
    http_status = 503
    grpc_status = "RESOURCE_EXHAUSTED"


class InferenceFailed(SeatrialError):
    pass


class InferenceTimeout(InferenceFailed):
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"
