//! Calls of Envoy's: five bytes and a message of protobuf, of which a few fields decide.

use bytes::Bytes;
use countersign::http::fuzzed;

/// What stands in a field.
enum Value<'m> {
    Bytes(&'m [u8]),
    /// A number, or a group, which is skipped.
    Other,
}

/// Deeper than this, the library may give up sooner than we do.
const DEEP: usize = 50;

/// Whether something is a message is not known.
struct TooDeep;

type Fields<'m> = Result<Option<Vec<(u64, Value<'m>)>>, TooDeep>;

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u128;
    for n in 0..10 {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u128::from(byte & 0x7F) << (7 * n);
        if *byte < 0x80 {
            return u64::try_from(value).ok();
        }
    }
    None
}

fn taken<'m>(rest: &mut &'m [u8], count: u64) -> Option<&'m [u8]> {
    let (head, tail) = rest.split_at_checked(usize::try_from(count).ok()?)?;
    *rest = tail;
    Some(head)
}

/// The fields of a message, or of a group up to its end, which is that of field `group`.
fn fields<'m>(rest: &mut &'m [u8], group: Option<u64>, depth: usize) -> Fields<'m> {
    if depth > DEEP {
        return Err(TooDeep);
    }
    let mut all = Vec::new();
    loop {
        if rest.is_empty() && group.is_none() {
            return Ok(Some(all));
        }
        let Some(key) = varint(rest).filter(|key| *key <= u64::from(u32::MAX)) else { return Ok(None) };
        let (field, wire_type) = (key >> 3, key & 7);
        if field == 0 {
            return Ok(None);
        }
        let value = match wire_type {
            0 => varint(rest).map(|_| Value::Other),
            1 => taken(rest, 8).map(|_| Value::Other),
            2 => varint(rest).and_then(|count| taken(rest, count)).map(Value::Bytes),
            3 => fields(rest, Some(field), depth + 1)?.map(|_| Value::Other),
            4 if group == Some(field) => return Ok(Some(all)),
            5 => taken(rest, 4).map(|_| Value::Other),
            _ => None,
        };
        let Some(value) = value else { return Ok(None) };
        all.push((field, value));
    }
}

/// Messages of one kind, one behind the other: their fields are one message's.
struct Message<'m>(Vec<(u64, Value<'m>)>);

impl<'m> Message<'m> {
    fn of(parts: &[&'m [u8]]) -> Result<Option<Self>, TooDeep> {
        let mut all = Vec::new();
        for part in parts {
            let Some(fields) = fields(&mut &part[..], None, 0)? else { return Ok(None) };
            all.extend(fields);
        }
        Ok(Some(Self(all)))
    }

    /// All that stands in a field of bytes; `None` where something else stands there.
    fn all(&self, field: u64) -> Option<Vec<&'m [u8]>> {
        let values = self.0.iter().filter(|(known, _)| *known == field);
        values.map(|(_, value)| if let Value::Bytes(bytes) = value { Some(*bytes) } else { None }).collect()
    }

    fn last(&self, field: u64) -> Option<&'m [u8]> {
        self.all(field).map(|all| all.last().copied().unwrap_or_default())
    }
}

/// Each as a pair, of the values of these fields.
fn several<'m, const N: usize>(messages: &[&'m [u8]], wanted: [u64; N]) -> Result<Option<Vec<[&'m [u8]; N]>>, TooDeep> {
    let mut all = Vec::new();
    for message in messages {
        let Some(message) = Message::of(&[message])? else { return Ok(None) };
        let values: Option<Vec<_>> = wanted.iter().map(|field| message.last(*field)).collect();
        let Some(values) = values else { return Ok(None) };
        all.push(values.try_into().unwrap());
    }
    Ok(Some(all))
}

type Decides = Option<[Vec<Bytes>; 5]>;

fn slowly(message: &[u8]) -> Result<Decides, TooDeep> {
    // Each step may find that it is none; a macro, because `?` is taken by what is not known.
    macro_rules! some {
        ($found:expr) => {
            match $found {
                Some(found) => found,
                None => return Ok(None),
            }
        };
    }
    let check = some!(Message::of(&[message])?);
    let attributes = some!(Message::of(&some!(check.all(1)))?);
    let request = some!(Message::of(&some!(attributes.all(4)))?);
    let http = some!(Message::of(&some!(request.all(2)))?);
    let raw = some!(Message::of(&some!(http.all(13)))?);
    let own = some!(several(&some!(attributes.all(10)), [1, 2])?);
    let headers = some!(several(&some!(http.all(3)), [1, 2])?);
    let raw = some!(several(&some!(raw.all(1)), [1, 2, 3])?);
    let (method, path) = (some!(http.last(2)), some!(http.last(4)));
    let raw = raw.into_iter().map(|[name, value, raw]| [name, if raw.is_empty() { value } else { raw }]);
    let headers: Vec<_> = headers.into_iter().chain(raw).collect();
    let bytes = Bytes::copy_from_slice;
    let named = |wanted: &str| {
        headers.iter().filter(|[name, _]| name.to_ascii_lowercase() == wanted.as_bytes()).map(|[_, value]| bytes(value)).collect()
    };
    let own = own.into_iter().flatten().map(bytes).collect();
    Ok(Some([vec![bytes(method)], vec![bytes(path)], named("authorization"), named("x-forwarded-for"), own]))
}

fn framed(length: usize, message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(length).unwrap().to_be_bytes(), message].concat()
}

/// A message, in a frame that says how long it is, or nearly; and bytes that may be one with its frame.
pub(super) fn message(input: &[u8]) {
    let length = input.len();
    for frame in [input.to_vec(), framed(length, input), framed(length + 1, input), framed(length.saturating_sub(1), input)] {
        let expected = match frame.split_at_checked(5) {
            Some(([0, length @ ..], message)) if length == (message.len() as u32).to_be_bytes() && message.len() <= 65_536 => {
                slowly(message)
            }
            _ => Ok(None),
        };
        if let Ok(expected) = expected {
            assert_eq!(fuzzed::call(frame.into()), expected);
        }
    }
}
