//! What the server says of itself: `meta`, `endpoints`, `endpoint`, `ping`, `stats`,
//! `get-online-users-count`.

use domain::instance::{Instance, Policies, Settings};
use domain::note::MAX_TEXT_CHARS;
use projections::ad::AdRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{VERSION, registry};
use crate::api::param::yes;
use crate::api::{Anyone, ApiError, Endpoint, Meta};
use crate::app::App;
use crate::drive::incoming::MAX_FILE_BYTES;

/// How long answers to anonymous GETs may be kept, in seconds.
const META_SECONDS: u32 = 60;
/// The name of the account by which the server itself acts; no person can have it.
pub const OWN_ACCOUNT: &str = "system.proxy";
/// Settings that everybody is told under the same name.
const TOLD: &[&str] = &[
    "maintainerName",
    "maintainerEmail",
    "name",
    "shortName",
    "description",
    "langs",
    "tosUrl",
    "impressumUrl",
    "privacyPolicyUrl",
    "disableRegistration",
    "emailRequiredForSignup",
    "enableHcaptcha",
    "hcaptchaSiteKey",
    "enableMcaptcha",
    "mcaptchaSiteKey",
    "mcaptchaInstanceUrl",
    "enableRecaptcha",
    "recaptchaSiteKey",
    "enableTurnstile",
    "turnstileSiteKey",
    "themeColor",
    "bannerUrl",
    "infoImageUrl",
    "serverErrorImageUrl",
    "notFoundImageUrl",
    "iconUrl",
    "backgroundImageUrl",
    "logoImageUrl",
    "defaultLightTheme",
    "defaultDarkTheme",
    "clientOptions",
    "notesPerOneAd",
    "enableEmail",
    "enableServiceWorker",
    "serverRules",
    "federation",
];

/// What this server is and how it is set up.
#[derive(Deserialize, JsonSchema)]
pub struct Show {
    #[serde(default = "yes")]
    detail: bool,
}

impl Endpoint for Show {
    const META: Meta = Meta::new("meta").get().cache(META_SECONDS);
    type Caller = Anyone;
    type Reply = Map<String, Value>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Self::Reply, ApiError> {
        let instance = projections::instance::load(&app.pool).await?;
        let mut meta = basics(&instance, &app.config.url, &app.vapid.public);
        let ads = projections::ad::shown(&app.pool, app.now()).await?;
        meta.insert("ads".to_owned(), ads.iter().map(ad).collect());
        if self.detail {
            meta.extend(details(&instance, app.config.object_storage.is_some()));
        }
        Ok(meta)
    }
}

/// An advertisement as it is shown to everybody.
fn ad(row: &AdRow) -> Value {
    let AdRow { id, definition } = row;
    json!({
        "id": id, "url": definition.url, "place": definition.place, "ratio": definition.ratio,
        "imageUrl": definition.image_url, "dayOfWeek": definition.day_of_week,
        "isSensitive": definition.is_sensitive,
    })
}

fn basics(instance: &Instance, origin: &str, push_key: &str) -> Map<String, Value> {
    let settings = &instance.settings;
    let mut meta: Map<String, Value> =
        TOLD.iter().map(|name| ((*name).to_owned(), settings.get(name).clone())).collect();
    meta.extend(fields(json!({
        "version": VERSION,
        "uri": origin,
        "repositoryUrl": settings.text("repositoryUrl").unwrap_or(origin),
        "feedbackUrl": settings.text("feedbackUrl").unwrap_or(origin),
        "inquiryUrl": null,
        "enableTestcaptcha": false,
        "swPublickey": settings.flag("enableServiceWorker").then_some(push_key),
        "mascotImageUrl": settings.text("mascotImageUrl").map_or_else(
            || format!("{origin}/identicon/kiroku"),
            str::to_owned,
        ),
        "maxNoteTextLength": MAX_TEXT_CHARS,
        "translatorAvailable": false,
        "policies": instance.policies.all(),
        "sentryForFrontend": null,
        "mediaProxy": format!("{origin}/proxy"),
        "enableUrlPreview": settings.flag("urlPreviewEnabled"),
        "noteSearchableScope": "global",
        "maxFileSize": MAX_FILE_BYTES,
    })));
    meta
}

fn details(instance: &Instance, in_a_bucket: bool) -> Map<String, Value> {
    let settings = &instance.settings;
    fields(json!({
        "cacheRemoteFiles": settings.flag("cacheRemoteFiles"),
        "cacheRemoteSensitiveFiles": settings.flag("cacheRemoteSensitiveFiles"),
        "requireSetup": instance.root.is_none(),
        "proxyAccountName": OWN_ACCOUNT,
        "features": features(settings, &instance.policies, in_a_bucket),
    }))
}

fn features(settings: &Settings, policies: &Policies, in_a_bucket: bool) -> Value {
    json!({
        "localTimeline": policies.allows("ltlAvailable"),
        "globalTimeline": policies.allows("gtlAvailable"),
        "registration": !settings.registration_is_closed(),
        "emailRequiredForSignup": settings.flag("emailRequiredForSignup"),
        "hCaptcha": settings.flag("enableHcaptcha"),
        "hcaptcha": settings.flag("enableHcaptcha"),
        "mCaptcha": settings.flag("enableMcaptcha"),
        "mcaptcha": settings.flag("enableMcaptcha"),
        "reCaptcha": settings.flag("enableRecaptcha"),
        "recaptcha": settings.flag("enableRecaptcha"),
        "turnstile": settings.flag("enableTurnstile"),
        "objectStorage": in_a_bucket,
        "serviceWorker": settings.flag("enableServiceWorker"),
        "miauth": true,
    })
}

/// The fields of an object.
pub(super) fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The endpoints that there are: clients read from it what the server can do.
#[derive(Deserialize, JsonSchema)]
pub struct Endpoints {}

impl Endpoint for Endpoints {
    const META: Meta = Meta::new("endpoints");
    type Caller = Anyone;
    type Reply = Vec<&'static str>;

    async fn handle(self, _: &App, _: Anyone) -> Result<Self::Reply, ApiError> {
        Ok(registry().paths().collect())
    }
}

/// The parameters of one endpoint.
#[derive(Deserialize, JsonSchema)]
pub struct ShowEndpoint {
    endpoint: String,
}

/// One endpoint.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct EndpointInfo {
    params: Vec<Param>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Param {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Endpoint for ShowEndpoint {
    const META: Meta = Meta::new("endpoint");
    type Caller = Anyone;
    type Reply = Option<EndpointInfo>;

    async fn handle(self, _: &App, _: Anyone) -> Result<Self::Reply, ApiError> {
        let Some(entry) = registry().find(&self.endpoint) else { return Ok(None) };
        let params = entry.shape.properties().map(|(name, types)| {
            let kind = types.iter().map(|t| t.name()).find(|name| *name != "null").unwrap_or("string");
            Param { name: name.to_owned(), kind: capitalized(kind) }
        });
        Ok(Some(EndpointInfo { params: params.collect() }))
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

/// Whether the server is there.
#[derive(Deserialize, JsonSchema)]
pub struct Ping {}

/// The server is there.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Pong {
    /// Milliseconds since 1970.
    pong: i64,
}

impl Endpoint for Ping {
    const META: Meta = Meta::new("ping");
    type Caller = Anyone;
    type Reply = Pong;

    async fn handle(self, app: &App, _: Anyone) -> Result<Pong, ApiError> {
        Ok(Pong { pong: app.now().timestamp_millis() })
    }
}

/// How much there is.
#[derive(Deserialize, JsonSchema)]
pub struct Stats {}

/// How much there is on this server; `original…` is what was made here.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct StatsReply {
    notes_count: i64,
    original_notes_count: i64,
    users_count: i64,
    original_users_count: i64,
    /// Not counted, as on Misskey.
    reactions_count: i64,
    instances: i64,
    drive_usage_local: i64,
    drive_usage_remote: i64,
}

impl Endpoint for Stats {
    const META: Meta = Meta::new("stats").get().cache(META_SECONDS);
    type Caller = Anyone;
    type Reply = StatsReply;

    async fn handle(self, app: &App, _: Anyone) -> Result<StatsReply, ApiError> {
        let stats = projections::user::stats(&app.pool).await?;
        Ok(StatsReply {
            notes_count: stats.notes,
            original_notes_count: stats.original_notes,
            users_count: stats.users,
            original_users_count: stats.original_users,
            reactions_count: 0,
            instances: stats.instances,
            drive_usage_local: 0,
            drive_usage_remote: 0,
        })
    }
}

/// How many people are here now.
#[derive(Deserialize, JsonSchema)]
pub struct OnlineUsers {}

/// How many people are here now.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct OnlineUsersReply {
    count: usize,
}

impl Endpoint for OnlineUsers {
    const META: Meta = Meta::new("get-online-users-count").get().cache(META_SECONDS);
    type Caller = Anyone;
    type Reply = OnlineUsersReply;

    async fn handle(self, app: &App, _: Anyone) -> Result<OnlineUsersReply, ApiError> {
        Ok(OnlineUsersReply { count: app.presence.online(app.now()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::instance::SETTINGS;

    #[test]
    fn only_settings_are_told() {
        for name in TOLD {
            assert!(SETTINGS.iter().any(|(known, ..)| known == name), "{name}");
        }
    }

    #[test]
    fn a_server_without_a_first_account_asks_to_be_set_up() {
        assert_eq!(details(&Instance::default(), false)["requireSetup"], true);
        let meta = basics(&Instance::default(), "https://a.example", "key");
        assert_eq!((&meta["uri"], &meta["name"]), (&json!("https://a.example"), &Value::Null));
        assert!(meta["version"].as_str().unwrap().starts_with("2025.11.1-kiroku."));
    }

    #[test]
    fn types_are_written_as_misskey_does() {
        assert_eq!(capitalized("boolean"), "Boolean");
        assert_eq!(capitalized(""), "");
    }
}
