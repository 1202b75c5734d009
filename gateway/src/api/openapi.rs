//! The OpenAPI 3.1 document, made from the registry.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::caller::Credential;
use super::error::{
    AUTHENTICATION_FAILED, CREDENTIAL_REQUIRED, ErrorDef, INTERNAL_ERROR, INVALID_PARAM, RATE_LIMIT_EXCEEDED,
};
use super::registry::{Entry, Registry};
use crate::misskey::VERSION;

/// The document of a server at `origin`.
pub fn document(registry: &Registry, origin: &str) -> Value {
    let mut paths = Map::new();
    for entry in registry.entries() {
        let mut methods = Map::new();
        methods.insert("post".to_owned(), operation(entry, "post"));
        if entry.meta.get {
            methods.insert("get".to_owned(), operation(entry, "get"));
        }
        paths.insert(format!("/{}", entry.meta.path), Value::Object(methods));
    }
    let mut schemas = registry.schemas.clone();
    schemas.insert("Error".to_owned(), error_schema());
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Misskey API", "version": VERSION },
        "servers": [{ "url": format!("{origin}/api") }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "bearerAuth": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(entry: &Entry, method: &str) -> Value {
    let meta = &entry.meta;
    let mut operation = json!({
        "operationId": format!("{method}___{}", meta.path.replace('/', "___")),
        "summary": meta.path,
        "description": description(entry),
        "responses": responses(entry),
    });
    if let Some(tag) = meta.path.split('/').next() {
        operation["tags"] = json!([tag]);
    }
    if entry.credential != Credential::None {
        operation["security"] = json!([{ "bearerAuth": [] }]);
    }
    if method == "get" {
        operation["parameters"] = query_parameters(&entry.params);
    } else {
        let media_type = if meta.multipart { "multipart/form-data" } else { "application/json" };
        operation["requestBody"] = json!({
            "required": true,
            "content": { media_type: { "schema": entry.params } },
        });
    }
    operation
}

fn description(entry: &Entry) -> String {
    let mut told = entry.description.clone().unwrap_or_default();
    if !told.is_empty() {
        told += "\n\n";
    }
    told += match entry.credential {
        Credential::None => "**Credential required**: *No*",
        Credential::SignedIn => "**Credential required**: *Yes*",
        Credential::Moderator => "**Credential required**: *Yes*, of a moderator",
        Credential::Administrator => "**Credential required**: *Yes*, of an administrator",
    };
    if let Some(kind) = entry.meta.kind {
        told += &format!(" / **Permission**: *{kind}*");
    }
    if entry.meta.secure {
        told += " / closed to apps";
    }
    told
}

fn query_parameters(params: &Value) -> Value {
    let required = params["required"].as_array();
    let properties = params["properties"].as_object().into_iter().flatten();
    let parameters = properties.map(|(name, schema)| {
        let is_required = required.is_some_and(|names| names.iter().any(|n| n == name));
        json!({ "name": name, "in": "query", "required": is_required, "schema": schema })
    });
    parameters.collect()
}

fn responses(entry: &Entry) -> Value {
    let mut responses = Map::new();
    let (some, none) = outcomes(&entry.reply);
    if some {
        let content = json!({ "application/json": { "schema": entry.reply } });
        responses.insert("200".to_owned(), json!({ "description": "OK (with results)", "content": content }));
    }
    if none {
        responses.insert("204".to_owned(), json!({ "description": "OK (without any results)" }));
    }
    let mut by_status: BTreeMap<u16, Vec<ErrorDef>> = BTreeMap::new();
    for def in entry.meta.errors {
        by_status.entry(def.http_status().as_u16()).or_default().push(*def);
    }
    by_status.entry(400).or_default().push(INVALID_PARAM);
    by_status.entry(401).or_default().push(AUTHENTICATION_FAILED);
    by_status.entry(500).or_default().push(INTERNAL_ERROR);
    if entry.credential != Credential::None {
        by_status.entry(401).or_default().push(CREDENTIAL_REQUIRED);
    }
    if entry.meta.limit.is_some() {
        by_status.entry(429).or_default().push(RATE_LIMIT_EXCEEDED);
    }
    for (status, defs) in by_status {
        responses.insert(status.to_string(), error_response(status, &defs));
    }
    Value::Object(responses)
}

/// Whether the reply may be something, and whether it may be nothing.
fn outcomes(reply: &Value) -> (bool, bool) {
    let is_null = |schema: &Value| schema["type"] == "null";
    let nullable = |types: &Value| types.as_array().is_some_and(|types| types.iter().any(|t| t == "null"));
    let any_null = |key: &str| reply[key].as_array().is_some_and(|branches| branches.iter().any(is_null));
    let none = is_null(reply) || nullable(&reply["type"]) || any_null("anyOf") || any_null("oneOf");
    (!is_null(reply), none)
}

fn error_response(status: u16, defs: &[ErrorDef]) -> Value {
    let description = match status {
        401 => "Authentication error",
        403 => "Forbidden error",
        429 => "Too many requests",
        400..=499 => "Client error",
        _ => "Server error",
    };
    let mut examples = Map::new();
    for def in defs {
        let error = json!({ "message": def.message, "code": def.code, "id": def.id });
        examples.insert(def.code.to_owned(), json!({ "value": { "error": error } }));
    }
    let schema = json!({ "$ref": "#/components/schemas/Error" });
    let content = json!({ "application/json": { "schema": schema, "examples": examples } });
    json!({ "description": description, "content": content })
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "description": "An error object.",
                "properties": {
                    "code": { "type": "string", "description": "What happened, for programs." },
                    "message": { "type": "string", "description": "What happened, for people." },
                    "id": { "type": "string", "format": "uuid", "description": "Particular to the endpoint." },
                    "kind": { "type": "string", "enum": ["client", "permission", "server"] },
                    "info": { "type": "object", "description": "More about it." },
                },
                "required": ["code", "id", "message"],
            },
        },
        "required": ["error"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::misskey::registry;

    #[test]
    fn every_reference_leads_to_an_entity() {
        let document = document(registry(), "https://server.example");
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let place = reference.split('"').next().unwrap();
            assert!(document.pointer(place).is_some(), "{place} leads nowhere");
        }
    }
}
