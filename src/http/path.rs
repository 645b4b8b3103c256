//! Ids and names in paths. The raw path is read, as the router read it: decoding first would make two paths of one.

use http::Uri;

use crate::domain::TokenId;

/// The segment behind the first such part of the path as `/tokens/`, as it was sent: behind a later one may stand anybody's name.
pub(super) fn behind<'u>(uri: &'u Uri, part: &str) -> Option<&'u str> {
    uri.path().split_once(part)?.1.split('/').next()
}

/// The id in the segment behind `/tokens/`; its colon may be percent-encoded, and nothing else may.
pub(super) fn token_id(uri: &Uri) -> Option<TokenId> {
    let segment = behind(uri, "/tokens/")?;
    match segment.get(..8) {
        Some(head) if head.eq_ignore_ascii_case("Token%3A") && head.starts_with("Token%3") => {
            TokenId::parse(&segment[8..]).filter(|_| !segment[8..].starts_with("Token:"))
        }
        _ => TokenId::parse(segment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_one_id_and_nothing_else() {
        let uuid = "019542f5-b3e7-7d02-8000-000000000001";
        let simple = uuid.replace('-', "");
        let id = TokenId::parse(uuid);
        let find = |segment: &str| token_id(&format!("/grid/2025-10-13/tokens/{segment}").parse().unwrap());
        for segment in [
            uuid.to_owned(),
            format!("Token:{uuid}"),
            format!("Token%3A{uuid}"),
            format!("Token%3a{uuid}"),
            format!("tok_{simple}"),
            format!("Token:tok_{simple}"),
            format!("Token%3Atok_{simple}"),
            format!("{uuid}/revoke"),
        ] {
            assert_eq!(find(&segment), id, "{segment}");
        }
        for segment in [
            format!("token%3A{uuid}"),
            format!("Token%3A%3A{uuid}"),
            format!("Token%253A{uuid}"),
            format!("%54oken:{uuid}"),
            format!("{uuid}%00"),
            format!("Token%3AToken:{uuid}"),
            format!("..%2F{uuid}"),
            "%".to_owned(),
            format!("{uuid};x"),
            "Token%3A".to_owned(),
        ] {
            assert_eq!(find(&segment), None, "{segment}");
        }
    }
}
