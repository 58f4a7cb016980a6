"""The pure core of execution."""

from services.execution.core.execution import ExecutionCore

__all__ = ["ExecutionCore"]
