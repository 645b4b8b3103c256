//! The server elsewhere that commands ask, and the operator's token with which they do.

use std::{fmt, net::IpAddr, path::PathBuf};

use http::Uri;
use zeroize::Zeroizing;

use super::{Layers, Origin};
use crate::domain::PresentedOperator;

/// A secret's text, and where it came from.
pub(super) type Given = (Zeroizing<String>, Origin);

/// What `server` must be.
pub(super) const SERVER: &str = "empty, or a URL without a login such as https://countersign.internal, or http:// and an address of this machine such as \
     http://127.0.0.1:8421: elsewhere an operator's token would cross the network in the clear";

/// None is the database at hand.
pub(super) fn parse_server(text: &str) -> Option<Option<Uri>> {
    if text.is_empty() {
        return Some(None);
    }
    let url: Uri = text.parse().ok().filter(|_| !text.contains(['?', '#', '@']))?;
    let host = url.host()?.trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    match url.scheme_str() {
        Some("https") => Some(Some(url)),
        Some("http") if is_here => Some(Some(url)),
        _ => None,
    }
}

/// Where an operator's token is.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// In a file.
    File(PathBuf),
    /// It was given as it is, by the environment.
    Text(Zeroizing<String>),
}

/// Without the text.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSource({self})")
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Text(_) => f.write_str("COUNTERSIGN_OPERATOR_TOKEN"),
        }
    }
}

impl Layers {
    /// Where the token is, if that is said. That one was given as it is stands where its file would.
    pub(super) fn operator_token(&mut self, given: Option<Given>) -> Option<TokenSource> {
        const FILE: &str = "operator_token_file";
        let file = self.values.get(FILE).filter(|(path, _)| !path.is_empty()).cloned();
        if let Some((_, origin)) = file.as_ref().filter(|(path, _)| PresentedOperator::parse(path).is_some()) {
            // Everybody on the machine could have read it.
            self.problems.push(format!("{origin}: {FILE} is the name of a file, and this is a token: end it, and make another"));
            return None;
        }
        let text = given.filter(|(text, _)| !text.is_empty());
        let text_from = text.as_ref().map(|(_, origin)| origin.clone());
        let ways = [
            file.map(|(path, origin)| (TokenSource::File(path.into()), origin)),
            text.map(|(text, origin)| (TokenSource::Text(text), origin)),
        ];
        let source = self.one_way(ways.into_iter().flatten().collect(), "the operator's token")?;
        if let (TokenSource::Text(_), Some(origin)) = (&source, text_from) {
            self.set(FILE, "[REDACTED]".to_owned(), origin);
        }
        Some(source)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Config, *};

    #[test]
    fn a_token_crosses_no_network_in_the_clear() {
        for (url, host) in [
            ("https://countersign.internal", "countersign.internal"),
            ("https://ops.example.com:8421/countersign/", "ops.example.com"),
            ("https://192.0.2.1", "192.0.2.1"),
            ("http://127.0.0.1:8421", "127.0.0.1"),
            ("http://127.9.9.9", "127.9.9.9"),
            ("http://[::1]:8421/", "[::1]"),
            ("http://localhost:8421", "localhost"),
        ] {
            assert_eq!(parse_server(url).unwrap().unwrap().host(), Some(host), "{url}");
        }
        for url in [
            "http://countersign.internal",
            "http://192.0.2.1:8421",
            "http://0.0.0.0:8421",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://127.0.0.1@192.0.2.1",
            "https://me:secret@countersign.internal",
            "https://countersign.internal?a=b",
            "https://",
            "http:///v1",
            "127.0.0.1:8421",
            "/v1",
            "ftp://127.0.0.1",
            " https://a",
        ] {
            assert_eq!(parse_server(url), None, "{url}");
        }
        assert_eq!(parse_server(""), Some(None));
    }

    #[test]
    fn where_the_token_is() {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let layered = |flags: &[(&str, &str)], environment: &[(&str, &str)]| {
            Config::layered(&flags.iter().map(owned).collect(), environment.iter().map(owned), None)
        };
        let of = |flags: &[(&str, &str)], environment: &[(&str, &str)]| layered(flags, environment).map(|config| config.operator_token);
        let (text, file) = (("COUNTERSIGN_OPERATOR_TOKEN", "hunter2"), ("COUNTERSIGN_OPERATOR_TOKEN_FILE", "f"));
        assert_eq!(of(&[], &[]), Ok(None));
        assert_eq!(of(&[], &[("COUNTERSIGN_OPERATOR_TOKEN", "")]), Ok(None));
        assert_eq!(of(&[], &[text]), Ok(Some(TokenSource::Text(Zeroizing::new("hunter2".to_owned())))));
        assert_eq!(of(&[], &[file]), Ok(Some(TokenSource::File("f".into()))));
        assert_eq!(of(&[("operator_token_file", "g")], &[text]), Ok(Some(TokenSource::File("g".into()))), "a flag beats the environment");
        let problems = of(&[], &[text, file]).unwrap_err().to_string();
        assert!(problems.contains("in one way only") && !problems.contains("hunter2"), "{problems}");
        layered(&[("operator_token", "x")], &[]).unwrap_err();

        let config = layered(&[], &[text]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        let shown = config.shown().iter().find(|shown| shown.name == "operator_token_file").unwrap();
        assert_eq!((&*shown.value, shown.origin.to_string()), ("[REDACTED]", "environment COUNTERSIGN_OPERATOR_TOKEN".to_owned()));
    }
}
