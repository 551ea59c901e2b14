"""Stand-ins and contract cases, public so that others can test what they build on selftaught."""

from typing import TYPE_CHECKING, Any

from selftaught.testing.loopback_dialects import ANTHROPIC, GEMINI, OPENAI
from selftaught.testing.loopback_faults import Fault, HttpError, mixed_faults
from selftaught.testing.loopback_http import LoopbackServer, ReceivedRequest
from selftaught.testing.scripted_model import Asked, ScriptedModel
from selftaught.testing.strengths import MIDDLING, STRONG, WEAK, Strength, StrengthModel
from selftaught.testing.unsandboxing_model import unsandboxing_model

if TYPE_CHECKING:
    from selftaught.testing.attacks import Attack, Report
    from selftaught.testing.model_contract import LanguageModelContract
    from selftaught.testing.permission_contract import PermissionContract
    from selftaught.testing.pool_contract import PoolContract
    from selftaught.testing.sandbox_contract import SandboxContract

__all__ = [
    "ANTHROPIC",
    "GEMINI",
    "MIDDLING",
    "OPENAI",
    "STRONG",
    "WEAK",
    "Asked",
    "Attack",
    "Fault",
    "HttpError",
    "LanguageModelContract",
    "LoopbackServer",
    "PermissionContract",
    "PoolContract",
    "ReceivedRequest",
    "Report",
    "SandboxContract",
    "ScriptedModel",
    "Strength",
    "StrengthModel",
    "mixed_faults",
    "unsandboxing_model",
]


def __getattr__(name: str) -> Any:
    """Load a contract when it is asked for: contracts need pytest, the rest does not."""
    if name == "LanguageModelContract":
        from selftaught.testing.model_contract import LanguageModelContract

        return LanguageModelContract
    if name == "PermissionContract":
        from selftaught.testing.permission_contract import PermissionContract

        return PermissionContract
    if name == "PoolContract":
        from selftaught.testing.pool_contract import PoolContract

        return PoolContract
    if name == "SandboxContract":
        from selftaught.testing.sandbox_contract import SandboxContract

        return SandboxContract
    if name in ("Attack", "Report"):
        from selftaught.testing import attacks

        return attacks.Attack if name == "Attack" else attacks.Report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
