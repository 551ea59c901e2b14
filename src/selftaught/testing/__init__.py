"""Stand-ins and contract cases, public so that others can test what they build on selftaught."""

from typing import TYPE_CHECKING, Any

from selftaught.testing.loopback_faults import Fault, HttpError
from selftaught.testing.loopback_http import LoopbackServer, ReceivedRequest
from selftaught.testing.scripted_model import Asked, ScriptedModel

if TYPE_CHECKING:
    from selftaught.testing.model_contract import LanguageModelContract

__all__ = [
    "Asked",
    "Fault",
    "HttpError",
    "LanguageModelContract",
    "LoopbackServer",
    "ReceivedRequest",
    "ScriptedModel",
]


def __getattr__(name: str) -> Any:
    """Load a contract when it is asked for: contracts need pytest, the rest does not."""
    if name == "LanguageModelContract":
        from selftaught.testing.model_contract import LanguageModelContract

        return LanguageModelContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
