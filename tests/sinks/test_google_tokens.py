"""A token server that is down is tried again for the deadline; one that refuses the credentials ends the run at once.

The same for Cloud Storage and for BigQuery: real clients, with a service account's key, and a token server over HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from etl.errors import WarehouseError
from etl.memory import Budget
from etl.warehouses.bigquery import BigQuery
from sinks import GcsStream, SinkError
from sinks.retry import Retry
from tests.google import LOCATION, PROJECT, GoogleServers
from tests.sinks.token_server import BAD_GATEWAY, TOKEN, UNAVAILABLE, Answer, TokenServer, refusal

Use = Callable[[GoogleServers, TokenServer, float], None]


def storage(servers: GoogleServers, tokens: TokenServer, deadline: float) -> None:
    """List a bucket, and write an object, with an account of that token server."""
    from google.api_core.client_options import ClientOptions
    from google.cloud.storage import Client
    from google.oauth2 import service_account

    credentials = service_account.Credentials.from_service_account_info(
        tokens.key(), scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    client = Client(
        PROJECT, credentials=credentials, client_options=ClientOptions(api_endpoint=servers.gcs.url)
    )
    sink = GcsStream(servers.new_bucket(), prefix="job", deadline=deadline, client=client)
    try:
        part = sink.open_part(1, epoch=1)
        part.write(b"x")
        part.seal()
    finally:
        sink.close()
        client.close()


def bigquery(servers: GoogleServers, tokens: TokenServer, deadline: float) -> None:
    """Look at a dataset with an account of that token server."""
    from google.api_core.client_options import ClientOptions
    from google.cloud.bigquery import Client
    from google.oauth2 import service_account

    credentials = service_account.Credentials.from_service_account_info(
        tokens.key(), scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    client = Client(
        PROJECT,
        credentials=credentials,
        location=LOCATION,
        client_options=ClientOptions(api_endpoint=servers.bigquery.url),
    )
    warehouse = BigQuery(
        table=f"{PROJECT}.{servers.new_dataset()}.t", location=LOCATION, deadline=deadline, client=client
    )
    warehouse._retry = replace(warehouse._retry, first_wait=0.01)
    try:
        warehouse.open(Budget(limit=None, warehouse=1 << 26, threads=1))
    finally:
        client.close()


both = pytest.mark.parametrize("use", [storage, bigquery])


@both
@pytest.mark.parametrize(
    "answers",
    [(BAD_GATEWAY, TOKEN), (UNAVAILABLE, TOKEN), ((502, "text/plain", ""), TOKEN)],
    ids=["a page", "503", "nothing"],
)
def test_a_token_server_that_recovers_is_waited_for(
    google_environment: GoogleServers, use: Use, answers: tuple[Answer, ...]
) -> None:
    with TokenServer(*answers) as tokens:
        use(google_environment, tokens, 60.0)
        assert tokens.asked >= 2


@both
def test_a_token_server_that_hangs_is_asked_again(google_environment: GoogleServers, use: Use) -> None:
    with TokenServer(None, TOKEN) as tokens:
        use(google_environment, tokens, 6.0)
        assert tokens.asked == 2


@both
@pytest.mark.parametrize("answer", [BAD_GATEWAY, None], ids=["502", "hangs"])
def test_a_token_server_that_stays_down_is_told_by_the_deadline(
    google_environment: GoogleServers, use: Use, answer: Answer
) -> None:
    with TokenServer(answer) as tokens:
        began = time.monotonic()
        with pytest.raises((SinkError, WarehouseError), match=r"no (token|answer).*until the deadline"):
            use(google_environment, tokens, 1.0)
        assert time.monotonic() - began < 30  # and not ten minutes
        assert tokens.asked > (1 if answer else 0)


@both
@pytest.mark.parametrize(
    ("answer", "step"),
    [
        (refusal("invalid_grant", "Invalid JWT Signature."), "make a new key"),
        (
            refusal(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your "
                "iat and exp values in the JWT claim.",
            ),
            "the clock of this machine is wrong",
        ),
        (refusal("invalid_grant", "Invalid grant: account not found"), "the service account is gone"),
        (
            refusal("invalid_grant", "Token has been expired or revoked."),
            "gcloud auth application-default login",
        ),
        (refusal("invalid_client", "The OAuth client was not found."), "look at the service account"),
    ],
    ids=["key", "clock", "account", "revoked", "client"],
)
def test_credentials_that_are_refused_end_the_run_at_once_with_the_next_step(
    google_environment: GoogleServers, use: Use, answer: Answer, step: str
) -> None:
    with TokenServer(answer) as tokens:
        with pytest.raises((SinkError, WarehouseError), match="credentials are not accepted") as raised:
            use(google_environment, tokens, 120.0)
        assert step in str(raised.value)
        assert "PRIVATE KEY" not in str(raised.value)
        assert tokens.asked <= 2  # once for what was wanted, once for what is cleared up


@pytest.mark.parametrize(
    ("status", "passes"), [(503, True), (429, True), (500, True), (404, False), (403, False), (None, True)]
)
def test_a_metadata_server_that_is_down_may_come_back_one_without_an_account_will_not(
    status: int | None, passes: bool, tmp_path: Path
) -> None:
    import google.auth.exceptions
    import google.auth.transport.requests
    from google.auth.compute_engine import _metadata

    from sinks import google_errors

    with TokenServer(None if status is None else (status, "text/plain", "no")) as server:
        request = google.auth.transport.requests.Request()
        with pytest.raises(google.auth.exceptions.TransportError) as raised:
            _metadata.get(request, "x", root=server.url + "/", retry_count=1, timeout=0.2)
    # As `google.auth.compute_engine.Credentials` passes it on.
    refresh = google.auth.exceptions.RefreshError(raised.value)
    assert google_errors.passing(refresh) is passes
    assert google_errors.passing(raised.value) is passes


def test_making_a_client_is_tried_again_too() -> None:
    import google.auth.exceptions

    from sinks.google_clients import made

    failures = [google.auth.exceptions.TransportError("the metadata server does not answer")]

    def make() -> str:
        if failures:
            raise failures.pop()
        return "a client"

    assert made(make, service="BigQuery", emulator="NONE", deadline=Retry().deadline) == "a client"
