"""Ask an embedding service for the vectors of some texts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.endpoint.sizes import estimated_tokens, most_tokens
from latentscale.embedders.endpoint.wire import Asked, Role
from latentscale.services.address import whole_url
from latentscale.services.client import Client as HttpClient
from latentscale.services.client import Service
from latentscale.services.pace import Clock, Pacer
from latentscale.services.terms import Spending, Usage


class Client:
    """Sends requests to one embedding service; used from several threads.

    Parameters
    ----------
    asked : Asked
    url : str
        Base address.
    secrets, key_env, timeout, max_attempts, connections, pacer, clock
        See :class:`latentscale.services.client.Client`.
    as_base64, may_change : bool
        Whether vectors are asked for as base64, and whether numbers will do where that is refused.
    """

    def __init__(
        self,
        asked: Asked,
        *,
        url: str,
        secrets: Callable[[], Mapping[str, str]],
        key_env: str | None,
        timeout: float,
        max_attempts: int,
        connections: int,
        as_base64: bool,
        may_change: bool,
        pacer: Pacer,
        clock: Clock,
    ) -> None:
        service = Service(
            name="embedding service",
            settings="embed.options",
            model=asked.model,
            path="/embeddings",
            address_hint="the address ends before /embeddings (Cohere: before /embed).",
            extra="endpoint",
            used_for="embedding by a service",
        )
        self._http = HttpClient(
            service,
            url=whole_url(url, asked.path),
            secrets=secrets,
            key_env=key_env,
            timeout=timeout,
            max_attempts=max_attempts,
            connections=connections,
            pacer=pacer,
            clock=clock,
        )
        self.asked = asked
        self.as_base64 = as_base64
        self.may_change = may_change

    @property
    def url(self) -> str:
        """The whole address."""
        return self._http.url

    @property
    def successes(self) -> int:
        """Good answers so far."""
        return self._http.successes

    def ask(
        self,
        texts: Sequence[str],
        sizes: NDArray[np.int64],
        *,
        role: Role,
        stop: threading.Event,
        spending: Spending | None = None,
        attempts: int | None = None,
    ) -> tuple[NDArray[np.float32], int]:
        """Ask for the vectors of ``texts``, which are of ``sizes`` bytes.

        Returns
        -------
        vectors : float32 ndarray, shape (n_texts, dim)
            As the service gave them.
        tokens : int
            Billed; estimated where the service does not say.

        Raises
        ------
        RefusedError, UnansweredError, ConfigError, ResourceError, StoppedError
            As :meth:`latentscale.services.client.Client.ask`.
        """
        question = _Vectors(self, texts, sizes, role)
        vectors, usage = self._http.ask(question, stop=stop, spending=spending, attempts=attempts)
        return vectors, usage.tokens

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


class _Vectors:
    """The question for the vectors of some texts."""

    def __init__(self, client: Client, texts: Sequence[str], sizes: NDArray[np.int64], role: Role) -> None:
        self._client = client
        self._texts = texts
        self._role: Role = role
        self._sent_as_base64 = False
        self.estimate = Usage(estimated_tokens(sizes))
        self.most = Usage(most_tokens(sizes))

    def body(self) -> bytes:
        """The request, with base64 as long as no refusal speaks against it."""
        self._sent_as_base64 = self._client.as_base64
        return self._client.asked.body(self._texts, self._role, as_base64=self._sent_as_base64)

    def read(self, data: bytes) -> tuple[NDArray[np.float32], Usage | None]:
        """The vectors, and the tokens that are billed."""
        vectors, told = self._client.asked.read(data, len(self._texts))
        return vectors, None if told is None else Usage(told)

    def adapt(self, message: str) -> bool:
        """Ask for numbers, where base64 is what was refused."""
        if not (self._sent_as_base64 and self._client.may_change and "encoding_format" in message):
            return False
        self._client.as_base64 = False
        return True
