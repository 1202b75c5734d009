//! Files in a bucket, by the protocol of S3. Where it is, the operator says: so it is not asked through the guarded
//! client, and may be in a private network.
//!
//! A file is sent in parts, and is there when all of it is. What was begun and not ended is invisible and stays
//! until it is taken back: at once when sending fails, else by a look for what was left ([`Bucket::take_back`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::multipart::MultipartStore;
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{ObjectStoreExt, RetryConfig};
use quick_xml::de::from_str;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::store::{StoreError, named};
use crate::config::{Addressing, ObjectStorage};
use crate::fetch::{AGENT, FetchError, tls};

/// What is sent at once, in bytes. S3 takes no smaller parts, but for the last.
const PART_BYTES: usize = 5 * 1024 * 1024;
/// Files that are sent at the same time; more wait. Each holds a part in memory.
const PUTS_AT_ONCE: usize = 8;
/// How long one waits for the others. With the next it is less than after what sweeping takes a file for a stray.
const TURN_WITHIN: Duration = Duration::from_secs(5 * 60);
/// How long sending a file may take in all.
const SENT_WITHIN: Duration = Duration::from_secs(20 * 60);
/// How long a connection may take.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
/// How long a request may be without an answer, the sending of a part included, and an answer without more of it.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How often a request is tried again, and after how long no more.
const MAX_RETRIES: usize = 3;
const RETRIED_FOR: Duration = Duration::from_secs(20);
/// How long the store may take to say that it is there.
const CHECKED_WITHIN: Duration = Duration::from_secs(10);
/// How long an address that was signed is good.
const SIGNED_FOR: Duration = Duration::from_secs(60);
/// The longest answer that is read whole, in bytes: a list of 1,000 uploads.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// A bucket, or the part of it that is ours. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bucket {
    bucket: AmazonS3,
    prefix: ObjectPath,
    /// The same, by what comes after the prefix.
    pub objects: Arc<PrefixStore<AmazonS3>>,
    client: reqwest::Client,
    puts: Arc<Semaphore>,
}

/// Gives a client that was made before.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// What a store says of uploads in parts that were not ended.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Unfinished {
    #[serde(default)]
    upload: Vec<Upload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
    initiated: DateTime<Utc>,
}

/// What a store says when it refuses.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    code: String,
}

impl Bucket {
    /// Asks nothing yet.
    pub fn open(settings: &ObjectStorage) -> Result<Self, StoreError> {
        let client = reqwest::Client::builder()
            .user_agent(AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECTED_WITHIN)
            .read_timeout(STALLED_AFTER)
            .tls_backend_preconfigured(tls()?)
            .build()
            .map_err(FetchError::from)?;
        let retry =
            RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRIED_FOR, ..RetryConfig::default() };
        let bucket = AmazonS3Builder::new()
            .with_endpoint(address(settings))
            .with_bucket_name(&settings.bucket)
            .with_virtual_hosted_style_request(settings.addressing == Addressing::Host)
            .with_region(&settings.region)
            .with_access_key_id(settings.access_key.expose())
            .with_secret_access_key(settings.secret_key.expose())
            // Not every store can delete many at once.
            .with_disable_bulk_delete(true)
            .with_retry(retry)
            .with_http_connector(Connector(client.clone()))
            .build()?;
        let prefix = settings.prefix.clone();
        let objects = Arc::new(PrefixStore::new(bucket.clone(), prefix.clone()));
        Ok(Self { bucket, prefix, objects, client, puts: Arc::new(Semaphore::new(PUTS_AT_ONCE)) })
    }

    /// Asks whether the bucket is there and lets us in.
    pub async fn check(&self) -> Result<(), StoreError> {
        let prefix = self.under("");
        let query = [("list-type", "2"), ("max-keys", "1"), ("prefix", &prefix)];
        timeout(CHECKED_WITHIN, self.ask(&query)).await.map_err(|_| StoreError::Silent)?.map(drop)
    }

    /// Sends a file. What was begun is ended or taken back, also when nobody waits for it any more.
    pub async fn put(&self, to: ObjectPath, path: PathBuf) -> Result<(), StoreError> {
        // Opened first: it may lose its name.
        let file =
            File::open(&path).await.map_err(|source| StoreError::Disk { path: path.clone(), source })?;
        let slot = timeout(TURN_WITHIN, self.puts.clone().acquire_owned()).await;
        let slot = slot.map_err(|_| StoreError::Silent)?;
        let bucket = self.clone();
        let sent = tokio::spawn(async move {
            let _slot = slot;
            bucket.send(&to, file, path).await
        });
        sent.await.map_err(|_| StoreError::BrokenOff)?
    }

    /// Takes back what was begun under a path before then, or ever, and not ended; says how much.
    pub async fn take_back(&self, under: &str, before: Option<DateTime<Utc>>) -> Result<u64, StoreError> {
        let found = self.ask(&[("uploads", ""), ("prefix", &self.under(under))]).await?;
        let found: Unfinished = from_str(&found).map_err(|_| StoreError::Unclear)?;
        let mut taken = 0;
        for upload in found.upload {
            if before.is_some_and(|before| upload.initiated >= before) {
                continue;
            }
            let Ok(key) = ObjectPath::parse(&upload.key) else { continue };
            // Somebody else may use the bucket, too.
            if key.prefix_match(&self.prefix).and_then(named).is_none() {
                continue;
            }
            match self.bucket.abort_multipart(&key, &upload.upload_id).await {
                Ok(()) => taken += 1,
                // It was ended meanwhile.
                Err(object_store::Error::NotFound { .. }) => (),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(taken)
    }

    async fn send(&self, to: &ObjectPath, mut file: File, path: PathBuf) -> Result<(), StoreError> {
        let first = part(&mut file, &path, Vec::with_capacity(PART_BYTES)).await?;
        if first.len() < PART_BYTES {
            let sent = timeout(SENT_WITHIN, self.objects.put(to, first.into()));
            sent.await.map_err(|_| StoreError::Silent)??;
            return Ok(());
        }
        let upload = self.objects.create_multipart(to).await?;
        let sent = timeout(SENT_WITHIN, self.send_parts(to, &upload, first, file, &path)).await;
        let sent = sent.unwrap_or(Err(StoreError::Silent));
        if sent.is_err()
            && let Err(error) = self.objects.abort_multipart(to, &upload).await
        {
            tracing::warn!(%error, "parts of a file stay in the bucket for now");
        }
        sent
    }

    /// One after the other, all in the same memory.
    async fn send_parts(
        &self,
        to: &ObjectPath,
        upload: &String,
        first: Vec<u8>,
        mut file: File,
        path: &Path,
    ) -> Result<(), StoreError> {
        let (mut next, mut parts) = (first, Vec::new());
        while !next.is_empty() {
            let sent = Bytes::from(next);
            parts.push(self.objects.put_part(to, upload, parts.len(), sent.clone().into()).await?);
            next = part(&mut file, path, sent.into()).await?;
        }
        self.objects.complete_multipart(to, upload, parts).await?;
        Ok(())
    }

    /// Asks about the bucket itself.
    async fn ask(&self, query: &[(&str, &str)]) -> Result<String, StoreError> {
        let query = SignedUrlOptions::new().with_query(query.iter().copied());
        let url =
            self.bucket.signed_url_opts(Method::GET, &ObjectPath::default(), SIGNED_FOR, &query).await?;
        // No error may name the address, which is signed.
        let lost = |error: reqwest::Error| StoreError::Unreachable(error.without_url());
        let response = self.client.get(url).send().await.map_err(lost)?;
        let status = response.status();
        let (mut pieces, mut bytes) = (response.bytes_stream(), Vec::new());
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece.map_err(lost)?);
            if bytes.len() > MAX_ANSWER_BYTES {
                return Err(StoreError::Unclear);
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| StoreError::Unclear)?;
        if status == StatusCode::OK {
            return Ok(text);
        }
        let code = from_str::<Refusal>(&text).map(|refusal| refusal.code).unwrap_or_default();
        Err(StoreError::Refused { status: status.as_u16(), code })
    }

    /// The beginning of the names of objects under a path.
    fn under(&self, path: &str) -> String {
        let whole = self.prefix.parts().chain(ObjectPath::from(path).parts()).collect::<ObjectPath>();
        if whole.is_root() { String::new() } else { format!("{whole}/") }
    }
}

/// The address of the store, with the bucket in its host where it belongs there.
fn address(settings: &ObjectStorage) -> String {
    match (settings.addressing, settings.endpoint.split_once("://")) {
        (Addressing::Host, Some((scheme, host))) => format!("{scheme}://{}.{host}", settings.bucket),
        _ => settings.endpoint.clone(),
    }
}

/// The next part of a file, instead of what was in the buffer; less than a whole one at its end.
async fn part(file: &mut File, path: &Path, mut part: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    part.clear();
    let read = file.take(PART_BYTES as u64).read_to_end(&mut part).await;
    read.map_err(|source| StoreError::Disk { path: path.to_owned(), source })?;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Given, load};

    fn bucket(addressing: &str, prefix: &str) -> Bucket {
        let given = [
            ("KIROKU_OBJECT_STORAGE_ENDPOINT", "https://s3.example:9000/x/"),
            ("KIROKU_OBJECT_STORAGE_BUCKET", "files"),
            ("KIROKU_OBJECT_STORAGE_ADDRESSING", addressing),
            ("KIROKU_OBJECT_STORAGE_PREFIX", prefix),
            ("KIROKU_OBJECT_STORAGE_ACCESS_KEY", "name"),
            ("KIROKU_OBJECT_STORAGE_SECRET_KEY", "hidden"),
        ];
        let environment = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = load(&Given { environment, ..Given::default() }).unwrap().config;
        Bucket::open(&config.object_storage.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn the_bucket_stands_in_the_path_or_the_host() {
        for (addressing, expected) in [
            ("path", "https://s3.example:9000/x/files/a/b/c"),
            ("host", "https://files.s3.example:9000/x/a/b/c"),
        ] {
            let bucket = bucket(addressing, "a");
            let url = bucket.objects.signed_url(Method::GET, &ObjectPath::from("b/c"), SIGNED_FOR).await;
            let mut url = url.unwrap();
            url.set_query(None);
            assert_eq!(url.as_str(), expected);
        }
    }

    #[test]
    fn nothing_beside_the_prefix_is_ours() {
        assert_eq!(bucket("path", "a/b").under(""), "a/b/");
        assert_eq!(bucket("path", "a/b").under("c"), "a/b/c/");
        assert_eq!(bucket("path", "").under("c"), "c/");
        assert_eq!(bucket("path", "").under(""), "");
    }

    #[test]
    fn what_was_not_ended_is_read() {
        let told = "<?xml version=\"1.0\"?><ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Bucket>files</Bucket><IsTruncated>false</IsTruncated><Upload><Key>a/b</Key><UploadId>u</UploadId>\
            <Initiator><ID>x</ID></Initiator><Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload><Upload>\
            <Key>c</Key><UploadId>v</UploadId><Initiated>2010-11-10T20:48:33Z</Initiated></Upload>\
            </ListMultipartUploadsResult>";
        let keys: Vec<String> =
            from_str::<Unfinished>(told).unwrap().upload.into_iter().map(|upload| upload.key).collect();
        assert_eq!(keys, ["a/b", "c"]);
        let none = "<ListMultipartUploadsResult><Bucket>files</Bucket></ListMultipartUploadsResult>";
        assert!(from_str::<Unfinished>(none).unwrap().upload.is_empty());
    }
}
