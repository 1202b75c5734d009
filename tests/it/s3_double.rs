//! A double of a store that speaks the protocol of S3, over a real socket: what Kiroku needs of it, and no more. It has
//! one bucket, lets in one key, and looks whether requests are signed and bodies are what was signed; whether the
//! signature is right it doesn't know. It can go away, with all connections, and come back with what it had.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub const BUCKET: &str = "kiroku-files";
const REGION: &str = "eu-test-1";
const ACCESS_KEY: &str = "the-name";
pub const SECRET_KEY: &str = "the-secret";
/// When all uploads in parts were begun: where clocks of tests stand.
const BEGUN: &str = "2026-01-02T03:04:05.000Z";
const CHANGED: &str = "Fri, 02 Jan 2026 03:04:05 GMT";
/// What S3 takes as a part that isn't the last, in bytes.
const MIN_PART_BYTES: usize = 5 * 1024 * 1024;

/// The store, and whether it runs.
pub struct Double {
    store: Store,
    address: SocketAddr,
    running: Option<JoinHandle<()>>,
}

#[derive(Clone, Default)]
struct Store(Arc<Inner>);

#[derive(Default)]
struct Inner {
    objects: Mutex<BTreeMap<String, Bytes>>,
    uploads: Mutex<BTreeMap<String, Upload>>,
    begun: AtomicU32,
    /// Fails everything from this part of an upload on; 0: nothing.
    fails_at_part: AtomicU32,
    fails: AtomicBool,
    /// Milliseconds that each part takes.
    part_takes: AtomicU32,
}

/// What was begun and not ended.
#[derive(Default)]
struct Upload {
    key: String,
    parts: BTreeMap<u32, Bytes>,
}

impl Double {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (store, address) = (Store::default(), listener.local_addr().unwrap());
        let running = Some(tokio::spawn(serve(listener, store.clone())));
        Self { store, address, running }
    }

    /// How a server is told of it, as variables.
    pub fn settings(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        [
            ("ENDPOINT", endpoint.as_str()),
            ("BUCKET", BUCKET),
            ("REGION", REGION),
            ("PREFIX", "some/where"),
            ("ACCESS_KEY", ACCESS_KEY),
            ("SECRET_KEY", SECRET_KEY),
        ]
        .map(|(name, value)| (format!("KIROKU_OBJECT_STORAGE_{name}"), value.to_owned()))
        .into()
    }

    /// Cuts all connections and takes no new ones.
    pub async fn go_away(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        running.await.ok();
    }

    pub async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.running = Some(tokio::spawn(serve(listener, self.store.clone())));
    }

    /// Answers with errors from this part of an upload on, until it is told otherwise with 0.
    pub fn fail_at_part(&self, number: u32) {
        self.store.0.fails_at_part.store(number, Ordering::Relaxed);
        self.store.0.fails.store(false, Ordering::Relaxed);
    }

    pub fn take_for_each_part(&self, time: Duration) {
        self.store.0.part_takes.store(time.as_millis().try_into().unwrap(), Ordering::Relaxed);
    }

    /// The names of objects that begin so, without that.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let objects = self.store.0.objects.lock().unwrap();
        objects.keys().filter_map(|key| key.strip_prefix(prefix)).map(str::to_owned).collect()
    }

    /// What was begun and not ended, and in how many parts it is there.
    pub fn unended(&self) -> Vec<usize> {
        self.store.0.uploads.lock().unwrap().values().map(|upload| upload.parts.len()).collect()
    }

    /// Puts something there that nobody asked for.
    pub fn begin(&self, key: &str) {
        let upload = Upload { key: key.to_owned(), ..Upload::default() };
        self.store.0.uploads.lock().unwrap().insert(format!("of {key}"), upload);
    }

    pub fn lose(&self, key: &str) {
        assert!(self.store.0.objects.lock().unwrap().remove(key).is_some(), "{key}");
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// Connections go with this.
async fn serve(listener: TcpListener, store: Store) {
    let router = Router::new()
        .route("/{bucket}", any(whole))
        .route("/{bucket}/", any(whole))
        .route("/{bucket}/{*key}", any(object))
        .layer(DefaultBodyLimit::disable())
        .with_state(store);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Asked = Query<BTreeMap<String, String>>;

/// What is asked of the bucket.
async fn whole(
    State(Store(store)): State<Store>,
    Path(bucket): Path<String>,
    Query(asked): Asked,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refusal(&store, &bucket, &asked, &headers, b"") {
        return refusal;
    }
    let prefix = asked.get("prefix").map(String::as_str).unwrap_or_default();
    if asked.contains_key("uploads") {
        let uploads = store.uploads.lock().unwrap();
        let found: String = uploads
            .iter()
            .filter(|(_, upload)| upload.key.starts_with(prefix))
            .map(|(id, Upload { key, .. })| {
                format!(
                    "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{BEGUN}</Initiated></Upload>"
                )
            })
            .collect();
        return format!("<ListMultipartUploadsResult>{found}</ListMultipartUploadsResult>").into_response();
    }
    assert_eq!(asked["list-type"], "2");
    let objects = store.objects.lock().unwrap();
    let found: String = objects
        .iter()
        .filter(|(key, _)| key.starts_with(prefix))
        .map(|(key, bytes)| {
            format!(
                "<Contents><Key>{key}</Key><Size>{}</Size><ETag>e</ETag>\
                 <LastModified>{BEGUN}</LastModified></Contents>",
                bytes.len()
            )
        })
        .collect();
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>").into_response()
}

/// What is asked of an object.
async fn object(
    State(Store(store)): State<Store>,
    Path((bucket, key)): Path<(String, String)>,
    Query(asked): Asked,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = refusal(&store, &bucket, &asked, &headers, &body) {
        return refusal;
    }
    if asked.contains_key("partNumber") {
        let takes = store.part_takes.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(takes.into())).await;
    }
    let mut objects = store.objects.lock().unwrap();
    let mut uploads = store.uploads.lock().unwrap();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let done = [("etag", "\"e\"")].into_response();
    match (method, asked.get("uploadId"), asked.get("partNumber")) {
        (Method::POST, None, None) => {
            assert!(asked.contains_key("uploads"));
            let id = store.begun.fetch_add(1, Ordering::Relaxed).to_string();
            let told = format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            uploads.insert(id, Upload { key, ..Upload::default() });
            told.into_response()
        }
        (Method::PUT, Some(id), Some(number)) => {
            let Some(upload) = uploads.get_mut(id) else { return refused(404, "NoSuchUpload") };
            upload.parts.insert(number.parse().unwrap(), body);
            done
        }
        (Method::POST, Some(id), None) => {
            let Some(upload) = uploads.remove(id) else { return refused(404, "NoSuchUpload") };
            let all_but_last = upload.parts.len() - 1;
            if upload.parts.values().take(all_but_last).any(|part| part.len() < MIN_PART_BYTES) {
                return refused(400, "EntityTooSmall");
            }
            objects.insert(upload.key, upload.parts.into_values().flatten().collect());
            "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>".into_response()
        }
        (Method::DELETE, Some(id), None) => match uploads.remove(id) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => refused(404, "NoSuchUpload"),
        },
        (Method::PUT, None, None) => match text("x-amz-copy-source") {
            None => {
                objects.insert(key, body);
                done
            }
            Some(from) => {
                let from = from.trim_start_matches('/').strip_prefix(&format!("{BUCKET}/")).unwrap();
                let Some(bytes) = objects.get(from).cloned() else { return refused(404, "NoSuchKey") };
                objects.insert(key, bytes);
                "<CopyObjectResult><ETag>e</ETag></CopyObjectResult>".into_response()
            }
        },
        (Method::DELETE, None, None) => {
            objects.remove(&key);
            StatusCode::NO_CONTENT.into_response()
        }
        (Method::GET | Method::HEAD, None, None) => {
            let Some(bytes) = objects.get(&key).cloned() else { return refused(404, "NoSuchKey") };
            let common = [("etag", "\"e\""), ("last-modified", CHANGED)];
            let Some((first, last)) =
                text("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'))
            else {
                return (common, bytes).into_response();
            };
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            if first >= bytes.len() {
                return refused(416, "InvalidRange");
            }
            let last = last.min(bytes.len() - 1);
            let range = [("content-range", format!("bytes {first}-{last}/{}", bytes.len()))];
            (StatusCode::PARTIAL_CONTENT, common, range, bytes.slice(first..=last)).into_response()
        }
        _ => refused(405, "MethodNotAllowed"),
    }
}

fn refusal(
    store: &Inner,
    bucket: &str,
    asked: &BTreeMap<String, String>,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<Response> {
    let fails_at = store.fails_at_part.load(Ordering::Relaxed);
    if fails_at > 0 && asked.get("partNumber").is_some_and(|number| number.parse() == Ok(fails_at)) {
        store.fails.store(true, Ordering::Relaxed);
    }
    if store.fails.load(Ordering::Relaxed) {
        return Some(refused(503, "SlowDown"));
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (credential, signature) = match asked.get("X-Amz-Signature") {
        Some(signature) => (asked["X-Amz-Credential"].as_str(), signature.as_str()),
        None => {
            let field = |name: &str| {
                let (_, after) = text("authorization").split_once(name)?;
                after.split(',').next()
            };
            (field("Credential=").unwrap_or_default(), field("Signature=").unwrap_or_default())
        }
    };
    let is_hex = signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit());
    let scope: Vec<&str> = credential.split('/').collect();
    if !is_hex || !matches!(scope[..], [ACCESS_KEY, _, REGION, "s3", "aws4_request"]) {
        return Some(refused(403, "InvalidAccessKeyId"));
    }
    if let Some(told) = headers.get("x-amz-content-sha256") {
        let found: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        if told.to_str().ok() != Some(&found) {
            return Some(refused(400, "XAmzContentSHA256Mismatch"));
        }
    }
    (bucket != BUCKET).then(|| refused(404, "NoSuchBucket"))
}

fn refused(status: u16, code: &str) -> Response {
    let told = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>No.</Message></Error>");
    (StatusCode::from_u16(status).unwrap(), told).into_response()
}
