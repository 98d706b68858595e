"""Describes failures of AWS in general terms, for responses and the log: no host, no header, no credential."""

from __future__ import annotations

import re

import botocore.exceptions as aws

CODE = re.compile(r"[A-Za-z0-9.]{1,60}")
THROTTLED = frozenset(
    {
        "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
        "TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException", "SlowDown",
    }
)  # fmt: skip
REFUSING = frozenset(
    {
        "AccessDenied", "AccessDeniedException", "AuthFailure", "UnauthorizedOperation", "UnrecognizedClientException",
        "InvalidClientTokenId", "InvalidAccessKeyId", "SignatureDoesNotMatch", "IncompleteSignature",
        "MissingAuthenticationToken", "MissingAuthenticationTokenException", "ExpiredToken", "ExpiredTokenException",
        "OptInRequired", "NotAuthorized", "InvalidToken", "InvalidSignatureException",
    }
)  # fmt: skip
CLOCK = frozenset({"RequestExpired", "RequestTimeTooSkewed"})
NO_DATA = "CloudWatch has no data points of this cluster and service"
UNREADABLE = "CloudWatch sent a response that could not be read"
REFUSED = "CloudWatch refused our credentials or their permissions"
NO_CREDENTIALS = "No AWS credentials were found"


class CollectionError(Exception):
    """A part could not be collected; the text is safe to show."""


def describe_failure(error: BaseException) -> str:
    """Why a call of AWS failed."""
    if isinstance(error, CollectionError):
        return str(error)
    if isinstance(error, aws.ClientError):
        return _describe_client_error(error)
    if isinstance(
        error,
        aws.NoCredentialsError
        | aws.PartialCredentialsError
        | aws.CredentialRetrievalError
        | aws.TokenRetrievalError
        | aws.ProfileNotFound
        | aws.MetadataRetrievalError,
    ):
        return NO_CREDENTIALS
    if isinstance(error, aws.InvalidRegionError | aws.NoRegionError | aws.ParamValidationError | aws.ConfigParseError):
        return "The AWS settings are not valid: telemetry.region, the names, or this machine's AWS configuration"
    if isinstance(error, aws.ConnectTimeoutError | aws.ReadTimeoutError):
        return "CloudWatch did not respond in time"
    if isinstance(error, aws.SSLError):
        return "The certificate of CloudWatch could not be verified"
    if isinstance(error, aws.ConnectionError | aws.HTTPClientError | OSError):
        return "CloudWatch cannot be reached"
    return UNREADABLE


def _describe_client_error(error: aws.ClientError) -> str:
    found = error.response.get("Error", {}).get("Code")
    code = str(found).rpartition("#")[2]
    if code in THROTTLED:
        return "CloudWatch limits the rate of our requests"
    if code in REFUSING:
        return REFUSED
    if code in CLOCK:
        return "CloudWatch refused the time of our request; this machine's clock may be wrong"
    if code == "ResourceNotFoundException":
        return "The log group does not exist"
    return f"CloudWatch answered with the error {code if CODE.fullmatch(code) else 'unknown'}"
