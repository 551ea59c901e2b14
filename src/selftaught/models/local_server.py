"""The process that holds a local model: llama.cpp's server on the loopback address.

`selftaught.models.local` starts it with its settings as one line of JSON on standard input. It
answers with one line on standard output, the address or what is wrong, and ends when its input
does. So it never outlives the process that started it.
"""

import os
import sys

import msgspec


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the server is started.

    Attributes:
        path: the model's file.
        api_key: without it the server answers nobody.
        threads: that compute.
        parallel: requests that are computed at once.
        context_tokens: of all requests under way together.
    """

    path: str
    api_key: str
    threads: int
    parallel: int
    context_tokens: int


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says once: its address, or why there is none."""

    address: str = ""
    error: str = ""


def serve(settings: ServerSettings) -> object:
    """Start the server and return it; it runs in threads of its own until the process ends."""
    import xllamacpp  # type: ignore[import-untyped]

    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings.path
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [settings.api_key]
    parameters.cpuparams.n_threads = settings.threads
    parameters.cpuparams_batch.n_threads = settings.threads
    parameters.n_parallel = settings.parallel
    parameters.n_ctx = settings.context_tokens
    # One store of context for all requests: a long prompt may use what the others do not.
    parameters.kv_unified = True
    parameters.endpoint_slots = False
    parameters.ui = False
    parameters.warmup = False
    parameters.verbosity = 0
    return xllamacpp.Server(parameters)


def main() -> None:
    """Serve until standard input ends."""
    # Whatever the library prints goes to standard error from here on.
    answer = os.dup(1)
    os.dup2(2, 1)
    server = None
    try:
        settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=ServerSettings)
        server = serve(settings)
        said = Started(address=str(server.listening_address))  # type: ignore[attr-defined]
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        said = Started(error=f"{type(error).__name__}: {error}")
    os.write(answer, msgspec.json.encode(said) + b"\n")
    if server is not None:
        sys.stdin.buffer.read()
    # The server's threads may be in the middle of an answer that nobody waits for.
    os._exit(0)


if __name__ == "__main__":
    main()
