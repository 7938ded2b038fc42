//! A number with its status. There is no default and no zero for "could not look".

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;

/// What an attempt to read something gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "status", content = "value", rename_all = "lowercase")]
pub enum Reading<T> {
    /// Read.
    Present(T),
    /// The kernel does not have it (file, module or attribute missing): says what is missing.
    Absent(String),
    /// A privilege is missing: names it.
    Denied(String),
    /// Anything else: the kernel's own words.
    Failed(String),
}

impl<T> Reading<T> {
    /// What a field is that an older recording does not have: nobody looked.
    pub fn not_recorded() -> Self {
        Self::Absent("not in this recording".to_owned())
    }

    /// What a field is that every version writes and this recording does not have: what it said is not known.
    pub fn taken_out() -> Self {
        Self::Failed("missing in this recording".to_owned())
    }

    /// The value, if it was read.
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent(_) | Self::Denied(_) | Self::Failed(_) => None,
        }
    }

    /// The value to change, if it was read.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent(_) | Self::Denied(_) | Self::Failed(_) => None,
        }
    }

    /// True if there is a value.
    pub fn is_present(&self) -> bool {
        self.get().is_some()
    }

    /// True if something is there that could not be read (not: the kernel has none of it).
    pub fn is_hidden(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::Failed(_))
    }

    /// The same status around another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Present(value) => Reading::Present(f(value)),
            Self::Absent(why) => Reading::Absent(why),
            Self::Denied(needs) => Reading::Denied(needs),
            Self::Failed(error) => Reading::Failed(error),
        }
    }

    /// Borrowing form.
    pub fn as_ref(&self) -> Reading<&T> {
        match self {
            Self::Present(value) => Reading::Present(value),
            Self::Absent(why) => Reading::Absent(why.clone()),
            Self::Denied(needs) => Reading::Denied(needs.clone()),
            Self::Failed(error) => Reading::Failed(error.clone()),
        }
    }
}

/// What is damaged in a recording is a reading that failed; the rest of the recording is judged. JSON only.
impl<'de, T: DeserializeOwned> Deserialize<'de> for Reading<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Tagged {
            status: Option<String>,
            value: Option<Box<RawValue>>,
        }
        let Tagged { status, value } = Tagged::deserialize(deserializer)?;
        let value = value.as_deref().map_or("null", RawValue::get);
        let decoded = match status.as_deref() {
            Some("present") => serde_json::from_str(value).map(Self::Present),
            Some("absent") => serde_json::from_str(value).map(Self::Absent),
            Some("denied") => serde_json::from_str(value).map(Self::Denied),
            Some("failed") => serde_json::from_str(value).map(Self::Failed),
            _ => return Ok(Self::Failed(damage("no status"))),
        };
        Ok(decoded.unwrap_or_else(|error| Self::Failed(damage(error))))
    }
}

fn damage(error: impl fmt::Display) -> String {
    format!("damaged in this recording: {error}")
}

/// Decodes a list; an element that cannot be decoded becomes what `damaged` makes of the reason.
pub(crate) fn elements<'de, D, T>(deserializer: D, damaged: fn(String) -> T) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    struct Elements<T>(fn(String) -> T, PhantomData<T>);
    impl<'de, T: DeserializeOwned> Visitor<'de> for Elements<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut out = vec![];
            while let Some(text) = list.next_element::<Box<RawValue>>()? {
                let element = serde_json::from_str(text.get());
                out.push(element.unwrap_or_else(|error| (self.0)(damage(error))));
            }
            Ok(out)
        }
    }
    deserializer.deserialize_seq(Elements(damaged, PhantomData))
}

impl<T> Reading<Vec<T>> {
    /// Iterates over what was read; empty if nothing could be read. Only for callers that check
    /// [`Reading::is_hidden`] (or the coverage) before they say "none".
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.get().map(Vec::as_slice).unwrap_or(&[]).iter()
    }
}

/// A list with a limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bounded<T> {
    /// What was kept.
    pub items: Vec<T>,
    /// There are more than these: what is not among them may still exist.
    pub more: bool,
}

impl<T> Reading<Bounded<T>> {
    /// Iterates over what was kept; the caveat of [`Reading::iter`] holds, and that of [`Bounded::more`].
    pub fn kept(&self) -> std::slice::Iter<'_, T> {
        self.get().map(|bounded| bounded.items.as_slice()).unwrap_or(&[]).iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Reading<Vec<u8>> {
        serde_json::from_str(text).expect("decodes")
    }

    #[test]
    fn what_is_damaged_has_failed_and_is_not_empty() {
        assert_eq!(decode(r#"{"status":"present","value":[1]}"#), Reading::Present(vec![1]));
        assert_eq!(decode(r#"{"value":"x","status":"denied"}"#), Reading::Denied("x".to_owned()));
        for text in [
            "{}",
            r#"{"value":[1]}"#,
            r#"{"status":"present"}"#,
            r#"{"status":"present","value":[300]}"#,
            r#"{"status":"absent"}"#,
            r#"{"status":"new","value":[1]}"#,
        ] {
            assert!(matches!(decode(text), Reading::Failed(_)), "{text}");
        }
    }

    #[test]
    fn a_reading_of_nothing_is_read_again() {
        let text = serde_json::to_string(&Reading::Present(())).expect("encodes");
        assert_eq!(serde_json::from_str::<Reading<()>>(&text).expect("decodes"), Reading::Present(()));
    }
}
