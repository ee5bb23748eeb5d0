"""Client of an embedding service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.endpoint.sizes import estimated_tokens, upper_bound_tokens
from latentscale.embedders.endpoint.wire import RequestParameters, Role
from latentscale.services.address import whole_url
from latentscale.services.client import Client as HttpClient
from latentscale.services.client import Service
from latentscale.services.pace import Clock, Pacer
from latentscale.services.terms import Spending, Usage


class Client:
    """Sends requests to an embedding service. Thread-safe.

    Parameters
    ----------
    parameters : RequestParameters
    url : str
        Base URL.
    secrets, key_env, timeout, max_attempts, connections, pacer, clock
        See :class:`latentscale.services.client.Client`.
    as_base64, may_change : bool
        Whether vectors are requested as base64, and whether to fall back to JSON numbers if that is rejected.
    """

    def __init__(
        self,
        parameters: RequestParameters,
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
            model=parameters.model,
            path="/embeddings",
            address_hint="the address ends before /embeddings (Cohere: before /embed).",
            extra="endpoint",
            used_for="embedding by a service",
        )
        self._http = HttpClient(
            service,
            url=whole_url(url, parameters.path),
            secrets=secrets,
            key_env=key_env,
            timeout=timeout,
            max_attempts=max_attempts,
            connections=connections,
            pacer=pacer,
            clock=clock,
        )
        self.parameters = parameters
        self.as_base64 = as_base64
        self.may_change = may_change

    @property
    def url(self) -> str:
        """Full URL."""
        return self._http.url

    @property
    def successes(self) -> int:
        """Number of successful requests so far."""
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
        """Request the vectors of ``texts``, whose ``sizes`` are in bytes.

        Returns
        -------
        vectors : float32 ndarray, shape (n_texts, dim)
            As returned by the service.
        tokens : int
            Billed tokens; estimated if the service does not report them.

        Raises
        ------
        RefusedError, UnansweredError, ConfigError, ResourceError, StoppedError
            As :meth:`latentscale.services.client.Client.ask`.
        """
        request = _VectorsRequest(self, texts, sizes, role)
        vectors, usage = self._http.ask(request, stop=stop, spending=spending, attempts=attempts)
        return vectors, usage.tokens

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


class _VectorsRequest:
    """A request for the vectors of some texts."""

    def __init__(self, client: Client, texts: Sequence[str], sizes: NDArray[np.int64], role: Role) -> None:
        self._client = client
        self._texts = texts
        self._role: Role = role
        self._sent_as_base64 = False
        self.estimate = Usage(estimated_tokens(sizes))
        self.most = Usage(upper_bound_tokens(sizes))

    def body(self) -> bytes:
        """Return the body of the request, with base64 unless that was rejected before."""
        self._sent_as_base64 = self._client.as_base64
        return self._client.parameters.body(self._texts, self._role, as_base64=self._sent_as_base64)

    def read(self, data: bytes) -> tuple[NDArray[np.float32], Usage | None]:
        """Parse a response: the vectors, and the billed tokens if reported."""
        vectors, tokens = self._client.parameters.read(data, len(self._texts))
        return vectors, None if tokens is None else Usage(tokens)

    def adapt(self, message: str) -> bool:
        """Fall back to JSON numbers if the service rejected base64; return whether to retry."""
        if not (self._sent_as_base64 and self._client.may_change and "encoding_format" in message):
            return False
        self._client.as_base64 = False
        return True
