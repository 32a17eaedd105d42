//! Downloads from a server of the suite's own.
#![expect(clippy::disallowed_methods, reason = "the server runs beside the test")]

use axum::Router;
use axum::extract::Path as UrlPath;
use axum::http::Response;
use axum::routing::get;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;

fn content() -> Vec<u8> {
    (0..200_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Serves the content as the path says, and remembers nothing.
async fn serve(UrlPath(how): UrlPath<String>, headers: HeaderMap) -> Response<axum::body::Body> {
    let content = content();
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let start =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let reply = Response::builder();
    let reply = match (how.as_str(), start) {
        ("moved", _) => {
            return reply
                .status(302)
                .header("location", "/file")
                .body(String::new().into())
                .unwrap();
        }
        ("circle", _) => {
            return reply
                .status(302)
                .header("location", "/circle")
                .body(String::new().into())
                .unwrap();
        }
        ("gone", _) => return reply.status(404).body(String::new().into()).unwrap(),
        ("long", _) => return reply.body([content, vec![1]].concat().into()).unwrap(),
        ("short", _) => return reply.body(content[..150_000].to_vec().into()).unwrap(),
        ("other", _) => return reply.body(vec![7; content.len()].into()).unwrap(),
        ("stubborn", _) | (_, None) => reply.body(content.into()),
        (_, Some(start)) => {
            let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
            let rest = content[start..].to_vec();
            reply.status(206).header("content-range", range).body(rest.into())
        }
    };
    reply.unwrap()
}

/// A server, and a folder for what it sends.
struct Stage {
    url: String,
    folder: TempDir,
}

impl Stage {
    async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/{how}", get(serve));
        tokio::task::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, folder: tempfile::tempdir().unwrap() }
    }

    async fn fetch(&self, how: &str) -> Result<u64, String> {
        let digest = hexadecimal(Sha256::new_with_prefix(content()));
        let download = Download {
            url: format!("{}/{how}", self.url),
            path: self.folder.path().join("file"),
            bytes: content().len() as u64,
            sha256: &digest,
        };
        let mut told = 0;
        let fetched = download.run(&mut |bytes| told = bytes).await;
        if fetched.as_ref().is_ok_and(|came| *came > 0) {
            assert_eq!(told, download.bytes, "progress ends at the end");
        }
        fetched.map_err(|error| format!("{error:#}"))
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    /// The file is there, whole, and nothing else.
    fn assert_whole(&self) {
        assert_eq!(self.names(), ["file"]);
        assert!(std::fs::read(self.folder.path().join("file")).unwrap() == content());
    }
}

#[tokio::test]
async fn a_file_is_fetched_once_and_put_in_its_place_whole() {
    let stage = Stage::set().await;
    assert_eq!(stage.fetch("file").await, Ok(200_000));
    stage.assert_whole();
    assert_eq!(stage.fetch("file").await, Ok(0), "it is there");
    stage.write("file", b"something else");
    assert_eq!(stage.fetch("moved").await, Ok(200_000), "it was another file");
    stage.assert_whole();
}

#[tokio::test]
async fn what_broke_off_goes_on_where_it_stopped() {
    let stage = Stage::set().await;
    let error = stage.fetch("short").await.unwrap_err();
    assert!(error.contains("broke off after 150000 of 200000 bytes; try again"), "{error}");
    assert_eq!(stage.names(), ["file.part"]);
    assert_eq!(stage.fetch("file").await, Ok(50_000));
    stage.assert_whole();
}

#[tokio::test]
async fn a_server_that_cannot_resume_sends_everything() {
    let stage = Stage::set().await;
    stage.write("file.part", &content()[..1_000]);
    assert_eq!(stage.fetch("stubborn").await, Ok(200_000));
    stage.assert_whole();
}

#[tokio::test]
async fn other_bytes_are_never_put_in_place_and_not_gone_on_from() {
    let stage = Stage::set().await;
    let error = stage.fetch("other").await.unwrap_err();
    assert!(error.contains("sent other bytes: their SHA-256 is"), "{error}");
    assert_eq!(stage.names(), Vec::<String>::new());
    stage.write("file.part", &[9; 1_000]);
    assert!(stage.fetch("file").await.is_err());
    assert_eq!(stage.fetch("file").await, Ok(200_000));
    stage.assert_whole();
}

#[tokio::test]
async fn a_server_that_sends_nonsense_gets_a_clear_error() {
    let stage = Stage::set().await;
    for (how, words) in [
        ("gone", "answers 404 Not Found"),
        ("long", "sends more than 200000 bytes"),
        ("circle", "leads from one address to the next"),
    ] {
        let error = stage.fetch(how).await.unwrap_err();
        assert!(error.contains(words), "{how}: {error}");
        assert!(!stage.names().contains(&"file".to_owned()));
    }
}
