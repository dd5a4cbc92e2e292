//! Stores by URL.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::{Position, Url};

use crate::error::{Error, Result};

/// How often the store tries a request again by default.
pub(super) const DEFAULT_STORE_RETRIES: usize = 3;

/// After this time the store begins no further try: the loader's time for a request is a minute, and an error that names
/// its cause is better than one that says that time is up.
const STORE_RETRY_TIME: Duration = Duration::from_secs(20);
const STORE_RETRY_PAUSE: Duration = Duration::from_millis(100);
const MAX_STORE_RETRY_PAUSE: Duration = Duration::from_secs(3);

/// What a URL stands for.
pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The part of the URL that is the store, for errors; without what may be secret.
    pub(super) name: String,
    pub(super) path: Path,
}

/// The store and the place that a URL names, with credentials from the environment.
pub(super) fn open(url: &str, retries: usize, options: &[(String, String)]) -> Result<Opened> {
    let parsed = Url::parse(url).map_err(|cause| {
        let message = "not a URL, expected one such as `s3://bucket/prefix` or `file:///folder`";
        Error::argument(message).with_cause(cause).with_file(url)
    })?;
    let name_of = |path: &Path| name(&parsed, path);
    let (scheme, path) = ObjectStoreScheme::parse(&parsed).map_err(|cause| {
        let message = "not the URL of an object store, expected s3://, gs://, az://, abfs://, http(s):// or file://";
        Error::argument(message).with_cause(cause).with_file(name(&parsed, &Path::default()))
    })?;
    let refused = |cause: object_store::Error| {
        Error::argument("the store cannot be opened with these options").with_cause(cause).with_file(name_of(&path))
    };
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: STORE_RETRY_PAUSE, max_backoff: MAX_STORE_RETRY_PAUSE, base: 2.0 },
        max_retries: retries,
        retry_timeout: STORE_RETRY_TIME,
    };
    macro_rules! build {
        ($builder:expr) => {{
            let mut builder = $builder.with_retry(retry);
            for (key, value) in options {
                let key = key.to_ascii_lowercase().parse().map_err(refused)?;
                builder = builder.with_config(key, value);
            }
            Arc::new(builder.build().map_err(refused)?) as Arc<dyn ObjectStore>
        }};
    }
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::Local => Arc::new(LocalFileSystem::new()),
        ObjectStoreScheme::Memory => Arc::new(InMemory::new()),
        ObjectStoreScheme::AmazonS3 => build!(AmazonS3Builder::from_env().with_url(url)),
        ObjectStoreScheme::GoogleCloudStorage => build!(GoogleCloudStorageBuilder::from_env().with_url(url)),
        ObjectStoreScheme::MicrosoftAzure => build!(MicrosoftAzureBuilder::from_env().with_url(url)),
        ObjectStoreScheme::Http => {
            let base = &parsed[..Position::BeforePath];
            // Whoever writes `http://` has chosen it.
            let is_plain = (parsed.scheme() == "http").to_string();
            build!(HttpBuilder::new().with_url(base).with_config(ClientConfigKey::AllowHttp, is_plain))
        }
        other => return Err(Error::argument(format!("stores of kind {other:?} are not supported"))),
    };
    Ok(Opened { store, name: name_of(&path), path })
}

/// The URL up to where the path in the store begins. User, password and query may be secret and are left out.
fn name(url: &Url, path: &Path) -> String {
    let mut name = format!("{}://", url.scheme());
    if url.scheme().starts_with("az") || url.scheme().starts_with("abfs") {
        // There the user is the container.
        name.extend((!url.username().is_empty()).then(|| format!("{}@", url.username())));
    }
    name.push_str(url.host_str().unwrap_or_default());
    name.extend(url.port().map(|port| format!(":{port}")));
    let segments: Vec<&str> = url.path().split('/').filter(|segment| !segment.is_empty()).collect();
    for segment in &segments[..segments.len().saturating_sub(path.parts_count())] {
        name.push('/');
        name.push_str(segment);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn names_leave_out_the_place_and_what_may_be_secret() {
        for (url, expected, place) in [
            ("s3://bucket/a/b%20c", "s3://bucket", "a/b c"),
            ("s3://bucket", "s3://bucket", ""),
            ("file:///tmp/x/", "file://", "tmp/x"),
            ("http://user:secret@host:81/x/y?token=secret", "http://host:81", "x/y"),
            ("abfss://container@account.dfs.core.windows.net/x", "abfss://container@account.dfs.core.windows.net", "x"),
            ("https://s3.eu-west-1.amazonaws.com/bucket/x", "https://s3.eu-west-1.amazonaws.com/bucket", "x"),
        ] {
            let parsed = Url::parse(url).unwrap();
            let (_, path) = ObjectStoreScheme::parse(&parsed).unwrap();
            assert_eq!((&*name(&parsed, &path), path.as_ref()), (expected, place));
        }
    }

    #[test]
    fn what_is_no_store_is_refused() {
        for url in ["photos", "ftp://host/x", "s3:///x", "", "http://"] {
            assert_eq!(open(url, 1, &[]).err().unwrap().kind(), ErrorKind::Argument, "{url}");
        }
        let options = [("no_such_option".to_owned(), "1".to_owned())];
        let error = open("s3://bucket/x", 1, &options).err().unwrap();
        assert_eq!((error.kind(), error.file().unwrap().to_str()), (ErrorKind::Argument, Some("s3://bucket")));
        let opened = open("s3://bucket/x", 1, &[("aws_region".to_owned(), "eu-west-1".to_owned())]).unwrap();
        assert_eq!((&*opened.name, opened.path.as_ref()), ("s3://bucket", "x"));
    }
}
