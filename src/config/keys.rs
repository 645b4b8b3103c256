//! Where the key is, which can be said in three ways.

use zeroize::Zeroizing;

use super::{Layers, Origin};
use crate::domain::KeySource;

impl Layers {
    /// Where the key is, if that is said: by whichever layer is on top.
    pub(super) fn keys(&mut self, key: Option<(Zeroizing<String>, Origin)>) -> Option<KeySource> {
        let setting = |name| self.values.get(name).filter(|(value, _)| !value.is_empty()).cloned();
        let given = [
            setting("key_file").map(|(path, origin)| (KeySource::File(path.into()), origin)),
            setting("key_command").map(|(command, origin)| (KeySource::Command(command), origin)),
            key.map(|(text, origin)| (KeySource::Text(text), origin)),
        ];
        let text_from = given[2].as_ref().map(|(_, origin)| origin.clone());
        let source = self.one_way(given.into_iter().flatten().collect(), "the key")?;
        if let (KeySource::Text(_), Some(origin)) = (&source, text_from) {
            self.set("key_file", "[REDACTED]".to_owned(), origin);
        }
        Some(source)
    }

    /// What the layer on top gives. It must not give the same twice.
    pub(super) fn one_way<T>(&mut self, mut given: Vec<(T, Origin)>, what: &str) -> Option<T> {
        let layer = |origin: &Origin| match origin {
            Origin::Default | Origin::OpenFiles => 0,
            Origin::File(_) => 1,
            Origin::Environment(_) => 2,
            Origin::Flag(_) => 3,
        };
        let top = given.iter().map(|(_, origin)| layer(origin)).max()?;
        given.retain(|(_, origin)| layer(origin) == top);
        if given.len() > 1 {
            let origins: Vec<_> = given.iter().map(|(_, origin)| origin.to_string()).collect();
            self.problems.push(format!("{}: say where {what} is in one way only", origins.join(", ")));
        }
        given.pop().map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Config, *};

    #[test]
    fn where_the_key_is() {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let layered = |flags: &[(&str, &str)], environment: &[(&str, &str)]| {
            Config::layered(&flags.iter().map(owned).collect(), environment.iter().map(owned), None)
        };
        let of = |flags: &[(&str, &str)], environment: &[(&str, &str)]| layered(flags, environment).map(|config| config.keys);
        let (key, command) = (("COUNTERSIGN_KEY", "hunter2"), ("COUNTERSIGN_KEY_COMMAND", "cat k"));
        assert_eq!(of(&[], &[key]), Ok(KeySource::Text(Zeroizing::new("hunter2".to_owned()))));
        assert_eq!(of(&[], &[command]), Ok(KeySource::Command("cat k".to_owned())));
        assert_eq!(of(&[("key_file", "f")], &[key]), Ok(KeySource::File("f".into())), "a flag beats the environment");
        let problems = of(&[], &[key, command]).unwrap_err().to_string();
        assert!(problems.contains("in one way only") && !problems.contains("hunter2"), "{problems}");
        assert!(!format!("{:?}", layered(&[], &[key])).contains("hunter2"));
        layered(&[("key", "{}")], &[]).unwrap_err();
    }
}
