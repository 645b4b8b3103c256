//! What the authority's refusals are in Grid.

use crate::{
    authority::Error,
    http::envelope::{ClientCode, Refusal},
};

pub(super) fn refusal(error: Error) -> Refusal {
    match error {
        Error::CallerEnded => Refusal::unauthorized(),
        Error::Forbidden(required) => Refusal::forbidden(required),
        Error::NotFound | Error::Tampered => Refusal::token_not_found(),
        Error::Invalid(invalid) => Refusal::invalid(&invalid),
        Error::NotRevocable => Refusal::client(ClientCode::InvalidInput, "Only the operator of this service can end this API token.")
            .with_detail("reason", "not_revocable".into()),
        Error::TooManyTokens => Refusal::too_many_tokens(),
        // Operators alone hear these.
        Error::RoleLacking(_)
        | Error::NameTaken
        | Error::OtherCount(_)
        | Error::KeyActive
        | Error::KeyUsed
        | Error::LogEdited(_)
        | Error::LogTooLong
        | Error::Busy
        | Error::LastOwner
        | Error::Changed
        | Error::MadeBefore => Refusal::internal(),
        Error::KeyReused => Refusal::key_reused(),
        Error::InProgress => Refusal::in_progress(),
        Error::Unavailable(cause) => Refusal::unavailable_because(&cause),
    }
}
