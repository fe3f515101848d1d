"""Settings of S3 stores from the files that the AWS command line writes.

The environment is read by the library itself, and takes precedence. Nothing else holds keys.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path

__all__ = ["SECRET_VARIABLES", "s3_settings", "secrets"]

SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_CLIENT_SECRET", "GOOGLE_SERVICE_ACCOUNT_KEY",
)  # fmt: skip
"""The variables of the environment whose values are never shown."""

FROM_FILES = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint",
}
"""The name of a setting in the files → its name in the library."""

VARIABLES = {
    "access_key_id": ("AWS_ACCESS_KEY_ID",),
    "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN", "AWS_TOKEN"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
}

DEFAULT_REGION = "us-east-1"
"""The region of a server that has none, such as one of one's own."""


def s3_settings() -> dict[str, str]:
    """Return the settings of S3: from the environment, or else from the profile ``$AWS_PROFILE`` of
    `~/.aws/credentials` and `~/.aws/config`."""
    settings = {
        name: value
        for name, variables in VARIABLES.items()
        for value in [next((os.environ[variable] for variable in variables if os.environ.get(variable)), None)]
        if value is not None
    }
    in_files = _profile()
    if "access_key_id" in settings:  # a key and its secret come from one place
        in_files = {name: in_files[name] for name in ("region", "endpoint") if name in in_files}
    return {"region": DEFAULT_REGION} | in_files | settings


def secrets() -> list[str]:
    """Return the values that must not be shown, the longest first."""
    values = {os.environ.get(name, "") for name in SECRET_VARIABLES}
    values |= {value for name, value in s3_settings().items() if name not in ("region", "endpoint")}
    return sorted((value for value in values if len(value) >= 4), key=len, reverse=True)


def _profile() -> dict[str, str]:
    profile = os.environ.get("AWS_PROFILE") or "default"
    settings: dict[str, str] = {}
    for variable, default in (
        ("AWS_CONFIG_FILE", "~/.aws/config"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(Path(os.environ.get(variable) or default).expanduser(), encoding="utf-8")
        except (configparser.Error, OSError, UnicodeError, RuntimeError):
            continue  # the server's refusal names the way out
        # The config file calls all profiles but the first `profile NAME`.
        for section in (profile, f"profile {profile}"):
            if parser.has_section(section):
                settings |= {
                    FROM_FILES[name]: value for name, value in parser.items(section) if name in FROM_FILES and value
                }
    return settings
