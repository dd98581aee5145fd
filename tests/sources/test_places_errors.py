"""What every user of another place meets sooner or later: each is one line that says what to do."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from place_servers import PASSWORD, S3, Gs, Sftp, gs, s3, sftp
from pulling import ndjson, pull, taken

from etl import config
from etl.errors import ConfigError, SourceError
from etl.sources import Files
from etl.sources.remote.errors import explain
from etl.sources.remote.kinds import secrets_of


@pytest.fixture(scope="module")
def s3_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3(tmp_path_factory.mktemp("s3")) as place:
        yield place


@pytest.fixture(scope="module")
def gs_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gs]:
    with gs(tmp_path_factory.mktemp("gs")) as place:
        yield place


@pytest.fixture(scope="module")
def sftp_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sftp]:
    with sftp(tmp_path_factory.mktemp("sftp")) as place:
        yield place


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [
        ("s3://bucket/a.csv", "s3fs", "s3"),
        ("gs://bucket/a.csv", "gcsfs", "gs"),
        ("abfs://container/a.csv", "adlfs", "az"),
        ("sftp://host/a.csv", "paramiko", "sftp"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, uri: str, package: str, extra: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more)
    )
    with pytest.raises(ConfigError, match=rf"needs the package {package}.*'etl-sinks\[{extra}\]'"):
        Files(uri)


def test_a_source_is_made_without_the_packages_being_loaded() -> None:
    code = (
        "import sys; from etl.sources import Files; Files('s3://bucket/*'); Files('sftp://host/a.csv'); "
        "sys.exit(bool({'fsspec', 's3fs', 'paramiko'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_bucket_that_does_not_exist_is_named(s3_place: S3, gs_place: Gs) -> None:
    for place in (s3_place, gs_place):
        scheme = place.root.partition("://")[0]
        for path in ("a.csv", "*.csv", ""):
            with pytest.raises(SourceError, match=r"there is no bucket 'no-such'"):
                pull(Files(f"{scheme}://no-such/{path}", storage=place.storage))


def test_a_prefix_that_ends_in_a_slash_may_be_empty(s3_place: S3, gs_place: Gs) -> None:
    for place in (s3_place, gs_place):
        place.fresh()
        assert pull(place.files("inbox/")) == []
        with pytest.raises(SourceError, match="there is no file"):
            pull(place.files("inbox"))


def test_a_bucket_itself_is_a_directory(s3_place: S3, gs_place: Gs) -> None:
    for place in (s3_place, gs_place):
        bucket = place.root.rpartition("/")[0]
        assert taken(Files(f"{bucket}/", storage=place.storage)) == []
        assert taken(Files(bucket, storage=place.storage)) == []


def test_missing_credentials_are_named(s3_place: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    storage = {key: value for key, value in s3_place.storage.items() if key not in ("key", "secret")}
    with pytest.raises(SourceError, match=r"there are no credentials .*set AWS_ACCESS_KEY_ID.*storage\.anon"):
        pull(Files(s3_place.uri("a.csv"), storage=storage))


def test_a_permission_that_is_missing_is_named(s3_place: S3) -> None:
    s3_place.fresh()
    s3_place.put("a.ndjson", ndjson([{"n": 1}]))
    storage = {key: value for key, value in s3_place.storage.items() if key not in ("key", "secret")}
    with pytest.raises(SourceError, match=r"it is refused .*ask for the permission to list and read"):
        pull(Files(s3_place.uri("*.ndjson"), storage={**storage, "anon": True}))


def test_an_ssh_host_that_nobody_vouches_for_is_refused(
    sftp_place: Sftp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sftp_place.fresh()
    sftp_place.put("a.ndjson", ndjson([{"n": 1}]))
    monkeypatch.setenv("HOME", str(tmp_path))
    storage = {key: value for key, value in sftp_place.storage.items() if key != "host_key_policy"}
    source = Files(sftp_place.uri("a.ndjson"), storage=storage)
    with pytest.raises(SourceError, match=r"the host's key .* is not that of .*known_hosts"):
        pull(source)
    known = tmp_path / ".ssh" / "known_hosts"
    known.parent.mkdir()
    address = sftp_place.root.split("/")[2].split(":")
    known.write_text(f"[{address[0]}]:{address[1]} {host_key(sftp_place)}\n")
    assert taken(source) == [{"n": 1}]


def host_key(place: Sftp) -> str:
    host, port = place.root.split("/")[2].split(":")
    with paramiko.Transport((host, int(port))) as transport:
        transport.start_client()
        key = transport.get_remote_server_key()
        return f"{key.get_name()} {key.get_base64()}"


def test_an_option_that_nobody_knows_is_named(s3_place: S3, sftp_place: Sftp) -> None:
    for place in (s3_place, sftp_place):
        source = Files(place.uri("a.csv"), storage={**place.storage, "sekret": "a hidden word"})
        with pytest.raises(SourceError, match=r"`storage` is wrong.*sekret") as raised:
            pull(source)
        assert "a hidden word" not in str(raised.value)


def test_a_key_within_a_connection_string_is_hidden() -> None:
    connection = "AccountName=me;AccountKey=c2VjcmV0IGtleQ==;BlobEndpoint=http://127.0.0.1:1/me;"
    secrets = secrets_of({"connection_string": connection, "endpoint_url": "http://127.0.0.1:1"})
    assert "c2VjcmV0IGtleQ==" not in explain(
        ValueError(f"no: AccountKey=c2VjcmV0IGtleQ== {connection}"), "az", secrets
    )
    assert "127.0.0.1:1" in explain(
        ValueError("no: http://127.0.0.1:1"), "s3", secrets_of({"endpoint_url": "http://127.0.0.1:1"})
    )


def test_storage_options_come_out_of_the_environment_in_a_job_file(
    s3_place: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_place.fresh()
    s3_place.put("a.ndjson", ndjson([{"n": 1}]))
    monkeypatch.setenv("WORD", PASSWORD)
    job = tmp_path / "job.toml"
    job.write_text(
        f"""
        [source]
        type = "files"
        paths = "{s3_place.root}/*.ndjson"
        storage = {{ key = "reader", secret = "${{WORD}}", endpoint_url = "{s3_place.url}" }}

        [sink]
        type = "numbered_chunks"
        path = "{tmp_path}/out.ndjson"

        [checkpoint]
        uri = "{tmp_path}/job.checkpoint.json"
        """
    )
    config.read(job).pipeline().run()
    assert b'"n":1' in b"".join(path.read_bytes() for path in tmp_path.glob("out*.ndjson"))
    assert PASSWORD not in (tmp_path / "job.checkpoint.json").read_text()


def test_a_source_of_another_place_survives_pickling(s3_place: S3) -> None:
    s3_place.fresh()
    s3_place.put("a.ndjson", ndjson([{"n": 1}]))
    source: Any = pickle.loads(pickle.dumps(s3_place.files("a.ndjson")))
    assert taken(source) == [{"n": 1}]
