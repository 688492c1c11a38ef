"""Open the file system behind an address such as `s3://bucket/folder`.

pyarrow knows most of them. An address that it does not know, or for which a package is missing,
is refused with words that say what to write or to install.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from pyarrow import fs

from valence.errors import UsageError

HUB = "hf"
# Schemes of other programs, with the one that is read here.
_ALIASES = {
    **dict.fromkeys(("s3a", "s3n"), "s3"),
    **dict.fromkeys(("az", "adl", "wasb", "wasbs"), "abfs"),
}
_AZURE = ("abfs", "abfss")
_GOOGLE = ("gs", "gcs")
_DOWNLOADED = ("http", "https", "ftp", "ftps", "sftp", "webdav", "webdavs")
_KNOWN = ("s3", *_GOOGLE, *_AZURE, "hdfs", "viewfs", HUB)
_EXPECTED = (
    "Expected a path, or a URI such as s3://bucket/folder, gs://bucket/folder, "
    "abfs://account@container/folder or hf://user/model."
)
# Queries of Azure that are no secret. A key or a token is used, and never written down.
_AZURE_QUERY = (
    *("blob_storage_authority", "dfs_storage_authority", "enable_tls", "credential_kind"),
    "client_id",
)
# Google's client would try for a quarter of an hour where nothing answers.
_GOOGLE_LIMIT = ("retry_limit_seconds", "60")


@dataclass(frozen=True)
class Address:
    """The file system behind an address, and the parts of the address.

    Attributes
    ----------
    filesystem
        The pyarrow file system.
    path
        Path on that file system, without a trailing slash.
    scheme
        Scheme in lower case.
    authority
        The part of the URI before the path, where the path alone does not lead there.
    query
        The query with its question mark, without secrets; or `""`.
    """

    filesystem: fs.FileSystem
    path: str
    scheme: str
    authority: str = ""
    query: str = ""


def is_address(text: str) -> bool:
    """Tell whether a text is the address of an object store, and not a path.

    >>> is_address("s3://bucket/run"), is_address("runs/demo"), is_address("file:///runs/demo")
    (True, False, False)
    """
    return "://" in text and not text.lower().startswith("file://")


def local_path(text: str) -> str:
    """Return the path that a text names on this machine, be it a path or a `file://` URI.

    Raises
    ------
    UsageError
        If the URI names another machine, or the text is an address that lacks a slash.
    """
    if text.lower().startswith("file://"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise _refused(text, f"it names the machine '{parts.netloc}'", "Write file:///folder.")
        return unquote(parts.path)
    scheme = re.match(rf"({'|'.join(_KNOWN)}):(?!//)/?(?=.)", text)
    if scheme is not None:
        rest = text[scheme.end() :].lstrip("/")
        raise _refused(
            text,
            "two slashes have to follow its colon",
            f"Write {scheme[1]}://{rest}, or ./{text} if it is the name of a file here.",
        )
    return text


def open_address(text: str) -> Address:
    """Open the file system behind an address.

    Raises
    ------
    UsageError
        If nothing here reads such an address, a package for it is missing, or it is incomplete.
    """
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    text = f"{scheme}://{rest}"
    if scheme in _ALIASES:
        raise _refused(text, f"nothing here reads {scheme}://", _alias(scheme, rest))
    if scheme in _DOWNLOADED:
        why = f"nothing here reads {scheme}://"
        raise _refused(text, why, "Download what lies there, and give its folder.")
    if scheme == HUB:
        return _open_hub(text, rest)
    parts = urlsplit(text)
    if scheme in _AZURE and parts.password:
        raise UsageError(
            f"'{scheme}://{parts.username}:...' holds a key of the account. Expected an address "
            "without it. Log in with 'az login', or add a token to the address "
            "(docs/sharing.md#azure)."
        )
    filesystem, path = _opened(_asked(text, parts))
    if not path.strip("/"):
        raise _refused(text, "it names no bucket")
    authority = _authority(parts) if scheme in (*_AZURE, "hdfs", "viewfs") else ""
    return Address(filesystem, path.rstrip("/"), scheme, authority, _public(parts))


def _opened(text: str) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, path = fs.FileSystem.from_uri(_in_one_request(text.replace(" ", "%20")))
    except ImportError as error:
        raise _refused(
            text,
            f"a package that it needs is not installed ({error})",
            "Install that package beside this program with pip.",
        ) from error
    except (ValueError, OSError, NotImplementedError) as error:
        # Hadoop's client tells in many lines where it looked for Java.
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        scheme = urlsplit(text).scheme
        if scheme in ("hdfs", "viewfs"):
            why = f"Hadoop's client (libhdfs, with Java) cannot be used: {why}"
        raise _refused(text, why, _missing_account(scheme)) from error
    return filesystem, str(path)


def _open_hub(text: str, rest: str) -> Address:
    """Open a repository of the Hugging Face hub, for reading."""
    try:
        from valence.storage.hub import open_hub
    except ImportError as error:
        raise UsageError(
            f"'{text}' needs the package huggingface_hub, which is not installed ({error}). "
            "Expected the extra 'hub'. In the folder that this program was installed from, run: "
            "pip install -e '.[hub]'. Or download the repository, and give its folder."
        ) from error
    path = rest.strip("/")
    if "?" in path or "#" in path:
        raise _refused(text, "it has a query", "Name a revision as in hf://user/model@main.")
    needed = 3 if path.partition("/")[0] in ("datasets", "spaces", "models", "buckets") else 2
    if sum(map(bool, path.split("/"))) < needed:
        raise _refused(
            text,
            "it names no repository",
            "Name one, as in hf://user/model or hf://datasets/user/corpus.",
        )
    return Address(open_hub(), path, HUB)


def _refused(text: str, why: str, remedy: str = "") -> UsageError:
    message = (
        f"'{text}' is not a storage address that can be used: {why.rstrip('.')}. {_EXPECTED}"
        f"{' ' * bool(remedy)}{remedy}"
    )
    # The reason may repeat the address.
    return UsageError(without_secrets(message))


def _alias(scheme: str, rest: str) -> str:
    known = _ALIASES[scheme]
    return f"Write {known}://{rest}." if known == "s3" else "Write abfs://account@container/folder."


def _missing_account(scheme: str) -> str:
    return "Name the account too: abfs://account@container/folder." if scheme in _AZURE else ""


def _asked(text: str, parts: SplitResult) -> str:
    """Return the address as pyarrow gets it: Google's client with a limit to its patience."""
    name, limit = _GOOGLE_LIMIT
    if parts.scheme not in _GOOGLE or name in dict(parse_qsl(parts.query)):
        return text
    return f"{text}{'&' if parts.query else '?'}{name}={limit}"


def _authority(parts: SplitResult) -> str:
    """Return the part of the URI before the path, in a form that pyarrow reads.

    >>> _authority(urlsplit("abfs://box@me.dfs.core.windows.net/run"))
    'me@'
    >>> _authority(urlsplit("abfs://me@127.0.0.1:10000/box/run"))
    'me@127.0.0.1:10000/'
    """
    if parts.scheme not in _AZURE:
        return parts.netloc
    host = parts.hostname or ""
    account, _, service = host.partition(".")
    if service in ("blob.core.windows.net", "dfs.core.windows.net"):
        return f"{account}@"
    place = parts.netloc.rpartition("@")[2]
    # A host with a dot or a port is a server of its own; else it is the container.
    return f"{parts.username}@{place}/" if "." in host or parts.port else f"{parts.username}@"


def _public(parts: SplitResult) -> str:
    """Return the query without what is secret."""
    if parts.scheme not in _AZURE:
        return f"?{parts.query}" if parts.query else ""
    query = parse_qsl(parts.query, keep_blank_values=True)
    # The parts of a client's secret are of no use alone.
    secret = any(name == "client_secret" for name, _ in query)
    kept = [each for each in query if each[0] in _AZURE_QUERY[: -1 if secret else None]]
    return f"?{urlencode(kept)}" if kept else ""


def name_of(address: str) -> str:
    """Return the last part of the path of an address, without its query, which may name a server.

    >>> name_of("s3://bucket/nemo?endpoint_override=10.0.0.7:9000")
    'nemo'
    >>> name_of("/data/what is it?")
    'what is it?'
    """
    if not is_address(address):
        return PurePosixPath(address).name
    parts = urlsplit(address)
    return PurePosixPath(unquote(parts.path)).name or parts.hostname or ""


def without_secrets(text: str) -> str:
    """Return a text with an address for a message: without a key, a token or a password.

    >>> without_secrets("s3://key:secret@bucket/run?region=eu-west-1")
    's3://bucket/run?region=eu-west-1'
    """
    shown = re.sub(r"(?<=://)[^/@\s]*:[^/@\s]*@", "", text)
    return re.sub(r"(?<=[?&])(sig|client_secret)=[^&'\s]*", r"\1=...", shown)


def _in_one_request(uri: str) -> str:
    """Let S3 take a small file in one request, where pyarrow makes three by default.

    With this setting pyarrow may report an error when the file is closed, not when it is opened.
    """
    if not uri.startswith("s3://") or "allow_delayed_open=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"
