//! What the authority's refusals are to operators, who are told more than callers of the dialects.

use http::{HeaderValue, header};

use crate::{
    authority::Error,
    domain::Role,
    http::envelope::{ClientCode, Refusal},
};

pub(super) fn refusal(error: Error) -> Refusal {
    match error {
        Error::CallerEnded => unauthorized(),
        Error::Forbidden(_) => Refusal::client(ClientCode::Forbidden, "This takes an operator who is manager; ask an owner for it.")
            .with_detail("role", "manager".into())
            .with_detail("everywhere", false.into()),
        Error::RoleLacking(lacking) => {
            let message = match (lacking.everywhere, lacking.required) {
                (true, _) => "This takes an operator of all platforms; ask an owner for it.",
                (false, Role::Owner) => "This takes an operator who is owner; ask an owner for it.",
                (false, _) => "This takes an operator who is manager; ask an owner for it.",
            };
            Refusal::client(ClientCode::Forbidden, message)
                .with_detail("role", lacking.required.name().into())
                .with_detail("everywhere", lacking.everywhere.into())
        }
        Error::NotFound => not_found(),
        Error::Invalid(invalid) => Refusal::invalid(&invalid),
        Error::Tampered => conflict(
            "edited",
            "Its row was edited in the database, so it is refused everywhere; put the row back from a backup and restart the servers.",
        ),
        Error::NotRevocable => conflict("not_revocable", "Only an operator of all platforms can end this API token."),
        Error::TooManyTokens => Refusal::too_many_tokens(),
        Error::OtherCount(count) => {
            conflict("other_count", "It would end another number of API tokens; look at them again, and say how many.")
                .with_detail("count", count.into())
        }
        Error::KeyActive => conflict("key_active", "It is the active key; activate another one first (countersign keys activate)."),
        // This one may be repeated, once the key file is everywhere.
        Error::KeyUsed => Refusal::client(
            ClientCode::Conflict,
            "Tokens are made with that key: some server has it as its active key still; give all of them the key file, \
             send SIGHUP, and do this again.",
        )
        .with_detail("reason", "key_used".into()),
        Error::LogEdited(what) => {
            conflict("log_edited", "The audit log is not as it was sealed and signed; verify it: countersign audit verify.")
                .with_detail("problem", what.into())
        }
        Error::LogTooLong => conflict("log_too_long", "The audit log is too long for a request; run countersign audit where the data is."),
        Error::Busy => Refusal::busy(),
        Error::LastOwner => conflict("last_owner", "There would be no owner left; make another one first."),
        Error::NameTaken => conflict("name_taken", "There is an operator of that name already."),
        // This one may be repeated, behind a look at what it is now.
        Error::Changed => Refusal::client(ClientCode::Conflict, "Somebody else has changed it just now; look at it, and try again.")
            .with_detail("reason", "changed".into()),
        Error::MadeBefore => conflict("made_before", "It was asked for before, and made then."),
        Error::KeyReused => Refusal::key_reused(),
        Error::InProgress => Refusal::in_progress(),
        Error::Unavailable(cause) => Refusal::unavailable_because(&cause),
    }
}

/// A conflict that is one until somebody does something else about it.
pub(super) fn conflict(reason: &str, message: &'static str) -> Refusal {
    Refusal::client(ClientCode::Conflict, message).with_detail("reason", reason.into()).not_to_be_repeated()
}

pub(super) fn not_found() -> Refusal {
    Refusal::client(ClientCode::ReferenceNotFound, "There is no such thing.")
}

/// The one answer to whoever is no operator.
pub(super) fn unauthorized() -> Refusal {
    let challenge = HeaderValue::from_static("Bearer realm=\"countersign operators\"");
    Refusal::client(ClientCode::Unauthorized, "The request needs an operator's token, as Bearer: countersign operator token create.")
        .with_header(header::WWW_AUTHENTICATE, challenge)
}
