"""Error messages for requests that a store refused, with a next step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from latentscale.errors import ConfigError, CorpusError, LatentScaleError, RequestError, StorageError, WorkspaceError
from latentscale.storage.remote.protocol import Purpose
from latentscale.storage.remote.retries import causes, code_of, describe, response_of, status_of

_KEYS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or name your own variables: "
    "--storage key_variable=NAME --storage secret_variable=NAME; for a public bucket --storage anonymous=true."
)
_WRONG_KEYS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity", "NotSignedUp"}
)
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
ELSEWHERE = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "Redirect",
        "TemporaryRedirect",
        "301",
        "307",
    }
)
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "InsufficientCapacity", "507"})
_RESUMES = "When that is fixed, run the same command; it resumes where it stopped."


def explain(
    error: BaseException, action: str, where: str, *, purpose: Purpose, connected: bool, endpoint: str | None = None
) -> LatentScaleError:
    """Build the error for a permanent failure, with a next step.

    Parameters
    ----------
    action : str
        A verb: ``list``, ``read``, ``write``.
    where : str
        The URL of the object or folder.
    purpose : {"workspace", "corpus"}
    connected : bool
        Whether the store has answered before; if so, the failure is resumable, as access has worked once.
    endpoint : str, optional
        Address of the store, for the message.
    """
    if isinstance(error, LatentScaleError):
        return error
    wrong: type[RequestError] = WorkspaceError if purpose == "workspace" else CorpusError
    bucket = where.partition("://")[2].partition("/")[0]
    at = f" at {endpoint}" if endpoint else ""
    names = {type(cause).__name__ for cause in causes(error)}
    code, status = code_of(error), status_of(error)

    def refused(message: str, hint: str) -> LatentScaleError:
        if connected:
            return StorageError(f"cannot {action} {where}: {message}", where=where, hint=f"{hint} {_RESUMES}")
        return wrong(f"cannot {action} {where}: {message}", where=where, hint=hint)

    if names & {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "NoAuthTokenError"}:
        return ConfigError(f"there are no credentials for {where}", hint=_KEYS)
    if "ProfileNotFound" in names:
        return ConfigError(
            f"there is no such profile: {describe(error)}", hint="aws configure list-profiles, or AWS_PROFILE."
        )
    if names & {"TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError", "SSOError"}:
        return ConfigError(f"the profile's login has ended: {describe(error)}", hint="aws sso login")
    if "ParamValidationError" in names or code == "InvalidBucketName":
        return wrong(f"{bucket!r} is not the name of a bucket", where=where, hint="s3://BUCKET/FOLDER")
    if names & {"SSLError", "ClientConnectorSSLError", "ClientConnectorCertificateError"}:
        return StorageError(
            f"the certificate of the store{at} is not accepted: {describe(error)}",
            where=where,
            hint="Name the file of its authority with AWS_CA_BUNDLE, or use the right address.",
        )
    if code == "RequestTimeTooSkewed":
        return StorageError(
            f"the clock of this machine {_skew(error)}, and the store refuses requests with a wrong time",
            where=where,
            hint="Set the clock (NTP), then run the same command again.",
        )
    if code in EXPIRED:
        return StorageError(
            f"cannot {action} {where}: the credentials have expired", where=where, hint=f"Get new ones. {_RESUMES}"
        )
    if code in _WRONG_KEYS:
        return refused(f"the store{at} does not accept the credentials ({describe(error)})", _KEYS)
    if code == "NoSuchBucket":
        return refused(f"there is no bucket {bucket!r}{at}", "Create it, or correct its name or the endpoint_url.")
    if code in ELSEWHERE or status in (301, 307):
        region = region_of(response_of(error) or {})
        return refused(
            f"the bucket {bucket!r} is in another region" + (f", {region}" if region else f" ({describe(error)})"),
            f"--storage region={region or 'REGION'}, or AWS_DEFAULT_REGION.",
        )
    if code in _FULL or status == 507:
        return StorageError(
            f"cannot {action} {where}: the store is full ({describe(error)})", where=where, hint=_RESUMES
        )
    if status in (401, 403) or isinstance(error, PermissionError):
        return refused(f"permission denied ({describe(error)})", _permission(action, purpose))
    if code in ("NotImplemented", "MethodNotAllowed") or status in (405, 501):
        return refused(f"the store cannot do that ({describe(error)})", "docs/operations.md says what a store must do.")
    if "UnsupportedOperation" in names or isinstance(error, NotImplementedError):
        return wrong(f"cannot {action} {where}: it can only be read", where=where, hint="Choose another --out.")
    return StorageError(
        f"cannot {action} {where}: {describe(error)}",
        where=where,
        hint="When the store answers again, run the same command; it resumes where it stopped.",
    )


def _permission(action: str, purpose: Purpose) -> str:
    if action == "list":
        return "The credentials need s3:ListBucket on the bucket (docs/operations.md has the whole policy)."
    if action == "delete":
        return "The credentials need s3:DeleteObject (docs/operations.md has the whole policy)."
    if purpose == "corpus" or action in ("read", "look at", "open"):
        return "The credentials need s3:GetObject, and s3:ListBucket to tell missing objects."
    return "The credentials need s3:PutObject (docs/operations.md has the whole policy); or choose another --out."


def _skew(error: BaseException) -> str:
    response = response_of(error) or {}
    stated = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        seconds = time.time() - parsedate_to_datetime(str(stated)).timestamp()
    except (TypeError, ValueError):
        return "is wrong"
    if abs(seconds) < 60:
        return "was wrong when it signed the request"
    return f"is {abs(seconds):,.0f} s {'ahead of' if seconds > 0 else 'behind'} that of the store"


def region_of(response: Mapping[str, Any]) -> str | None:
    """Return the region named in a response, or None."""
    stated = response.get("Error", {}).get("Region")
    stated = stated or response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return str(stated) if stated else None
