//! A whole server for one test: its own database, a clock that stands still, HTTP on a port of its own.
//!
//! It fails its test when it is dropped after a projector has stopped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use commands::bus::{Bus, Nats};
use commands::log::{EventStoreLog, Keyring, MasterKey, PostgresLog, Takeover};
use domain::log::{Clock, EventLog};
use gateway::app::{App, Parts};
use gateway::config::{self, Given, LogKind};
use gateway::names::{Names, NoAnswer};
use gateway::platform::shutdown::{Shutdown, Stop};
use gateway::system::{SystemClock, TimeOrderedIds};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgPool};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use uuid::Uuid;

pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");
/// Of everybody who is signed up here.
pub const PASSWORD: &str = "correct horse battery staple";
const MASTER_KEY: [u8; 32] = [7; 32];
const POOL_CONNECTIONS: u32 = 10;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a queue may take to be empty, and how often it is looked at.
const EMPTY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub struct TestApp {
    pub app: App,
    pub clock: Arc<TestClock>,
    pub names: Arc<TestNames>,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    http: reqwest::Client,
    shutdown: Shutdown,
    given: Given,
    /// Goes with the last server that has it.
    data_dir: Arc<TempDir>,
    /// Dropped last: nothing may use it then.
    database: Arc<Database>,
}

/// Somebody with an account.
#[derive(Debug, Clone)]
pub struct User {
    pub id: String,
    pub name: String,
    pub token: String,
}

/// What was answered to a call.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Null where there is no body.
    pub body: Value,
}

impl TestApp {
    /// An empty server whose clock stands still.
    pub async fn start() -> Self {
        Self::with(TestClock::standing(), &[], None).await
    }

    /// An empty server in the time of the machine, with these flags.
    pub async fn in_real_time(flags: &[(&str, &str)]) -> Self {
        Self::with(TestClock::real(), flags, None).await
    }

    /// An empty server whose clock stands still, with these variables.
    pub async fn with_variables(variables: Vec<(String, String)>) -> Self {
        let given = Given { environment: variables.into_iter().collect(), ..given(&[]) };
        Self::on(Arc::new(Database::create().await), data_dir(), TestClock::standing(), given, None).await
    }

    /// An empty server whose feed goes to a NATS.
    pub async fn with_nats(url: &str) -> Self {
        Self::with(TestClock::real(), &[], Some(Nats::connect(url).await.unwrap())).await
    }

    /// An empty server in the time of the machine, whose log is in EventStoreDB.
    pub async fn on_eventstore(url: &str, namespace: &str, flags: &[(&str, &str)]) -> Self {
        let mut given = given(flags);
        given.flags.insert("log".to_owned(), "eventstore".to_owned());
        given.flags.insert("eventstore-namespace".to_owned(), namespace.to_owned());
        given.environment.insert("KIROKU_EVENTSTORE_URL".to_owned(), url.to_owned());
        Self::on(Arc::new(Database::create().await), data_dir(), TestClock::real(), given, None).await
    }

    /// Another server on the same database and log: a second process, or the same after a restart.
    pub async fn another(&self) -> Self {
        let mut given = self.given.clone();
        given.flags.insert("url".to_owned(), self.app.config.url.clone());
        Self::on(self.database.clone(), self.data_dir.clone(), TestClock::real(), given, None).await
    }

    async fn with(clock: TestClock, flags: &[(&str, &str)], nats: Option<Nats>) -> Self {
        Self::on(Arc::new(Database::create().await), data_dir(), clock, given(flags), nats).await
    }

    async fn on(
        database: Arc<Database>,
        data_dir: Arc<TempDir>,
        clock: TestClock,
        mut given: Given,
        nats: Option<Nats>,
    ) -> Self {
        let pool = database.pool().await;
        MIGRATIONS.run(&pool).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        given.flags.insert("listen".to_owned(), address.to_string());
        given.flags.insert("data-dir".to_owned(), data_dir.path().display().to_string());
        let config = Arc::new(config::load(&given).unwrap().config);
        let master = MasterKey::given(MASTER_KEY);
        let keyring = Arc::new(Keyring::open(pool.clone(), &master).await.unwrap());
        let log: Arc<dyn EventLog> = match config.log {
            LogKind::EventStore => {
                let url = config.eventstore_url.as_ref().unwrap().expose();
                let namespace = &config.eventstore_namespace;
                Arc::new(EventStoreLog::open(url, namespace, keyring.clone()).await.unwrap())
            }
            _ => Arc::new(PostgresLog::open(pool.clone(), keyring.clone(), Takeover::Shared).await.unwrap()),
        };
        let (clock, names, shutdown) = (Arc::new(clock), Arc::new(TestNames::default()), Shutdown::default());
        let parts = Parts {
            config: config.clone(),
            pool,
            log,
            keyring,
            bus: Bus::local(),
            nats,
            clock: clock.clone(),
            ids: Arc::new(TimeOrderedIds::new()),
            names: names.clone(),
            program: crate::process::binary(),
            shutdown: shutdown.clone(),
        };
        let app = App::start(parts).await.unwrap();
        let service = app.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(axum::serve(listener, service).into_future());
        let http = http().no_proxy().timeout(ANSWER_WITHIN).build().unwrap();
        let url = format!("http://{address}");
        Self { app, clock, names, url, http, shutdown, given, data_dir, database }
    }

    /// With open registration and without limits of calls, and its first account.
    pub async fn opened() -> (Self, User) {
        let app = Self::start().await;
        let root = app.sign_up("root").await;
        app.ok(&root, "admin/update-meta", json!({ "disableRegistration": false })).await;
        app.ok(&root, "admin/roles/update-default-policies", json!({ "policies": { "rateLimitFactor": 0 } }))
            .await;
        (app, root)
    }

    /// Makes an account: the first administers the server, later ones need open registration.
    pub async fn sign_up(&self, name: &str) -> User {
        let params = json!({ "username": name, "password": PASSWORD });
        let mut answer = self.call(None, "admin/accounts/create", params.clone()).await;
        if answer.status != 200 {
            answer = self.call(None, "signup", params).await;
        }
        assert_eq!(answer.status, 200, "signing up {name}: {}", answer.body);
        let text = |key: &str| answer.body[key].as_str().unwrap().to_owned();
        User { id: text("id"), name: name.to_owned(), token: text("token") }
    }

    /// Calls an endpoint with a JSON body, as somebody or as nobody.
    pub async fn call(&self, by: Option<&User>, path: &str, mut params: Value) -> Answer {
        if let (Some(user), Value::Object(fields)) = (by, &mut params) {
            fields.insert("i".to_owned(), json!(user.token));
        }
        self.post(path, params.to_string()).await
    }

    /// Calls an endpoint that must succeed.
    pub async fn ok(&self, by: &User, path: &str, params: Value) -> Value {
        let told = params.to_string();
        let answer = self.call(Some(by), path, params).await;
        assert!(answer.status < 300, "{path} {told} by {}: {answer:?}", by.name);
        answer.body
    }

    /// Calls an endpoint that must refuse; the code of its error.
    pub async fn refused(&self, by: Option<&User>, path: &str, params: Value) -> String {
        let answer = self.call(by, path, params).await;
        let code = answer.body["error"]["code"].as_str();
        code.unwrap_or_else(|| panic!("{path} did not refuse: {answer:?}")).to_owned()
    }

    /// Sends whatever bytes as the JSON body of a call.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.http.post(format!("{}/api/{path}", self.url));
        let request = request.header("content-type", "application/json").body(body);
        answer(request.send().await.unwrap()).await
    }

    /// Uploads a file; what else is said of it stands in the form.
    pub async fn upload(
        &self,
        by: &User,
        name: &str,
        bytes: impl Into<Vec<u8>>,
        fields: &[(&str, &str)],
    ) -> Answer {
        let fields = [("i", by.token.as_str())].into_iter().chain(fields.iter().copied());
        self.send_form("drive/files/create", fields, Some((name, bytes.into()))).await
    }

    /// Uploads a file that must be taken; its id.
    pub async fn file(&self, by: &User, name: &str, bytes: impl Into<Vec<u8>>) -> String {
        let answer = self.upload(by, name, bytes, &[]).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// Sends a form of several parts.
    pub async fn send_form<'a>(
        &self,
        path: &str,
        fields: impl Iterator<Item = (&'a str, &'a str)>,
        file: Option<(&str, Vec<u8>)>,
    ) -> Answer {
        let request = self.http.post(format!("{}/api/{path}", self.url));
        answer(with_form(request, fields, file).send().await.unwrap()).await
    }

    /// Asks for a page or a document.
    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    /// The same, without going where it leads.
    pub async fn get_unled(&self, path: &str) -> reqwest::Response {
        let http = http().no_proxy().timeout(ANSWER_WITHIN).redirect(reqwest::redirect::Policy::none());
        http.build().unwrap().get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    /// The same, with a header.
    pub async fn get_with(&self, path: &str, header: &str, value: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.url)).header(header, value).send().await.unwrap()
    }

    /// Everything that the server keeps on disk.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// Writes a note that must be accepted; its id.
    pub async fn note(&self, by: &User, params: Value) -> String {
        let created = self.ok(by, "notes/create", params).await;
        created["createdNote"]["id"].as_str().unwrap().to_owned()
    }

    /// Tells everything long-lived that the server stops.
    pub fn stop(&self) {
        self.shutdown.begin(Stop::Asked);
    }

    /// Waits until nothing stands in a queue any more, such as `ops.jobs`.
    pub async fn nothing_waits(&self, queue: &str) {
        let count = format!("select count(*) from {queue}");
        let until = Instant::now() + EMPTY_WITHIN;
        loop {
            let waiting: i64 =
                sqlx::query_scalar(AssertSqlSafe(count.as_str())).fetch_one(&self.app.pool).await.unwrap();
            if waiting == 0 {
                return;
            }
            assert!(Instant::now() < until, "{waiting} still stand in {queue}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until everything that was written can be read.
    pub async fn settle(&self) {
        self.app.projections.settle().await.unwrap();
    }
}

fn data_dir() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

fn given(flags: &[(&str, &str)]) -> Given {
    let flags = flags.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect();
    Given { flags, environment: BTreeMap::new(), file: None }
}

/// A client of HTTP; it has a TLS of its own, as the client of EventStoreDB insists on choosing for everybody.
pub fn http() -> reqwest::ClientBuilder {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls)
}

/// A request with a form of several parts.
pub fn with_form<'a>(
    request: reqwest::RequestBuilder,
    fields: impl Iterator<Item = (&'a str, &'a str)>,
    file: Option<(&str, Vec<u8>)>,
) -> reqwest::RequestBuilder {
    const BOUNDARY: &str = "kiroku-test-boundary";
    let mut body = Vec::new();
    for (name, value) in fields {
        let part =
            format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    if let Some((name, bytes)) = file {
        let head = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}")).body(body)
}

pub async fn answer(response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap();
    let body = match bytes.as_ref() {
        [] => Value::Null,
        bytes => serde_json::from_slice(bytes)
            .unwrap_or_else(|_| json!({ "notJson": String::from_utf8_lossy(bytes) })),
    };
    Answer { status, body }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop();
        let stopped: Vec<_> =
            self.app.projections.status().into_iter().filter(|status| status.stopped.is_some()).collect();
        if !std::thread::panicking() {
            assert!(stopped.is_empty(), "a projector has stopped: {stopped:?}");
        }
    }
}

/// A clock that goes only when it is told to, or the machine's.
pub struct TestClock(Option<Mutex<DateTime<Utc>>>);

impl TestClock {
    fn standing() -> Self {
        let start = "2026-01-02T03:04:05Z".parse().unwrap();
        Self(Some(Mutex::new(start)))
    }

    fn real() -> Self {
        Self(None)
    }

    /// Moves the hands on.
    pub fn pass(&self, time: TimeDelta) {
        let now = self.0.as_ref().expect("this clock can't be set");
        *now.lock().unwrap() += time;
    }
}

impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        self.0.as_ref().map_or_else(|| SystemClock.now(), |now| *now.lock().unwrap())
    }
}

/// Every host takes mail, but for those that begin with `no-mail.`; or nobody can be asked.
#[derive(Default)]
pub struct TestNames {
    away: AtomicBool,
}

impl TestNames {
    /// From now on nobody can be asked.
    pub fn go_away(&self) {
        self.away.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Names for TestNames {
    async fn mail_hosts(&self, host: &str) -> Result<Vec<String>, NoAnswer> {
        if self.away.load(Ordering::Relaxed) {
            return Err(NoAnswer("nobody can be asked".into()));
        }
        Ok(if host.starts_with("no-mail.") { Vec::new() } else { vec![format!("mx.{host}.")] })
    }

    async fn has_address(&self, _: &str) -> Result<bool, NoAnswer> {
        Ok(false)
    }
}

/// A database that goes away with its test.
pub struct Database {
    server: PgConnectOptions,
    name: String,
}

impl Database {
    pub async fn create() -> Self {
        let server: PgConnectOptions = database_url().parse().unwrap();
        let name = format!("kiroku_it_{}", Uuid::from_u128(rand::random()).simple());
        let mut connection = PgConnection::connect_with(&server).await.unwrap();
        let create = format!("create database {name}");
        sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
        Self { server, name }
    }

    /// Its address, with whatever lets one in.
    pub fn url(&self) -> String {
        self.server.clone().database(&self.name).to_url_lossy().into()
    }

    pub async fn pool(&self) -> PgPool {
        let options = self.server.clone().database(&self.name);
        PgPoolOptions::new().max_connections(POOL_CONNECTIONS).connect_with(options).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, drop) = (self.server.clone(), format!("drop database {} with (force)", self.name));
        // On a thread of its own: the runtime of the test may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect_with(&server).await?;
                sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await
            })
        });
        if let Ok(Err(error)) = dropping.join() {
            eprintln!("a test database stays behind: {error}");
        }
    }
}

/// A PostgreSQL to make databases on.
fn database_url() -> String {
    let environment = Given::from_process().environment;
    let found = ["KIROKU_TEST_DATABASE_URL", "DATABASE_URL"].iter().find_map(|name| environment.get(*name));
    found.expect("DATABASE_URL names no PostgreSQL for the tests: use scripts/test").clone()
}
