//! The rules of a request's parameters, taken from their JSON schema: what the document promises is what
//! is enforced. The first broken rule is told by its path in the schema and in words, both as Misskey's
//! validator tells them.

use regex_lite::Regex;
use serde_json::{Map, Value};

use super::param::ID_FORMAT;

/// The first rule that a value broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Such as `#/properties/limit/maximum`.
    pub param: String,
    /// Such as `must be <= 100`.
    pub reason: String,
}

/// A schema that can't be enforced: a defect of the endpoint, found when the registry is built.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct BadSchema {
    pub path: String,
    pub reason: String,
}

/// One schema, ready to be applied.
#[derive(Debug, Default)]
pub struct Shape {
    path: String,
    types: Vec<Type>,
    one_of_values: Option<Vec<Value>>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    pattern: Option<(String, Regex)>,
    is_id: bool,
    min_items: Option<usize>,
    max_items: Option<usize>,
    unique_items: bool,
    items: Option<Box<Shape>>,
    required: Vec<String>,
    properties: Vec<(String, Shape)>,
    any_of: Vec<Shape>,
    /// Where the first holds, the second has to.
    condition: Option<Box<Shape>>,
    consequence: Option<Box<Shape>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

/// Keywords that say nothing about validity.
const ANNOTATIONS: &[&str] =
    &["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"];

impl Shape {
    /// Reads a schema without references.
    pub fn new(schema: &Value) -> Result<Self, BadSchema> {
        Self::read(schema, "#".to_owned())
    }

    fn read(schema: &Value, path: String) -> Result<Self, BadSchema> {
        let bad = |reason: &str| BadSchema { path: path.clone(), reason: reason.to_owned() };
        let keywords = match schema {
            Value::Bool(true) => return Ok(Self { path, ..Self::default() }),
            Value::Object(keywords) => keywords,
            _ => return Err(bad("not a schema")),
        };
        let mut shape = Self { path: path.clone(), ..Self::default() };
        for (keyword, value) in keywords {
            let deeper = |more: &str| format!("{path}/{keyword}{more}");
            match keyword.as_str() {
                "type" => shape.types = types(value).ok_or_else(|| bad("unknown type"))?,
                "enum" => shape.one_of_values = value.as_array().cloned(),
                "const" => shape.one_of_values = Some(vec![value.clone()]),
                "minimum" => shape.minimum = value.as_f64(),
                "maximum" => shape.maximum = value.as_f64(),
                "minLength" => shape.min_length = size(value),
                "maxLength" => shape.max_length = size(value),
                "pattern" => {
                    let pattern = value.as_str().ok_or_else(|| bad("pattern"))?;
                    let regex = Regex::new(pattern).map_err(|cause| bad(&cause.to_string()))?;
                    shape.pattern = Some((pattern.to_owned(), regex));
                }
                // Other formats describe numbers and dates; their Rust types check them.
                "format" => shape.is_id = value.as_str() == Some(ID_FORMAT),
                "minItems" => shape.min_items = size(value),
                "maxItems" => shape.max_items = size(value),
                "uniqueItems" => shape.unique_items = value.as_bool() == Some(true),
                "items" => shape.items = Some(Box::new(Self::read(value, deeper(""))?)),
                "required" => {
                    let names = value.as_array().into_iter().flatten();
                    shape.required = names.filter_map(|name| name.as_str().map(str::to_owned)).collect();
                }
                "properties" => {
                    for (name, property) in value.as_object().into_iter().flatten() {
                        let property = Self::read(property, deeper(&format!("/{name}")))?;
                        shape.properties.push((name.clone(), property));
                    }
                }
                "anyOf" | "oneOf" => {
                    for (at, branch) in value.as_array().into_iter().flatten().enumerate() {
                        shape.any_of.push(Self::read(branch, deeper(&format!("/{at}")))?);
                    }
                }
                "if" => shape.condition = Some(Box::new(Self::read(value, deeper(""))?)),
                "then" => shape.consequence = Some(Box::new(Self::read(value, deeper(""))?)),
                "additionalProperties" if *value == Value::Bool(true) || value.is_object() => (),
                known if ANNOTATIONS.contains(&known) => (),
                unknown => return Err(bad(&format!("{unknown} isn't enforced"))),
            }
        }
        Ok(shape)
    }

    /// The properties of an object and their types.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &[Type])> {
        self.properties.iter().map(|(name, shape)| (name.as_str(), shape.types.as_slice()))
    }

    /// Checks a value. A number without a fraction is an integer however it was written: it becomes one.
    pub fn check(&self, value: &mut Value) -> Result<(), Broken> {
        self.check_type(value)?;
        match value {
            Value::Number(_) => self.check_number(value)?,
            Value::String(text) => self.check_string(text)?,
            _ => (),
        }
        if self.one_of_values.as_ref().is_some_and(|allowed| !allowed.contains(value)) {
            return Err(self.broken("enum", "must be equal to one of the allowed values"));
        }
        self.check_branches(value)?;
        match value {
            Value::Array(items) => self.check_array(items),
            Value::Object(fields) => self.check_object(fields),
            _ => Ok(()),
        }
    }

    fn check_type(&self, value: &mut Value) -> Result<(), Broken> {
        if self.types.is_empty() || self.types.iter().any(|t| t.holds(value)) {
            return Ok(());
        }
        if self.types.contains(&Type::Integer)
            && let Some(whole) = whole(value)
        {
            *value = whole.into();
            return Ok(());
        }
        let names: Vec<&str> = self.types.iter().filter(|t| **t != Type::Null).map(|t| t.name()).collect();
        let names = if names.is_empty() { "null".to_owned() } else { names.join(",") };
        Err(self.broken("type", format!("must be {names}")))
    }

    fn check_number(&self, value: &Value) -> Result<(), Broken> {
        let Some(number) = value.as_f64() else { return Ok(()) };
        if let Some(max) = self.maximum.filter(|max| number > *max) {
            return Err(self.broken("maximum", format!("must be <= {max}")));
        }
        if let Some(min) = self.minimum.filter(|min| number < *min) {
            return Err(self.broken("minimum", format!("must be >= {min}")));
        }
        Ok(())
    }

    fn check_string(&self, text: &str) -> Result<(), Broken> {
        if self.max_length.is_some() || self.min_length.is_some() {
            let length = text.chars().count();
            if let Some(max) = self.max_length.filter(|max| length > *max) {
                return Err(self.broken("maxLength", format!("must NOT have more than {max} characters")));
            }
            if let Some(min) = self.min_length.filter(|min| length < *min) {
                return Err(self.broken("minLength", format!("must NOT have fewer than {min} characters")));
            }
        }
        if let Some((source, _)) = self.pattern.as_ref().filter(|(_, regex)| !regex.is_match(text)) {
            return Err(self.broken("pattern", format!("must match pattern \"{source}\"")));
        }
        if self.is_id && domain::ids::from_wire(text).is_err() {
            return Err(self.broken("format", format!("must match format \"{ID_FORMAT}\"")));
        }
        Ok(())
    }

    fn check_array(&self, items: &mut [Value]) -> Result<(), Broken> {
        let count = items.len();
        if let Some(max) = self.max_items.filter(|max| count > *max) {
            return Err(self.broken("maxItems", format!("must NOT have more than {max} items")));
        }
        if let Some(min) = self.min_items.filter(|min| count < *min) {
            return Err(self.broken("minItems", format!("must NOT have fewer than {min} items")));
        }
        if self.unique_items
            && let Some((later, earlier)) = duplicate(items)
        {
            let reason =
                format!("must NOT have duplicate items (items ## {later} and {earlier} are identical)");
            return Err(self.broken("uniqueItems", reason));
        }
        if let Some(shape) = &self.items {
            items.iter_mut().try_for_each(|item| shape.check(item))?;
        }
        Ok(())
    }

    fn check_object(&self, fields: &mut Map<String, Value>) -> Result<(), Broken> {
        if let Some(missing) = self.required.iter().find(|name| !fields.contains_key(name.as_str())) {
            return Err(self.broken("required", format!("must have required property '{missing}'")));
        }
        self.properties.iter().try_for_each(|(name, shape)| match fields.get_mut(name) {
            Some(value) => shape.check(value),
            None => Ok(()),
        })
    }

    /// Any branch will do; when none does, the first one's complaint is told.
    fn check_branches(&self, value: &mut Value) -> Result<(), Broken> {
        if let (Some(condition), Some(consequence)) = (&self.condition, &self.consequence)
            && condition.check(value).is_ok()
        {
            consequence.check(value)?;
        }
        let mut first = None;
        for branch in &self.any_of {
            match branch.check(value) {
                Ok(()) => return Ok(()),
                Err(broken) => first = first.or(Some(broken)),
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn broken(&self, rule: &str, reason: impl Into<String>) -> Broken {
        Broken { param: format!("{}/{rule}", self.path), reason: reason.into() }
    }
}

impl Type {
    /// Its name in JSON schema.
    pub fn name(self) -> &'static str {
        match self {
            Type::Null => "null",
            Type::Boolean => "boolean",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::String => "string",
            Type::Array => "array",
            Type::Object => "object",
        }
    }

    fn named(name: &str) -> Option<Self> {
        use Type::*;
        [Null, Boolean, Integer, Number, String, Array, Object].into_iter().find(|t| t.name() == name)
    }

    fn holds(self, value: &Value) -> bool {
        match (self, value) {
            (Type::Integer, Value::Number(number)) => number.is_i64() || number.is_u64(),
            (Type::Null, Value::Null)
            | (Type::Boolean, Value::Bool(_))
            | (Type::Number, Value::Number(_))
            | (Type::String, Value::String(_))
            | (Type::Array, Value::Array(_))
            | (Type::Object, Value::Object(_)) => true,
            _ => false,
        }
    }
}

fn types(value: &Value) -> Option<Vec<Type>> {
    match value {
        Value::String(name) => Some(vec![Type::named(name)?]),
        Value::Array(names) => names.iter().map(|name| Type::named(name.as_str()?)).collect(),
        _ => None,
    }
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|size| usize::try_from(size).ok())
}

/// The integer that a number like `10.0` is.
fn whole(value: &Value) -> Option<i64> {
    /// Beyond it, not every integer has a number of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_f64().filter(|n| n.fract() == 0.0 && n.abs() <= EXACT).map(|n| n as i64)
}

/// The last item that equals an earlier one, and that earlier one.
fn duplicate(items: &[Value]) -> Option<(usize, usize)> {
    /// Longer lists than this are refused before they come here by any sensible `maxItems`.
    const MAX_COMPARED: usize = 1_000;
    let items = &items[..items.len().min(MAX_COMPARED)];
    (0..items.len()).rev().find_map(|later| {
        let earlier = items[..later].iter().rposition(|item| *item == items[later])?;
        Some((later, earlier))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn complaint(schema: Value, mut value: Value) -> Option<(String, String)> {
        let broken = Shape::new(&schema).unwrap().check(&mut value).err()?;
        Some((broken.param, broken.reason))
    }

    /// Schema of one property `x`, its value, and what Misskey's server said to such a request.
    #[test]
    fn complaints_are_those_that_clients_know() {
        let said = [
            (json!({ "type": "string" }), json!(5), "type", "must be string"),
            (json!({ "type": ["string", "null"] }), json!(5), "type", "must be string"),
            (json!({ "type": "boolean" }), json!("yes"), "type", "must be boolean"),
            (json!({ "type": "integer" }), json!(1.5), "type", "must be integer"),
            (json!({ "type": "integer" }), json!("10"), "type", "must be integer"),
            (json!({ "type": "array" }), json!("str"), "type", "must be array"),
            (json!({ "type": "integer", "maximum": 100 }), json!(101), "maximum", "must be <= 100"),
            (json!({ "type": "integer", "minimum": 1 }), json!(0), "minimum", "must be >= 1"),
            (json!({ "minLength": 1 }), json!(""), "minLength", "must NOT have fewer than 1 characters"),
            (json!({ "maxLength": 2 }), json!("ééé"), "maxLength", "must NOT have more than 2 characters"),
            (
                json!({ "pattern": r"^\w{1,20}$" }),
                json!("has space"),
                "pattern",
                r#"must match pattern "^\w{1,20}$""#,
            ),
            (
                json!({ "pattern": r"^\w{1,20}$" }),
                json!("é"),
                "pattern",
                r#"must match pattern "^\w{1,20}$""#,
            ),
            (
                json!({ "type": "string", "format": "misskey:id" }),
                json!("not an id"),
                "format",
                r#"must match format "misskey:id""#,
            ),
            (json!({ "enum": ["a"] }), json!("b"), "enum", "must be equal to one of the allowed values"),
            (json!({ "minItems": 2 }), json!(["one"]), "minItems", "must NOT have fewer than 2 items"),
            (json!({ "maxItems": 1 }), json!(["a", "b"]), "maxItems", "must NOT have more than 1 items"),
            (
                json!({ "uniqueItems": true }),
                json!(["a", "a"]),
                "uniqueItems",
                "must NOT have duplicate items (items ## 1 and 0 are identical)",
            ),
            (
                json!({ "items": { "enum": ["a"] } }),
                json!(["a", "b"]),
                "items/enum",
                "must be equal to one of the allowed values",
            ),
            (
                json!({ "properties": { "y": { "type": "string" } } }),
                json!({ "y": 1 }),
                "properties/y/type",
                "must be string",
            ),
        ];
        for (schema, value, rule, reason) in said {
            let all = json!({ "type": "object", "properties": { "x": schema }, "required": ["x"] });
            let expected = Some((format!("#/properties/x/{rule}"), reason.to_owned()));
            assert_eq!(complaint(all, json!({ "x": value })), expected);
        }
    }

    #[test]
    fn what_is_missing_comes_before_what_is_wrong() {
        let schema = json!({
            "type": "object",
            "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
            "required": ["b"],
        });
        let missing = ("#/required".to_owned(), "must have required property 'b'".to_owned());
        assert_eq!(complaint(schema.clone(), json!({ "a": 1 })), Some(missing));
        assert_eq!(complaint(schema.clone(), json!({ "b": "x", "unknown": 1 })), None);
        let array = ("#/type".to_owned(), "must be object".to_owned());
        assert_eq!(complaint(schema, json!([1, 2])), Some(array));
    }

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_written() {
        let shape = Shape::new(&json!({ "properties": { "x": { "type": "integer" } } })).unwrap();
        let mut value = serde_json::from_str(r#"{"x":10.0}"#).unwrap();
        shape.check(&mut value).unwrap();
        assert_eq!(value, json!({ "x": 10 }));
    }

    #[test]
    fn any_branch_will_do() {
        let schema = json!({ "anyOf": [{ "type": "string", "maxLength": 1 }, { "type": "null" }] });
        assert_eq!(complaint(schema.clone(), json!(null)), None);
        assert_eq!(complaint(schema.clone(), json!("a")), None);
        let told = complaint(schema, json!("ab")).unwrap();
        assert_eq!(told.0, "#/anyOf/0/maxLength");
    }

    #[test]
    fn a_consequence_is_asked_for_where_its_condition_holds() {
        let schema = json!({
            "properties": { "a": { "type": ["string", "null"], "maxLength": 1 } },
            "if": { "properties": { "b": { "type": "null" } } },
            "then": { "properties": { "a": { "type": "string" } }, "required": ["a"] },
        });
        let told = |value: Value| complaint(schema.clone(), value).map(|(param, _)| param);
        assert_eq!(told(json!({})), Some("#/then/required".to_owned()));
        assert_eq!(told(json!({ "a": null, "b": null })), Some("#/then/properties/a/type".to_owned()));
        assert_eq!(told(json!({ "a": "long" })), Some("#/properties/a/maxLength".to_owned()));
        assert_eq!(told(json!({ "b": 1 })), None);
        assert_eq!(told(json!({ "a": "x" })), None);
    }

    #[test]
    fn a_rule_that_is_not_enforced_is_a_defect() {
        assert!(Shape::new(&json!({ "multipleOf": 2 })).is_err());
        assert!(Shape::new(&json!({ "$ref": "#/x" })).is_err());
        assert!(Shape::new(&json!({ "pattern": "(" })).is_err());
    }
}
