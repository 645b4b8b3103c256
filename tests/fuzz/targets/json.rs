//! Bodies.

use countersign::{
    domain::{NewToken, Permission, Permissions},
    http::fuzzed,
};

/// A value, shown as the one of the product is.
#[derive(Debug)]
enum Json {
    Null,
    Bool,
    Number,
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// What a text is.
enum Read {
    Is(Json),
    IsNone,
    /// A number so large that two readers of floating point may round it apart.
    NobodyKnows,
}

/// JSON as RFC 8259 has it, character by character; and no member twice, at most sixteen deep.
struct Reader {
    rest: std::iter::Peekable<std::vec::IntoIter<char>>,
    huge: bool,
}

fn slowly(bytes: &[u8]) -> Read {
    let Ok(text) = std::str::from_utf8(bytes) else { return Read::IsNone };
    let mut reader = Reader { rest: text.chars().collect::<Vec<_>>().into_iter().peekable(), huge: false };
    let value = reader.value(0).filter(|_| reader.space_and_peek().is_none());
    match value {
        _ if reader.huge => Read::NobodyKnows,
        Some(value) => Read::Is(value),
        None => Read::IsNone,
    }
}

impl Reader {
    fn space_and_peek(&mut self) -> Option<char> {
        while self.rest.next_if(|c| [' ', '\t', '\n', '\r'].contains(c)).is_some() {}
        self.rest.peek().copied()
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        word.chars().all(|c| self.rest.next() == Some(c)).then_some(value)
    }

    fn value(&mut self, depth: u32) -> Option<Json> {
        match self.space_and_peek()? {
            'n' => self.word("null", Json::Null),
            't' => self.word("true", Json::Bool),
            'f' => self.word("false", Json::Bool),
            '"' => self.string().map(Json::String),
            '[' => self.array(depth + 1),
            '{' => self.object(depth + 1),
            _ => self.number(),
        }
    }

    fn array(&mut self, depth: u32) -> Option<Json> {
        self.rest.next();
        let mut items = Vec::new();
        if self.space_and_peek()? == ']' {
            self.rest.next();
        } else {
            loop {
                items.push(self.value(depth)?);
                self.space_and_peek();
                match self.rest.next()? {
                    ',' => {}
                    ']' => break,
                    _ => return None,
                }
            }
        }
        (depth <= 16).then_some(Json::Array(items))
    }

    fn object(&mut self, depth: u32) -> Option<Json> {
        self.rest.next();
        let mut members: Vec<(String, Json)> = Vec::new();
        if self.space_and_peek()? == '}' {
            self.rest.next();
        } else {
            loop {
                self.space_and_peek().filter(|c| *c == '"')?;
                let name = self.string()?;
                self.space_and_peek();
                (self.rest.next()? == ':' && members.iter().all(|(known, _)| *known != name)).then_some(())?;
                members.push((name, self.value(depth)?));
                self.space_and_peek();
                match self.rest.next()? {
                    ',' => {}
                    '}' => break,
                    _ => return None,
                }
            }
        }
        (depth <= 16).then_some(Json::Object(members))
    }

    fn unit(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |unit, _| Some(unit * 16 + self.rest.next()?.to_digit(16)?))
    }

    fn string(&mut self) -> Option<String> {
        self.rest.next();
        let mut text = String::new();
        loop {
            text.push(match self.rest.next()? {
                '"' => return Some(text),
                '\\' => match self.rest.next()? {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'u' => match self.unit()? {
                        high @ 0xD800..=0xDBFF => {
                            (self.rest.next()? == '\\' && self.rest.next()? == 'u').then_some(())?;
                            let low = self.unit().filter(|low| (0xDC00..=0xDFFF).contains(low))?;
                            char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))?
                        }
                        unit => char::from_u32(unit)?,
                    },
                    c if ['"', '\\', '/'].contains(&c) => c,
                    _ => return None,
                },
                c if c < ' ' => return None,
                c => c,
            });
        }
    }

    fn number(&mut self) -> Option<Json> {
        let mut text = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_digit() || "+-.eE".contains(*c)) {
            text.push(c);
        }
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let unsigned = text.strip_prefix('-').unwrap_or(&text);
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let well_formed = digits(whole) && (whole == "0" || !whole.starts_with('0')) && digits(decimals) && digits(exponent);
        let value: f64 = text.parse().ok().filter(|_| well_formed)?;
        self.huge |= value.is_finite() && value.abs() > 1e308;
        value.is_finite().then_some(Json::Number)
    }
}

pub(super) fn body(input: &[u8]) {
    let read = fuzzed::json(input);
    if let Err(invalid) = &read {
        super::keeps_quiet(input, &format!("{invalid:?}"));
    }
    match slowly(input) {
        Read::Is(expected) => assert_eq!(read.ok(), Some(format!("{expected:?}"))),
        Read::IsNone => assert_eq!(read.ok(), None),
        Read::NobodyKnows => {}
    }
}

/// What it creates, where `known` has the names of permissions.
fn wanted(json: &Json, known: &[(&str, Permission)]) -> Option<(String, Permissions)> {
    let Json::Object(members) = json else { return None };
    let member = |wanted: &str| members.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let (Some(Json::String(name)), Some(Json::Array(items))) = (member("name"), member("permissions")) else { return None };
    let permission = |item: &Json| match item {
        Json::String(name) => known.iter().find(|(known, _)| known == name).map(|(_, permission)| *permission),
        _ => None,
    };
    let permissions = items.iter().map(permission).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())?;
    let name = name.trim();
    let valid = (1..=255).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    valid.then(|| (name.to_owned(), permissions.into_iter().collect()))
}

pub(super) fn create(input: &[u8]) {
    let Read::Is(json) = slowly(input) else { return };
    let [grid, blips] = fuzzed::creates(input).unwrap();
    let (view, manage) = (Permission::View, Permission::Manage);
    for (read, known) in [
        (grid, &[("VIEW", view), ("TRANSACT", Permission::Transact), ("MANAGE", manage)][..]),
        (blips, &[("view", view), ("manage", manage)]),
    ] {
        if let Err(invalid) = &read {
            super::keeps_quiet(input, &format!("{invalid:?}"));
        }
        let read = read.ok().map(|NewToken { name, permissions }| (name.as_str().to_owned(), permissions));
        assert_eq!(read, wanted(&json, known));
    }
}
