//! Configuration: every setting, where its value came from, and the one place that reads the environment.
//!
//! A flag wins over the environment, the environment over the TOML file, the file over the default.
//! [`KEYS`] is the list of settings; flags, variables and file keys all derive from it. A name that
//! looks like ours and is not in the list is an error, never ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use commands::log::MasterKey;
use ipnet::IpNet;
use object_store::path::Path as ObjectPath;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use tracing_subscriber::EnvFilter;

use crate::platform::memory::{self, MIB};

/// Everything an operator can decide before the start. What can change later is an event, not a setting.
#[derive(Debug, Clone)]
pub struct Config {
    /// The public origin, such as `https://social.example`: no path, no trailing slash.
    pub url: String,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Holds the lock, the embedded PostgreSQL and the master key.
    pub data_dir: PathBuf,
    /// A PostgreSQL of the operator's. Absent: Kiroku runs its own under `data_dir`.
    pub database_url: Option<Secret>,
    /// The largest number of database connections of this process.
    pub database_connections: u32,
    /// Which adapter keeps the event log.
    pub log: LogKind,
    /// The server or cluster that keeps the log, when it is EventStoreDB.
    pub eventstore_url: Option<Secret>,
    /// What sets the log apart from whatever else the server keeps.
    pub eventstore_namespace: String,
    /// A bucket for people's files. Absent: they are kept under `data_dir`.
    pub object_storage: Option<ObjectStorage>,
    /// What this process does.
    pub roles: Roles,
    /// Where processes talk to each other, and where the feed goes. Absent: they talk over PostgreSQL.
    pub nats_url: Option<Secret>,
    /// What the feed tells.
    pub nats_feed: FeedScope,
    pub log_format: LogFormat,
    /// What is logged, in the notation of `tracing_subscriber::EnvFilter`.
    pub log_filter: String,
    /// Where Prometheus metrics are served. Absent: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Proxies whose `X-Forwarded-For` is believed. Empty: nobody's.
    pub trusted_proxies: Vec<IpNet>,
    /// Private networks that pictures, files and pages may be fetched from all the same.
    pub allowed_private_networks: Vec<IpNet>,
    /// Wraps the keys that seal personal data. Absent: one is made and kept in `data_dir`.
    pub master_key: Option<MasterKey>,
    /// The software name in NodeInfo; several clients only know `misskey`.
    pub software_name: String,
    /// `/readyz` says no when a projector is more than this many events behind the log.
    pub ready_max_lag_events: u64,
    /// The most memory for what pages show, in MiB.
    pub page_memory: usize,
    /// The directories of `PATH`: where programs are looked for.
    pub search_path: Vec<PathBuf>,
}

/// A bucket in a store of objects that speaks the protocol of S3.
#[derive(Debug, Clone)]
pub struct ObjectStorage {
    /// The address of the store, without a slash at its end.
    pub endpoint: String,
    pub bucket: String,
    pub addressing: Addressing,
    pub region: String,
    /// What the names of all objects begin with; may be empty.
    pub prefix: ObjectPath,
    pub access_key: Secret,
    pub secret_key: Secret,
}

/// Where the name of a bucket stands in its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    Path,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    Postgres,
    EventStore,
    /// Forgets everything on exit: for tests and trials.
    Memory,
}

impl LogKind {
    /// As it is written in the setting.
    pub fn word(self) -> &'static str {
        match self {
            LogKind::Postgres => "postgres",
            LogKind::EventStore => "eventstore",
            LogKind::Memory => "memory",
        }
    }
}

/// What a process does; every process also answers health checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles {
    /// The HTTP API, the pages and what other programs look for at fixed places.
    pub api: bool,
    /// `/streaming`.
    pub stream: bool,
    /// The read tables are written here while no other process does it.
    pub projector: bool,
    /// What other servers ask for.
    pub federation: bool,
}

impl Roles {
    pub const ALL: Roles = Roles { api: true, stream: true, projector: true, federation: true };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedScope {
    /// What anybody may see without an account.
    Public,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// A value that is never printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// One setting, under its name in the TOML file. Its flag is `--key-name`, its variable `KIROKU_KEY_NAME`.
pub struct Key {
    pub name: &'static str,
    pub default: Option<&'static str>,
    /// Never shown, never a flag (other users see those), and also read from a file named by
    /// `--key-name-file`, `KIROKU_KEY_NAME_FILE` or `key_name_file`.
    pub secret: bool,
    pub help: &'static str,
}

pub const KEYS: [Key; 27] = [
    key("url", None, "Public address; for good once something is written [default: http://LISTEN]"),
    key("listen", Some("127.0.0.1:3000"), "Address and port to serve HTTP on"),
    key("data_dir", Some("data"), "Directory for everything Kiroku keeps on disk"),
    secret("database_url", "PostgreSQL to use [default: an embedded one in the data directory]"),
    key("database_connections", Some("20"), "Largest number of database connections, 4 to 500"),
    key(
        "log",
        Some("postgres"),
        "Where the event log is kept: postgres, eventstore, or memory (forgotten on exit)",
    ),
    secret("eventstore_url", "EventStoreDB to use: esdb://host:port, or a list of hosts by comma"),
    key("eventstore_namespace", Some("kiroku"), "What the names of streams there begin with; for good"),
    key("object_storage_endpoint", None, "S3 to keep files in: https://HOST [default: the data directory]"),
    key("object_storage_bucket", None, "The bucket of files there"),
    key(
        "object_storage_addressing",
        Some("path"),
        "Where the name of the bucket stands in addresses: path, or host (of some stores)",
    ),
    key("object_storage_region", Some("us-east-1"), "The region of the bucket"),
    key("object_storage_prefix", Some(""), "What the names of files in the bucket begin with; for good"),
    secret("object_storage_access_key", "The name of the key to the bucket"),
    secret("object_storage_secret_key", "The key to the bucket"),
    key(
        "roles",
        Some("api,stream,projector,federation"),
        "What this process does, by comma; those that share a database need the same master_key",
    ),
    secret("nats_url", "NATS to use between processes: nats://host:port, or several by comma"),
    key("nats_feed", Some("public"), "What the feed on NATS tells: public facts, or all"),
    key("log_format", Some("text"), "Format of log lines: text or json"),
    key("log_filter", Some("info,sqlx=warn"), "What is logged, such as info,gateway=debug"),
    key("metrics_listen", None, "Address and port to serve Prometheus metrics on [default: nowhere]"),
    key("trusted_proxies", Some(""), "Proxies to believe about client addresses: networks, by comma"),
    key(
        "allowed_private_networks",
        Some(""),
        "Private networks that may be fetched from all the same: by comma",
    ),
    secret("master_key", "32 bytes in hex or base64 [default: made and kept in the data directory]"),
    key("software_name", Some("misskey"), "Software name in NodeInfo"),
    key("ready_max_lag_events", Some("10000"), "Events a projector may lag before /readyz says no"),
    key(
        "page_memory",
        None,
        "The most memory to keep what pages show in, in MiB [default: an eighth of what there is]",
    ),
];

/// What the process was given, before it is understood.
#[derive(Debug, Default, Clone)]
pub struct Given {
    /// By flag name without the dashes: `data-dir`, `master-key-file`.
    pub flags: BTreeMap<String, String>,
    /// The environment, all of it.
    pub environment: BTreeMap<String, String>,
    /// The value of `--config`.
    pub file: Option<PathBuf>,
}

/// The configuration, and the origin of each value in the order of [`KEYS`].
pub struct Loaded {
    pub config: Config,
    pub settings: Vec<Setting>,
}

/// One line of `kiroku config print`.
pub struct Setting {
    pub name: &'static str,
    /// TOML, or absent when the setting has no value.
    pub shown: Option<String>,
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Flag(String),
    Environment(String),
    File(PathBuf),
    Default,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{place}: no setting is called `{name}`{}", did_you_mean(.suggestion))]
    Unknown { place: String, name: String, suggestion: Option<String> },
    #[error("{name} ({origin}): {reason}")]
    Invalid { name: &'static str, origin: Origin, reason: String },
    #[error("{name}: given twice ({first} and {second})")]
    Twice { name: &'static str, first: Origin, second: Origin },
    #[error("{path}: {source}", path = .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path}, line {line}: {reason}", path = .path.display())]
    NotToml { path: PathBuf, line: usize, reason: String },
}

/// Reads the file and the secrets' files, and checks every value.
pub fn load(given: &Given) -> Result<Loaded, ConfigError> {
    let values = Values(gather(given)?);

    let listen: SocketAddr = values.required("listen", address)?;
    let url = match values.optional("url", origin_of_url)? {
        Some(url) => url,
        None if listen.port() == 0 => {
            let reason = "is needed when the port in `listen` is 0".to_owned();
            return Err(ConfigError::Invalid { name: "url", origin: Origin::Default, reason });
        }
        None => format!("http://{listen}"),
    };
    let log = values.required("log", log_kind)?;
    let eventstore_url = values.optional("eventstore_url", eventstore_url)?.map(Secret);
    if log == LogKind::EventStore && eventstore_url.is_none() {
        let reason = "is needed when `log` is eventstore".to_owned();
        return Err(ConfigError::Invalid { name: "eventstore_url", origin: Origin::Default, reason });
    }
    let search_path = given.environment.get("PATH").map(|path| std::env::split_paths(path).collect());
    let config = Config {
        listen,
        data_dir: values.required("data_dir", |text| not_empty(text).map(PathBuf::from))?,
        database_url: values.optional("database_url", postgres_url)?.map(Secret),
        database_connections: values.required("database_connections", |text| {
            whole_number(text, MIN_CONNECTIONS, MAX_CONNECTIONS).map(|n| n as u32)
        })?,
        log,
        eventstore_url,
        eventstore_namespace: values.required("eventstore_namespace", eventstore_namespace)?,
        object_storage: object_storage(&values)?,
        roles: values.required("roles", roles)?,
        nats_url: values.optional("nats_url", nats_url)?.map(Secret),
        nats_feed: values.required("nats_feed", feed_scope)?,
        log_format: values.required("log_format", log_format)?,
        log_filter: values.required("log_filter", log_filter)?,
        metrics_listen: values.optional("metrics_listen", address)?,
        trusted_proxies: values.required("trusted_proxies", networks)?,
        allowed_private_networks: values.required("allowed_private_networks", networks)?,
        master_key: values.optional("master_key", master_key)?,
        software_name: values.required("software_name", software_name)?,
        ready_max_lag_events: values
            .required("ready_max_lag_events", |text| whole_number(text, 1, MAX_LAG_EVENTS))?,
        page_memory: values
            .optional("page_memory", |text| whole_number(text, MIN_PAGE_MEMORY, MAX_PAGE_MEMORY))?
            .unwrap_or_else(|| part_for_pages(memory::allowed())) as usize,
        search_path: search_path.unwrap_or_default(),
        url,
    };
    Ok(Loaded { settings: values.described(&config), config })
}

/// All of it or nothing: with a part of it, files would be kept where nobody meant them to be.
fn object_storage(values: &Values) -> Result<Option<ObjectStorage>, ConfigError> {
    let text = |text: &str| not_empty(text).map(str::to_owned);
    let Some(endpoint) = values.optional("object_storage_endpoint", endpoint)? else {
        let others = ["object_storage_bucket", "object_storage_access_key", "object_storage_secret_key"];
        return match others.into_iter().find(|name| values.0.contains_key(name)) {
            None => Ok(None),
            Some(other) => Err(ConfigError::Invalid {
                name: "object_storage_endpoint",
                origin: Origin::Default,
                reason: format!("is needed when `{other}` is set"),
            }),
        };
    };
    Ok(Some(ObjectStorage {
        endpoint,
        bucket: values.required("object_storage_bucket", bucket)?,
        addressing: values.required("object_storage_addressing", addressing)?,
        region: values.required("object_storage_region", text)?,
        prefix: values.required("object_storage_prefix", object_prefix)?,
        access_key: Secret(values.required("object_storage_access_key", text)?),
        secret_key: Secret(values.required("object_storage_secret_key", text)?),
    }))
}

impl Config {
    /// Host and port of `url`, as in `@name@host`.
    pub fn host(&self) -> &str {
        host_of(&self.url)
    }
}

/// Host and port of an origin such as `https://social.example`.
pub fn host_of(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, host)| host)
}

impl Given {
    /// The environment of this process. The rest is left for the caller to fill in.
    pub fn from_process() -> Self {
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Given { environment, ..Given::default() }
    }
}

impl Key {
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.to_uppercase())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) => write!(f, "flag --{name}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

impl Loaded {
    /// Each setting with its value and its origin.
    pub fn json(&self) -> Value {
        let told = |Setting { name, shown, origin }: &Setting| {
            // What TOML writes is JSON as well, but for what has no value.
            let value = shown.as_deref().and_then(|shown| serde_json::from_str::<Value>(shown).ok());
            let origin = shown.as_ref().map(|_| origin.to_string());
            ((*name).to_owned(), json!({ "value": value, "origin": origin }))
        };
        Value::Object(self.settings.iter().map(told).collect())
    }
}

impl fmt::Display for Loaded {
    /// One `key = value # origin` a line: TOML again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Setting { name, shown, origin } in &self.settings {
            match shown {
                Some(value) => writeln!(f, "{name} = {value} # {origin}")?,
                None => writeln!(f, "# {name} is not set")?,
            }
        }
        Ok(())
    }
}

const VARIABLE_PREFIX: &str = "KIROKU_";
const CONFIG_VARIABLE: &str = "KIROKU_CONFIG";
/// Variables of the test command, which a tested `kiroku` inherits.
const TEST_PREFIX: &str = "KIROKU_TEST_";
const DEFAULT_FILE: &str = "kiroku.toml";
const REDACTED: &str = "\"[redacted]\"";
/// The longest name of a bucket, and of what comes before those of objects, in bytes.
const MAX_BUCKET_BYTES: usize = 255;
const MAX_PREFIX_BYTES: usize = 512;
/// The longest namespace in EventStoreDB.
const MAX_NAMESPACE_BYTES: usize = 64;
const MIN_CONNECTIONS: u64 = 4;
const MAX_CONNECTIONS: u64 = 500;
const MAX_LAG_EVENTS: u64 = 1_000_000_000;
/// MiB.
const MIN_PAGE_MEMORY: u64 = 8;
const MAX_PAGE_MEMORY: u64 = 1 << 20;
/// What pages may take where nobody says, of the memory that there is, and its bounds in MiB.
const PART_FOR_PAGES: u64 = 8;
const LEAST_FOR_PAGES: u64 = 64;
const MOST_FOR_PAGES: u64 = 4_096;
const MAX_PROXIES: usize = 64;
/// Names less alike than this (Jaro-Winkler, 0 to 1) are not suggested.
const ALIKE: f64 = 0.8;
/// A secret's file larger than this is not a secret's file.
const MAX_SECRET_BYTES: usize = 4096;

const fn key(name: &'static str, default: Option<&'static str>, help: &'static str) -> Key {
    Key { name, default, secret: false, help }
}

const fn secret(name: &'static str, help: &'static str) -> Key {
    Key { name, default: None, secret: true, help }
}

type Raw = BTreeMap<&'static str, (String, Origin)>;

struct Values(Raw);

impl Values {
    fn optional<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((text, origin)) = self.0.get(name) else { return Ok(None) };
        let parsed = parse(text.trim());
        parsed.map(Some).map_err(|reason| ConfigError::Invalid { name, origin: origin.clone(), reason })
    }

    fn required<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional(name, parse)?.ok_or_else(|| ConfigError::Invalid {
            name,
            origin: Origin::Default,
            reason: "is needed".to_owned(),
        })
    }

    fn described(self, config: &Config) -> Vec<Setting> {
        let describe = |key: &Key| {
            let (text, origin) = match self.0.get(key.name) {
                Some((text, origin)) => (Some(text.clone()), origin.clone()),
                None if key.name == "url" => (Some(config.url.clone()), Origin::Default),
                None => (None, Origin::Default),
            };
            let shown = text.map(|text| if key.secret { REDACTED.to_owned() } else { in_toml(&text) });
            Setting { name: key.name, shown, origin }
        };
        KEYS.iter().map(describe).collect()
    }
}

/// The winning text of each setting, and the refusal of every name we don't know.
fn gather(given: &Given) -> Result<Raw, ConfigError> {
    let file = read_file(given)?;
    refuse_unknown_variables(&given.environment)?;
    let mut raw = Raw::new();
    for key in &KEYS {
        let flag = key.flag();
        let variable = key.variable();
        let in_flags = |name: String| {
            let value = given.flags.get(&name).cloned();
            value.map(|value| (value, Origin::Flag(name)))
        };
        // A variable that is set to nothing counts as not set: compose files do that.
        let in_environment = |name: String| {
            let value = given.environment.get(&name).filter(|value| !value.is_empty()).cloned();
            value.map(|value| (value, Origin::Environment(name)))
        };
        let in_file = |name: String| file.get(&name).cloned();
        let layers = [
            (in_flags(flag.clone()), in_flags(format!("{flag}-file"))),
            (in_environment(variable.clone()), in_environment(format!("{variable}_FILE"))),
            (in_file(key.name.to_owned()), in_file(format!("{}_file", key.name))),
        ];
        for layer in layers {
            let found = match layer {
                (None, None) => continue,
                (Some((_, first)), Some((_, second))) => {
                    return Err(ConfigError::Twice { name: key.name, first, second });
                }
                (Some(found), None) => found,
                (None, Some((path, origin))) => (read_secret(Path::new(path.trim()))?, origin),
            };
            raw.insert(key.name, found);
            break;
        }
        if let (false, Some(default)) = (raw.contains_key(key.name), key.default) {
            raw.insert(key.name, (default.to_owned(), Origin::Default));
        }
    }
    Ok(raw)
}

fn read_file(given: &Given) -> Result<BTreeMap<String, (String, Origin)>, ConfigError> {
    let named = given.environment.get(CONFIG_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
    let chosen = given.file.clone().or(named);
    let path = chosen.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) if chosen.is_none() && source.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(ConfigError::Unreadable { path, source }),
    };
    // The whole error would quote the line, which may hold a secret.
    let table = toml::Table::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        ConfigError::NotToml { path: path.clone(), line, reason: error.message().to_owned() }
    })?;
    let known = known_names(|key| key.name.to_owned(), "_file");
    let mut values = BTreeMap::new();
    for (name, value) in table {
        let Some(key) = KEYS.iter().find(|key| known_as(key, &name)) else {
            return Err(ConfigError::Unknown {
                place: path.display().to_string(),
                suggestion: closest(&name, &known),
                name,
            });
        };
        let origin = Origin::File(path.clone());
        let Some(text) = scalar_or_list(&value) else {
            let reason = "must be a text, a whole number or a list of texts".to_owned();
            return Err(ConfigError::Invalid { name: key.name, origin, reason });
        };
        values.insert(name, (text, origin));
    }
    Ok(values)
}

fn refuse_unknown_variables(environment: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let mut known = known_names(Key::variable, "_FILE");
    known.push(CONFIG_VARIABLE.to_owned());
    for name in environment.keys() {
        if name.starts_with(VARIABLE_PREFIX) && !name.starts_with(TEST_PREFIX) && !known.contains(name) {
            return Err(ConfigError::Unknown {
                place: "environment".to_owned(),
                name: name.clone(),
                suggestion: closest(name, &known),
            });
        }
    }
    Ok(())
}

fn known_names(named: impl Fn(&Key) -> String, file_suffix: &str) -> Vec<String> {
    let plain = KEYS.iter().map(&named);
    let files = KEYS.iter().filter(|key| key.secret).map(|key| format!("{}{file_suffix}", named(key)));
    plain.chain(files).collect()
}

fn known_as(key: &Key, name: &str) -> bool {
    name == key.name || (key.secret && name.strip_suffix("_file") == Some(key.name))
}

fn closest(name: &str, known: &[String]) -> Option<String> {
    // What all variables begin with says nothing about likeness.
    let own = |name: &str| name.trim_start_matches(VARIABLE_PREFIX).to_owned();
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&own(name), &own(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate.clone())
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn read_secret(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    if text.len() > MAX_SECRET_BYTES {
        return Err(unreadable(std::io::Error::other("too large to hold a secret")));
    }
    Ok(text.trim().to_owned())
}

fn scalar_or_list(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

fn in_toml(text: &str) -> String {
    match text.parse::<u64>() {
        Ok(number) => number.to_string(),
        Err(_) => toml::Value::String(text.to_owned()).to_string(),
    }
}

fn not_empty(text: &str) -> Result<&str, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text) }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address with a port, such as 127.0.0.1:3000"))
}

fn origin_of_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| format!("`{text}` is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".to_owned());
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err("must be only scheme, host and port, such as https://social.example".to_owned());
    }
    Ok(url.origin().ascii_serialization())
}

/// The text may hold a password, so no refusal repeats it.
fn postgres_url(text: &str) -> Result<String, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    if !matches!(scheme, Some("postgres" | "postgresql")) {
        return Err("must begin with postgres://".to_owned());
    }
    match PgConnectOptions::from_str(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("is not a PostgreSQL URL".to_owned()),
    }
}

fn whole_number(text: &str, least: u64, most: u64) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("`{text}` is not a whole number from {least} to {most}")),
    }
}

/// In MiB, of so much memory in bytes.
fn part_for_pages(memory: Option<u64>) -> u64 {
    memory
        .map_or(LEAST_FOR_PAGES, |memory| memory / MIB / PART_FOR_PAGES)
        .clamp(LEAST_FOR_PAGES, MOST_FOR_PAGES)
}

fn log_kind(text: &str) -> Result<LogKind, String> {
    match text {
        "postgres" => Ok(LogKind::Postgres),
        "eventstore" => Ok(LogKind::EventStore),
        "memory" => Ok(LogKind::Memory),
        _ => Err(format!("`{text}` is none of postgres, eventstore and memory")),
    }
}

fn eventstore_namespace(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if is_plain && (1..=MAX_NAMESPACE_BYTES).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to {MAX_NAMESPACE_BYTES} lower-case letters and digits"))
    }
}

fn eventstore_url(text: &str) -> Result<String, String> {
    if text.starts_with("esdb://") || text.starts_with("esdb+discover://") {
        Ok(text.to_owned())
    } else {
        Err("must begin with esdb:// or esdb+discover://".to_owned())
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    let is_bare = url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    if matches!(url.scheme(), "http" | "https") && is_bare && is_anonymous {
        Ok(url.as_str().trim_end_matches('/').to_owned())
    } else {
        Err("must be the address of a store, such as https://s3.example".to_owned())
    }
}

fn bucket(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if (1..=MAX_BUCKET_BYTES).contains(&text.len()) && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("is not the name of a bucket".to_owned())
    }
}

fn addressing(text: &str) -> Result<Addressing, String> {
    match text {
        "path" => Ok(Addressing::Path),
        "host" => Ok(Addressing::Host),
        _ => Err(format!("`{text}` is neither path nor host")),
    }
}

fn object_prefix(text: &str) -> Result<ObjectPath, String> {
    match ObjectPath::parse(text) {
        Ok(prefix) if text.len() <= MAX_PREFIX_BYTES => Ok(prefix),
        _ => Err("must be like a path, such as kiroku/files".to_owned()),
    }
}

fn roles(text: &str) -> Result<Roles, String> {
    let mut roles = Roles::default();
    for name in text.split([',', ' ']).filter(|name| !name.is_empty()) {
        match name {
            "api" => roles.api = true,
            "stream" => roles.stream = true,
            "projector" => roles.projector = true,
            "federation" => roles.federation = true,
            _ => return Err(format!("`{name}` is none of api, stream, projector and federation")),
        }
    }
    if roles == Roles::default() { Err("must name a role".to_owned()) } else { Ok(roles) }
}

/// The text may hold a password, so no refusal repeats it.
fn nats_url(text: &str) -> Result<String, String> {
    let fits = |url: &str| url.starts_with("nats://") || url.starts_with("tls://");
    let mut urls = text.split(',').map(str::trim).filter(|url| !url.is_empty()).peekable();
    if urls.peek().is_some() && urls.all(|url| fits(url) && url::Url::parse(url).is_ok()) {
        Ok(text.to_owned())
    } else {
        Err("must be nats://host:port or tls://host:port, or several by comma".to_owned())
    }
}

fn feed_scope(text: &str) -> Result<FeedScope, String> {
    match text {
        "public" => Ok(FeedScope::Public),
        "all" => Ok(FeedScope::All),
        _ => Err(format!("`{text}` is neither public nor all")),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` is neither text nor json")),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let items = text.split([',', ' ']).filter(|item| !item.is_empty());
    let networks: Vec<IpNet> = items.map(network).collect::<Result<_, _>>()?;
    if networks.len() > MAX_PROXIES {
        return Err(format!("has more than {MAX_PROXIES} entries"));
    }
    Ok(networks)
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| format!("`{text}` is not an address or a network"))
}

/// No refusal repeats the text.
fn master_key(text: &str) -> Result<MasterKey, String> {
    MasterKey::parse(text).ok_or_else(|| "is not 32 bytes in hex or base64".to_owned())
}

fn software_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty() && text.len() <= MAX_SOFTWARE_NAME_BYTES && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("must be small letters, digits and dashes".to_owned())
    }
}

const MAX_SOFTWARE_NAME_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(given: &[(&str, &str)]) -> BTreeMap<String, String> {
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn environment(given: &[(&str, &str)]) -> Given {
        Given { environment: pairs(given), ..Given::default() }
    }

    fn refusal(given: &Given) -> String {
        load(given).err().expect("a refusal").to_string()
    }

    fn with_file(text: &str) -> (tempfile::TempDir, Given) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("settings.toml");
        std::fs::write(&path, text).unwrap();
        (directory, Given { file: Some(path), ..Given::default() })
    }

    #[test]
    fn nothing_given_is_a_complete_configuration() {
        let config = load(&Given::default()).unwrap().config;
        assert_eq!(config.url, "http://127.0.0.1:3000");
        assert_eq!(config.host(), "127.0.0.1:3000");
        assert_eq!(config.data_dir, PathBuf::from("data"));
        assert!(config.database_url.is_none() && config.trusted_proxies.is_empty());
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let (_directory, mut given) =
            with_file("listen = '127.0.0.1:1'\nlog_format = 'json'\nsoftware_name = 'a'");
        given.environment = pairs(&[("KIROKU_LISTEN", "127.0.0.1:2"), ("KIROKU_SOFTWARE_NAME", "b")]);
        given.flags = pairs(&[("listen", "127.0.0.1:3")]);
        let loaded = load(&given).unwrap();
        assert_eq!(loaded.config.listen.port(), 3);
        assert_eq!(loaded.config.software_name, "b");
        assert_eq!(loaded.config.log_format, LogFormat::Json);
        let origin =
            |name| loaded.settings.iter().find(|setting| setting.name == name).unwrap().origin.clone();
        assert_eq!(origin("listen"), Origin::Flag("listen".to_owned()));
        assert_eq!(origin("software_name"), Origin::Environment("KIROKU_SOFTWARE_NAME".to_owned()));
        assert_eq!(origin("log_format"), Origin::File(given.file.clone().unwrap()));
        assert_eq!(origin("log"), Origin::Default);
    }

    #[test]
    fn an_object_storage_is_given_whole_or_not_at_all() {
        let given = [
            ("KIROKU_OBJECT_STORAGE_ENDPOINT", "https://s3.example/storage/"),
            ("KIROKU_OBJECT_STORAGE_BUCKET", "files"),
            ("KIROKU_OBJECT_STORAGE_ACCESS_KEY", "name"),
            ("KIROKU_OBJECT_STORAGE_SECRET_KEY", "hidden"),
        ];
        let loaded = load(&environment(&given)).unwrap();
        assert!(!loaded.to_string().contains("hidden") && !format!("{:?}", loaded.config).contains("hidden"));
        let storage = loaded.config.object_storage.unwrap();
        assert_eq!(storage.endpoint, "https://s3.example/storage");
        assert_eq!((storage.bucket.as_str(), storage.region.as_str()), ("files", "us-east-1"));
        assert_eq!((storage.addressing, storage.prefix.as_ref()), (Addressing::Path, ""));
        for (name, _) in given {
            let others: Vec<_> = given.iter().copied().filter(|(other, _)| *other != name).collect();
            let missing = name.trim_start_matches("KIROKU_").to_lowercase();
            let refusal = refusal(&environment(&others));
            assert!(refusal.starts_with(&missing) && refusal.contains("is needed"), "{refusal}");
        }
        for (name, value) in [
            ("KIROKU_OBJECT_STORAGE_ENDPOINT", "s3.example"),
            ("KIROKU_OBJECT_STORAGE_ENDPOINT", "https://name:key@s3.example"),
            ("KIROKU_OBJECT_STORAGE_BUCKET", "a/b"),
            ("KIROKU_OBJECT_STORAGE_ADDRESSING", "dns"),
            ("KIROKU_OBJECT_STORAGE_PREFIX", "a//b"),
        ] {
            let mut given = environment(&given);
            given.environment.insert(name.to_owned(), value.to_owned());
            assert!(load(&given).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_a_suggestion() {
        let (_directory, given) = with_file("trusted_proxy = []");
        let refusal = refusal(&given);
        assert!(refusal.contains("`trusted_proxy`; did you mean `trusted_proxies`?"), "{refusal}");
    }

    #[test]
    fn an_unknown_variable_is_refused_with_a_suggestion() {
        let refusal_of = |name| refusal(&environment(&[(name, "x")]));
        assert!(refusal_of("KIROKU_LISEN").contains("did you mean `KIROKU_LISTEN`?"));
        assert!(refusal_of("KIROKU_URL_FILE").contains("no setting is called `KIROKU_URL_FILE`"));
        assert!(!refusal_of("KIROKU_QQQQ").contains("did you mean"));
        assert!(load(&environment(&[("KIROKU_TEST_DATABASE_URL", "x"), ("LISTEN", "x")])).is_ok());
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let config = load(&environment(&[("KIROKU_URL", ""), ("KIROKU_CONFIG", "")])).unwrap().config;
        assert_eq!(config.url, "http://127.0.0.1:3000");
    }

    #[test]
    fn a_secret_comes_from_a_file_and_is_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "postgres://me:hunter2@db/kiroku\n").unwrap();
        let given = environment(&[("KIROKU_DATABASE_URL_FILE", path.to_str().unwrap())]);
        let loaded = load(&given).unwrap();
        let url = loaded.config.database_url.as_ref().unwrap();
        assert_eq!(url.expose(), "postgres://me:hunter2@db/kiroku");
        let shown = format!("{loaded}{:?}", loaded.config);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("database_url = \"[redacted]\" # environment KIROKU_DATABASE_URL_FILE"));
        let told = &loaded.json()["database_url"];
        assert_eq!(*told, json!({ "value": "[redacted]", "origin": "environment KIROKU_DATABASE_URL_FILE" }));
    }

    #[test]
    fn a_refused_secret_is_not_repeated() {
        for value in ["mysql://me:hunter2@db/x", "postgres://me:hunter2@db:port/x", "hunter2"] {
            for name in ["KIROKU_DATABASE_URL", "KIROKU_MASTER_KEY"] {
                let refusal = refusal(&environment(&[(name, value)]));
                assert!(!refusal.contains("hunter2"), "{refusal}");
            }
        }
        let (_directory, given) = with_file("log = 'memory'\nmaster_key = 'hunter2");
        let refusal = refusal(&given);
        assert!(refusal.contains("line 2") && !refusal.contains("hunter2"), "{refusal}");
    }

    #[test]
    fn a_secret_given_twice_in_one_place_is_refused() {
        let given = environment(&[("KIROKU_MASTER_KEY", "x"), ("KIROKU_MASTER_KEY_FILE", "y")]);
        assert!(refusal(&given).contains("given twice"));
    }

    #[test]
    fn a_master_key_is_hex_or_base64() {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        for text in [hex, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="] {
            let loaded = load(&environment(&[("KIROKU_MASTER_KEY", text)])).unwrap();
            assert!(loaded.config.master_key.is_some());
            assert!(!format!("{loaded}{:?}", loaded.config).contains(text));
        }
        assert!(refusal(&environment(&[("KIROKU_MASTER_KEY", "c2hvcnQ=")])).contains("32 bytes"));
        assert!(refusal(&environment(&[("KIROKU_MASTER_KEY", &"é".repeat(32))])).contains("32 bytes"));
    }

    #[test]
    fn the_url_is_an_origin() {
        let url = |text| load(&environment(&[("KIROKU_URL", text)])).map(|loaded| loaded.config.url);
        assert_eq!(url("https://Social.Example/").unwrap(), "https://social.example");
        assert_eq!(url("https://social.example:443").unwrap(), "https://social.example");
        assert_eq!(url("http://localhost:3000").unwrap(), "http://localhost:3000");
        for refused in ["social.example", "ftp://a", "https://a/b", "https://a?b", "https://me@a", "https://"]
        {
            assert!(url(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_port_chosen_by_the_system_needs_a_url() {
        assert!(refusal(&environment(&[("KIROKU_LISTEN", "127.0.0.1:0")])).contains("url"));
        let given = environment(&[("KIROKU_LISTEN", "127.0.0.1:0"), ("KIROKU_URL", "http://a")]);
        assert!(load(&given).is_ok());
    }

    #[test]
    fn proxies_are_addresses_or_networks() {
        let (_directory, given) = with_file("trusted_proxies = ['10.0.0.0/8', '::1']");
        let proxies = load(&given).unwrap().config.trusted_proxies;
        assert!(proxies[0].contains(&"10.9.8.7".parse::<IpAddr>().unwrap()));
        assert_eq!(proxies[1].to_string(), "::1/128");
        assert!(refusal(&environment(&[("KIROKU_TRUSTED_PROXIES", "10.0.0.0/8,nginx")])).contains("`nginx`"));
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        for (name, value) in [
            ("KIROKU_LOG", "paper"),
            ("KIROKU_LOG_FORMAT", "xml"),
            ("KIROKU_ROLES", "api,poet"),
            ("KIROKU_ROLES", ","),
            ("KIROKU_NATS_URL", "http://a"),
            ("KIROKU_NATS_FEED", "some"),
            ("KIROKU_LOG_FILTER", "gateway=loud"),
            ("KIROKU_DATABASE_CONNECTIONS", "3"),
            ("KIROKU_READY_MAX_LAG_EVENTS", "-1"),
            ("KIROKU_PAGE_MEMORY", "7"),
            ("KIROKU_SOFTWARE_NAME", "Mis skey"),
            ("KIROKU_METRICS_LISTEN", "9090"),
        ] {
            assert!(
                refusal(&environment(&[(name, value)]))
                    .contains(name.trim_start_matches("KIROKU_").to_lowercase().as_str())
            );
        }
    }

    #[test]
    fn pages_get_a_part_of_the_memory_unless_it_is_said() {
        let asked = [None, Some(256), Some(4_096), Some(1 << 20)];
        assert_eq!(
            asked.map(|memory| part_for_pages(memory.map(|memory| memory * MIB))),
            [64, 64, 512, 4_096]
        );
        let given = environment(&[("KIROKU_PAGE_MEMORY", "77")]);
        assert_eq!(load(&given).unwrap().config.page_memory, 77);
    }

    #[test]
    fn an_eventstore_is_needed_for_a_log_in_it_and_never_shown() {
        let chosen = load(&environment(&[("KIROKU_LOG", "eventstore")]));
        assert!(matches!(&chosen, Err(ConfigError::Invalid { .. })));
        let other = load(&environment(&[("KIROKU_EVENTSTORE_URL", "http://me:hidden@there")]));
        assert!(other.is_err_and(|error| !error.to_string().contains("hidden")));
        let printed = load(&environment(&[("KIROKU_EVENTSTORE_URL", "esdb://me:hidden@there")])).unwrap();
        assert!(!printed.to_string().contains("hidden"));
        for namespace in ["Kiroku", "a-b", &"a".repeat(65)] {
            assert!(
                load(&environment(&[("KIROKU_EVENTSTORE_NAMESPACE", namespace)])).is_err(),
                "{namespace}"
            );
        }
    }

    #[test]
    fn roles_are_all_unless_some_are_named() {
        let roles = |given: &[(&str, &str)]| load(&environment(given)).unwrap().config.roles;
        assert_eq!(roles(&[]), Roles::ALL);
        let two = Roles { api: true, stream: true, ..Roles::default() };
        assert_eq!(roles(&[("KIROKU_ROLES", "stream, api")]), two);
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        let given = environment(&[("KIROKU_LOG", "memory"), ("KIROKU_DATA_DIR", "a \"b\"")]);
        let printed = load(&given).unwrap().to_string();
        let (_directory, again) = with_file(&printed);
        let config = load(&again).unwrap().config;
        assert_eq!((config.log, config.data_dir), (LogKind::Memory, PathBuf::from("a \"b\"")));
    }
}
