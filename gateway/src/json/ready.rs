//! JSON that is written before it is sent.
//!
//! Most of what is shown of a note or a person is the same for all who look, as long as it is in memory: that is kept
//! as text beside it ([`Shown`](projections::shown::Shown)). What is of the moment or the viewer's own is laid over
//! it, and the whole goes out as it is.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::{Error, SerializeStruct};
use serde::{Serialize, Serializer};

/// The name by which serde_json's serializers know that text is JSON already. It is that of its `RawValue`, which can
/// be had from a text only by reading it again.
const IS_JSON: &str = "$serde_json::private::RawValue";
/// Room for what is laid over, in bytes: for most it is enough.
const ROOM_BYTES: usize = 1_024;

/// The JSON of an object that looks like a `T`.
#[derive(Debug, Clone)]
pub struct Ready<T> {
    /// None where there was none to write; whoever is asked for it fails.
    text: Option<String>,
    of: PhantomData<T>,
}

/// What is kept beside a row: nothing, where there is no JSON.
pub fn kept(object: &impl Serialize) -> String {
    serde_json::to_string(object).unwrap_or_default()
}

impl<T> Ready<T> {
    /// The fields of an object that is [`kept`], and those of another after them; each has some.
    pub fn lay(kept: &str, over: &impl Serialize) -> Self {
        Self { text: joined(kept, over), of: PhantomData }
    }
}

fn joined(kept: &str, over: &impl Serialize) -> Option<String> {
    let mut text = Vec::with_capacity(kept.len() + ROOM_BYTES);
    text.extend_from_slice(kept.strip_suffix('}')?.as_bytes());
    let joint = text.len();
    serde_json::to_writer(&mut text, over).ok()?;
    *text.get_mut(joint)? = b',';
    String::from_utf8(text).ok()
}

impl<T> Serialize for Ready<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.text.as_ref().ok_or_else(|| S::Error::custom("it has no JSON"))?;
        let mut json = serializer.serialize_struct(IS_JSON, 1)?;
        json.serialize_field(IS_JSON, text)?;
        json.end()
    }
}

impl<T: JsonSchema> JsonSchema for Ready<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json, to_string, to_value};

    fn laid(kept: &str) -> Ready<()> {
        Ready::lay(kept, &json!({ "b": "\"" }))
    }

    #[test]
    fn it_goes_into_texts_and_values_as_the_object_that_it_is() {
        let one = laid(r#"{"a":[1]}"#);
        assert_eq!(to_string(&[&one]).unwrap(), r#"[{"a":[1],"b":"\""}]"#);
        assert_eq!(to_value(&one).unwrap(), json!({ "a": [1], "b": "\"" }));
    }

    #[test]
    fn what_has_no_json_is_not_sent() {
        assert!(to_string(&laid("")).is_err());
        assert!(to_value(laid("")).is_err() && to_value(()).is_ok_and(|nothing| nothing == Value::Null));
    }
}
