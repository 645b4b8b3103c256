"""Hooks for schemathesis, loaded through schemathesis.toml: what a valid request is, where no schema can say it."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return  # meant to be invalid, so it stays as it is
    # A cursor is made and authenticated by the server; an invented one is refused, however right it looks.
    if case.query and case.query.get("cursor"):
        case.query["cursor"] = ""
    # The same key comes up in several scenarios. The later ones would be answered with the token of the first, which
    # that one may have ended, and a token that is created and not there would look like a defect.
    if case.meta.phase.name.value == "stateful" and case.headers:
        case.headers.pop("Idempotency-Key", None)
