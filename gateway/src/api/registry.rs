//! All endpoints, from one list: `endpoints![notes::Create, notes::Delete, …]`, sorted by path. Routes,
//! limits, permissions, the document and the list of endpoints come from it.

use futures_util::future::BoxFuture;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};

use super::caller::{Caller, Credential, SignedIn};
use super::endpoint::{Endpoint, Meta};
use super::error::{ApiError, COMMON};
use super::shape::Shape;
use crate::app::App;

/// Builds the [`Registry`] of the endpoints named, in the order of their paths.
#[macro_export]
macro_rules! endpoints {
    ($($endpoint:ty),* $(,)?) => {{
        let mut building = $crate::api::registry::Building::default();
        $(building.add::<$endpoint>();)*
        building.done()
    }};
}

/// The endpoints, sorted by path.
#[derive(Debug)]
pub struct Registry {
    entries: Vec<Entry>,
    /// The named entities of the replies, by name.
    pub schemas: Map<String, Value>,
    /// What is wrong with the endpoints; a test says that it is empty.
    pub defects: Vec<String>,
}

/// One endpoint without its types.
#[derive(Debug)]
pub struct Entry {
    pub meta: Meta,
    pub credential: Credential,
    pub shape: Shape,
    /// The schema of the parameters, without references.
    pub params: Value,
    /// The schema of the reply, with references to [`Registry::schemas`].
    pub reply: Value,
    pub description: Option<String>,
    run: Run,
}

/// Runs an endpoint for an admitted caller; the outcome is the JSON of the reply.
type Run = for<'a> fn(&'a App, Option<SignedIn>, Value) -> BoxFuture<'a, Result<Vec<u8>, ApiError>>;

impl Registry {
    /// The endpoint with this path.
    pub fn find(&self, path: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.meta.path.cmp(path)).ok()?;
        self.entries.get(at)
    }

    /// All endpoints, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.entries.iter().map(|entry| entry.meta.path)
    }
}

impl Entry {
    /// Parses the parameters (already checked against the shape) and runs the endpoint.
    pub async fn run(&self, app: &App, caller: Option<SignedIn>, params: Value) -> Result<Vec<u8>, ApiError> {
        let outcome = (self.run)(app, caller, params).await;
        if let Err(ApiError::Refused { def, .. }) = &outcome {
            let listed = self.meta.errors.contains(def) || COMMON.contains(def);
            debug_assert!(
                listed,
                "{} gives {} {}, which isn't in its META",
                self.meta.path, def.code, def.id
            );
        }
        outcome
    }
}

/// A registry being made.
pub struct Building {
    entries: Vec<Entry>,
    requests: SchemaGenerator,
    replies: SchemaGenerator,
    defects: Vec<String>,
}

impl Default for Building {
    fn default() -> Self {
        // Requests are written out in place: two structs called `Create` would collide.
        let requests = SchemaSettings::draft2020_12().for_deserialize().with(|settings| {
            settings.inline_subschemas = true;
        });
        let replies = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
        });
        Self {
            entries: Vec::new(),
            requests: requests.into_generator(),
            replies: replies.into_generator(),
            defects: Vec::new(),
        }
    }
}

impl Building {
    pub fn add<E: Endpoint>(&mut self) {
        let meta = E::META;
        if self.entries.last().is_some_and(|last| last.meta.path >= meta.path) {
            self.defects.push(format!("{}: out of order, or twice", meta.path));
        }
        let mut params = plain(E::json_schema(&mut self.requests));
        let description = match params.as_object_mut().and_then(|schema| schema.remove("description")) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let shape = Shape::new(&params).unwrap_or_else(|defect| {
            self.defects.push(format!("{}: {defect}", meta.path));
            Shape::default()
        });
        let reply = plain(self.replies.subschema_for::<E::Reply>());
        let credential = E::Caller::CREDENTIAL;
        self.entries.push(Entry { meta, credential, shape, params, reply, description, run: run::<E> });
    }

    pub fn done(mut self) -> Registry {
        let schemas = self.replies.take_definitions(true);
        let schemas: Map<_, _> = schemas.into_iter().map(|(name, schema)| (name, tidy(schema))).collect();
        // Only entities have names; a reply of one endpoint is `#[schemars(inline)]`.
        let twice = schemas.keys().filter(|name| {
            let first = name.trim_end_matches(|c: char| c.is_ascii_digit());
            first != name.as_str() && schemas.contains_key(first)
        });
        self.defects.extend(twice.map(|name| format!("{name}: the name of two entities")));
        self.entries.sort_by_key(|entry| entry.meta.path);
        Registry { entries: self.entries, schemas, defects: self.defects }
    }
}

fn run<E: Endpoint>(
    app: &App,
    caller: Option<SignedIn>,
    params: Value,
) -> BoxFuture<'_, Result<Vec<u8>, ApiError>> {
    Box::pin(async move {
        let endpoint: E = serde_path_to_error::deserialize(params).map_err(|error| unfit(&error))?;
        let me = E::Caller::new(caller)?;
        let reply = endpoint.handle(app, me).await?;
        serde_json::to_vec(&reply).map_err(ApiError::internal)
    })
}

/// A value that keeps the rules of its schema and still isn't what its type needs.
fn unfit(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    use serde_path_to_error::Segment;
    let mut param = "#".to_owned();
    for segment in error.path() {
        match segment {
            Segment::Map { key } => param += &format!("/properties/{key}"),
            Segment::Seq { .. } => param += "/items",
            Segment::Enum { .. } | Segment::Unknown => (),
        }
    }
    ApiError::invalid_param(param, error.inner().to_string())
}

fn plain(schema: Schema) -> Value {
    tidy(schema.to_value())
}

/// Drops what only a Rust reader needs: names of types and sizes of integers.
fn tidy(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(keywords) => {
            keywords.remove("$schema");
            keywords.retain(|keyword, value| keyword != "title" || !value.is_string());
            if keywords.get("format").is_some_and(is_size) {
                keywords.remove("format");
            }
            for value in keywords.values_mut() {
                *value = tidy(value.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = tidy(item.take());
            }
        }
        _ => (),
    }
    schema
}

fn is_size(format: &Value) -> bool {
    let sizes = ["int8", "int16", "int32", "int64", "int", "uint8", "uint16", "uint32", "uint64", "uint"];
    format.as_str().is_some_and(|format| sizes.contains(&format) || ["float", "double"].contains(&format))
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::api::caller::{Anyone, SignedIn};
    use crate::api::openapi;
    use crate::api::param::{Limit, NoteId, Page, Text, Unique, UserId};
    use crate::api::shape::Type;

    /// A thing.
    #[derive(Serialize, JsonSchema)]
    struct Thing {
        id: UserId,
        parent: Option<Box<Thing>>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Sort {
        Old,
        New,
    }

    /// Lists things.
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase")]
    struct List {
        owner_id: UserId,
        #[serde(default)]
        limit: Limit<50>,
        #[serde(flatten)]
        page: Page,
        sort: Option<Sort>,
        label: Option<Text<1, 3>>,
        note_ids: Option<Unique<NoteId, 1, 2>>,
    }

    impl Endpoint for List {
        const META: Meta = Meta::new("things/list").get().cache(60).kind("read:account");
        type Caller = Anyone;
        type Reply = Vec<Thing>;

        async fn handle(self, _: &App, me: Anyone) -> Result<Vec<Thing>, ApiError> {
            let known = me.id().is_some() && self.page.oldest_first && self.limit.get() == 1;
            let given = self.sort.is_some() && self.label.is_some() && self.note_ids.is_some();
            Ok(if known && given { vec![Thing { id: self.owner_id, parent: None }] } else { Vec::new() })
        }
    }

    #[derive(Deserialize, JsonSchema)]
    struct Touch {}

    impl Endpoint for Touch {
        const META: Meta = Meta::new("things/touch").limit(1, 1);
        type Caller = SignedIn;
        type Reply = ();

        async fn handle(self, _: &App, _: SignedIn) -> Result<(), ApiError> {
            Ok(())
        }
    }

    fn registry() -> Registry {
        crate::endpoints![List, Touch]
    }

    #[test]
    fn every_endpoint_keeps_the_rules_of_the_house() {
        use crate::api::permission;
        for entry in crate::misskey::registry().entries() {
            let path = entry.meta.path;
            assert!(entry.description.is_some(), "{path} doesn't say what it does");
            assert!(
                entry.meta.kind.is_none_or(|kind| permission::KINDS.contains(&kind)),
                "{path}: unknown kind"
            );
            let mut ids: Vec<&str> = entry.meta.errors.iter().map(|def| def.id).collect();
            ids.sort_unstable();
            assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{path} has two errors with one id");
            for id in ids {
                // Some of Misskey's are misspelt, and clients know them so.
                let known = id.contains("-9a8g-");
                assert!(
                    known || uuid::Uuid::parse_str(id.trim_start()).is_ok(),
                    "{path}: {id} is not a UUID"
                );
            }
            let window = entry.meta.limit.and_then(|limit| limit.window);
            let bound = crate::api::rate::MAX_PER_WINDOW;
            assert!(window.is_none_or(|(calls, _)| calls <= bound), "{path}: a limit that isn't remembered");
        }
    }

    #[tokio::test]
    async fn every_endpoint_refuses_a_caller_below_its_credential() {
        use crate::api::admit::tests::{core, person};
        use crate::api::error::{CREDENTIAL_REQUIRED, NOT_ADMINISTRATOR, NOT_MODERATOR};
        use crate::api::error::{POLICY_DENIED, SECURE_ONLY};
        let client = std::net::Ipv4Addr::LOCALHOST.into();
        for entry in crate::misskey::registry().entries() {
            let (meta, credential, path) = (&entry.meta, entry.credential, entry.meta.path);
            let refused = async |caller: Option<&SignedIn>| {
                core().admit(meta, credential, caller, client).await.err().map(|error| error.def())
            };
            let by_policy = meta.policy.map(|_| POLICY_DENIED);
            let nobody = match credential {
                _ if meta.secure => Some(SECURE_ONLY),
                Credential::None => by_policy,
                _ => Some(CREDENTIAL_REQUIRED),
            };
            assert_eq!(refused(None).await, nobody, "{path}, anonymously");
            let plain = match credential {
                Credential::Moderator => Some(NOT_MODERATOR),
                Credential::Administrator => Some(NOT_ADMINISTRATOR),
                _ => by_policy,
            };
            assert_eq!(refused(Some(&person(|_| ()))).await, plain, "{path}, without a role");
            let moderator = match credential {
                Credential::Administrator => Some(NOT_ADMINISTRATOR),
                _ => by_policy,
            };
            let caller = person(|a| a.is_moderator = true);
            assert_eq!(refused(Some(&caller)).await, moderator, "{path}, as a moderator");
        }
    }

    #[test]
    fn endpoints_are_found_by_their_path() {
        let registry = registry();
        assert_eq!(registry.defects, Vec::<String>::new());
        assert_eq!(registry.paths().collect::<Vec<_>>(), ["things/list", "things/touch"]);
        assert!(registry.find("things/touch").is_some_and(|e| e.credential == Credential::SignedIn));
        assert!(registry.find("things/touch/").is_none());
        let twice = crate::endpoints![Touch, List, List];
        assert_eq!(twice.defects.len(), 2);
    }

    #[test]
    fn parameters_are_checked_by_their_schema() {
        let registry = registry();
        let list = registry.find("things/list").unwrap();
        let complaint = |mut params: Value| list.shape.check(&mut params).err().map(|b| b.param);
        let told = |text: &str| Some(text.to_owned());
        assert_eq!(complaint(json!({})), told("#/required"));
        assert_eq!(complaint(json!({ "ownerId": "no id!" })), told("#/properties/ownerId/format"));
        assert_eq!(complaint(json!({ "ownerId": "a", "limit": 51 })), told("#/properties/limit/maximum"));
        assert_eq!(complaint(json!({ "ownerId": "a", "sort": "odd" })), told("#/properties/sort/enum"));
        assert_eq!(complaint(json!({ "ownerId": "a", "sinceId": 5 })), told("#/properties/sinceId/type"));
        assert_eq!(complaint(json!({ "ownerId": "a", "label": "" })), told("#/properties/label/minLength"));
        let ids = complaint(json!({ "ownerId": "a", "noteIds": ["a", "b!"] }));
        assert_eq!(ids, told("#/properties/noteIds/items/format"));
        let all = json!({ "ownerId": "a", "limit": 1, "sinceDate": 5, "sort": "old", "label": "x", "noteIds": ["a"] });
        assert_eq!(complaint(all), None);
        assert!(list.shape.properties().any(|(name, types)| name == "limit" && types == [Type::Integer]));
    }

    #[test]
    fn the_document_names_entities_and_inlines_requests() {
        let document = openapi::document(&registry(), "http://local");
        let path = &document["paths"]["/things/list"];
        let ok = &path["post"]["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(ok["items"]["$ref"], "#/components/schemas/Thing");
        assert!(document["components"]["schemas"]["Thing"]["properties"]["id"].is_object());
        let body = &path["post"]["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(body["properties"]["ownerId"], json!({ "type": "string", "format": "misskey:id" }));
        assert!(path["get"]["parameters"].as_array().is_some_and(|list| list.len() == 9));
        let touch = &document["paths"]["/things/touch"]["post"];
        assert!(touch["responses"]["200"].is_null() && touch["responses"]["204"].is_object());
        assert!(touch["responses"]["429"].is_object());
        assert!(path["post"]["description"].as_str().is_some_and(|text| text.starts_with("Lists things.")));
    }
}
