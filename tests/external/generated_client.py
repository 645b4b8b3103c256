"""Manages tokens of a running server through a client that was generated from api/grid.openapi.yaml.

Started by generated_client.sh, which generates the package `countersign_grid` and sets the environment.
"""

import base64
import os
import time
import uuid

from countersign_grid import AuthenticatedClient
from countersign_grid.api.api_tokens import create_token, delete_token_by_id, get_token_by_id, list_tokens
from countersign_grid.models import (
    ApiToken,
    CreatedApiToken,
    CreateTokenRequest,
    Error400,
    Error401,
    Error403,
    Error404,
    Error409,
    Permission,
    TokenListResponse,
)
from countersign_grid.types import UNSET

TOKENS = 250
PAGE = 100

assert __debug__, "run without -O, or nothing is checked"


def connect(client_id, client_secret):
    return AuthenticatedClient(
        base_url=os.environ["EXTERNAL_BASE_URL"] + "/grid/2025-10-13",
        token=base64.b64encode(f"{client_id}:{client_secret}".encode()).decode(),
        prefix="Basic",
        timeout=30.0,
        raise_on_unexpected_status=True,
    )


def call(operation, status, model, *args, client, **kwargs):
    """Calls an operation, waits when the server limits us, and checks what every answer has; returns the answer."""
    for _ in range(20):
        answer = operation.sync_detailed(*args, client=client, **kwargs)
        if answer.status_code != 429:
            break
        wait = int(answer.headers["Retry-After"])
        assert 1 <= wait <= 59, f"Retry-After is {wait}"
        time.sleep(wait)
    where = operation.__name__.rsplit(".", 1)[-1]
    assert answer.status_code == status, f"{where}: {answer.status_code} instead of {status}: {answer.content!r}"
    assert answer.headers.get("Cache-Control") == "no-store", f"{where}: Cache-Control is missing"
    assert answer.headers.get("X-Request-Id"), f"{where}: X-Request-Id is missing"
    if model is None:
        assert answer.content == b"", f"{where}: {status} with a body"
    else:
        assert type(answer.parsed) is model, f"{where}: decoded as {type(answer.parsed)}"
        if status >= 400:
            assert answer.parsed.status == status and answer.parsed.message
    return answer


def create(client, status=201, model=CreatedApiToken, *, name, permissions, **headers):
    body = CreateTokenRequest(name=name, permissions=permissions)
    return call(create_token, status, model, client=client, body=body, **headers)


def walk(client, **filters):
    """Follows the cursors from the first page to the last; returns all tokens and the sizes of the pages."""
    tokens, sizes, cursor = [], [], UNSET
    while True:
        page = call(list_tokens, 200, TokenListResponse, client=client, limit=PAGE, cursor=cursor, **filters).parsed
        tokens += page.data
        sizes.append(len(page.data))
        assert len(page.data) <= PAGE
        if not page.has_more:
            assert page.next_cursor is UNSET, "the last page has a nextCursor"
            break
        assert page.data, "a page is empty although more follow"
        assert page.next_cursor, "more follow, but there is no nextCursor"
        assert len(sizes) < 10_000, "the list has no end"
        cursor = page.next_cursor
    assert page.total_count == len(tokens), f"totalCount is {page.total_count}, but {len(tokens)} tokens were listed"
    ids = [token.id for token in tokens]
    assert len(set(ids)) == len(ids), "a token was listed twice"
    times = [token.created_at for token in tokens]
    assert times == sorted(times, reverse=True), "the newest token is not first"
    return tokens, sizes


def public(token):
    """What create, read and list must agree on."""
    fields = token.to_dict()
    fields.pop("clientSecret", None)
    return fields


def main():
    client = connect(os.environ["EXTERNAL_CLIENT_ID"], os.environ["EXTERNAL_CLIENT_SECRET"])
    name = f"generated client {uuid.uuid4()}"
    wanted = [Permission.VIEW, Permission.MANAGE]

    # Create. The first one twice with the same key, which must not make two.
    key = str(uuid.uuid4())
    first = create(client, name=name, permissions=wanted, idempotency_key=key)
    again = create(client, name=name, permissions=wanted, idempotency_key=key)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers.get("Idempotent-Replayed") == "true"
    assert again.parsed == first.parsed, "the replay differs from the first answer"
    other = create(client, 409, Error409, name=name, permissions=wanted[:1], idempotency_key=key)
    assert other.parsed.details.reason == "idempotency_key_reused"
    assert other.headers.get("x-should-retry") == "false"

    created = [first.parsed]
    created += [create(client, name=name, permissions=[Permission.VIEW]).parsed for _ in range(TOKENS - 1)]
    assert created[0].permissions == wanted
    for token in created:
        assert token.name == name and token.client_secret
        assert token.created_at == token.updated_at
    for what in ("id", "client_id", "client_secret"):
        assert len({getattr(token, what) for token in created}) == TOKENS, f"two tokens have the same {what}"
    by_id = {token.id: token for token in created}

    # List: the new ones alone, then everything.
    listed, sizes = walk(client, name=name)
    assert sizes == [100, 100, 50], f"pages of {sizes}"
    assert {token.id for token in listed} == set(by_id)
    for token in listed:
        assert public(token) == public(by_id[token.id])
        assert "clientSecret" not in token.to_dict()
    everything, _ = walk(client)
    assert set(by_id) <= {token.id for token in everything}
    assert os.environ["EXTERNAL_CLIENT_ID"] in {token.client_id for token in everything}

    # Read some. A time read back is an inclusive filter.
    for token in created[::50] + created[-1:]:
        read = call(get_token_by_id, 200, ApiToken, token.id, client=client).parsed
        assert public(read) == public(token)
        same_time, _ = walk(
            client,
            name=name,
            created_after=token.created_at,
            created_before=token.created_at,
            updated_after=token.updated_at,
            updated_before=token.updated_at,
        )
        assert token.id in {found.id for found in same_time}
        assert {found.created_at for found in same_time} == {token.created_at}

    # A new token works and can do no more than it was granted.
    viewer = connect(created[-1].client_id, created[-1].client_secret)
    call(get_token_by_id, 200, ApiToken, created[0].id, client=viewer)
    refused = create(viewer, 403, Error403, name=name, permissions=[Permission.VIEW])
    assert refused.parsed.details.required == [Permission.MANAGE]

    # Errors decode too.
    invalid = create(client, 400, Error400, name="", permissions=[]).parsed
    assert invalid.code == "INVALID_INPUT"
    fields = [error.field for error in invalid.details.errors]
    assert any("name" in field for field in fields) and any("permissions" in field for field in fields), fields

    # The limits of a name, which schemathesis rarely meets exactly. White space around it does not count.
    longest = "\N{SNOWMAN}" * 255
    named = create(client, name=f" \t{longest}\u3000", permissions=[Permission.VIEW]).parsed
    assert named.name == longest
    call(delete_token_by_id, 204, None, named.id, client=client)
    for bad in (longest + "x", "bell\arings", "next\u0085line", "  ", "\u2003"):
        errors = create(client, 400, Error400, name=bad, permissions=[Permission.VIEW]).parsed.details.errors
        assert len(errors) == 1 and "name" in errors[0].field, errors

    # Delete them all; each is gone at once.
    for token in created:
        call(delete_token_by_id, 204, None, token.id, client=client)
        gone = call(get_token_by_id, 404, Error404, token.id, client=client).parsed
        assert gone.code == "TOKEN_NOT_FOUND"
    for token in created[::50]:
        call(delete_token_by_id, 404, Error404, token.id, client=client)
    dead = call(list_tokens, 401, Error401, client=viewer)
    assert dead.parsed.code == "UNAUTHORIZED"
    assert dead.headers.get("WWW-Authenticate") == 'Basic realm="countersign", charset="UTF-8"'
    left, _ = walk(client, name=name)
    assert left == [], f"{len(left)} deleted tokens are still listed"

    print(f"generated client: OK, {TOKENS} tokens created, paged through, read and deleted")


main()
