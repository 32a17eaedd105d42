//! Tests of the sender, with receivers on real sockets and names that stand for what a test wants.

use std::collections::HashMap;

use parking_lot::Mutex;
use standardwebhooks::Webhook;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::clock::SystemWallClock;
use crate::ids::CallerId;
use crate::jobs::{Delivery, End, JobResult, JobSettings, NewJob, NewWebhook, Particulars};
use crate::policy::job::JobState;
use crate::store::Store;
use crate::units::Priority;
use crate::webhook::signature::SigningSecret;

/// A receiver that answers each webhook with the next of its answers, and keeps what it got.
#[derive(Clone)]
struct Endpoint {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

#[derive(Debug, Clone)]
struct Got {
    headers: HeaderMap,
    head: String,
    body: String,
}

impl Endpoint {
    /// The last answer is repeated.
    async fn new(tasks: &Tasks, answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let kept = Arc::clone(&got);
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = Vec::new();
                let whole = loop {
                    if stream.read_buf(&mut bytes).await.unwrap() == 0 {
                        break None;
                    }
                    if let Some(got) = Got::parse(&bytes) {
                        break Some(got);
                    }
                };
                let Some(whole) = whole else { continue };
                let number = {
                    let mut kept = kept.lock();
                    kept.push(whole);
                    kept.len() - 1
                };
                let answer = answers.get(number).or(answers.last()).unwrap();
                let reply = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        });
        Self { address, got }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().clone()
    }
}

impl Got {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut headers = HeaderMap::new();
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(": ")?;
            headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let length: usize = headers.get("content-length")?.to_str().unwrap().parse().unwrap();
        let (head, body) = (head.to_owned(), body.to_owned());
        (body.len() >= length).then_some(Self { headers, head, body })
    }
}

/// A store, and a sender of it.
struct Bench {
    jobs: Jobs,
    store: Store,
    tasks: Tasks,
    names: Arc<Mutex<HashMap<String, Vec<IpAddr>>>>,
    asked: Arc<Mutex<u32>>,
    _close: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// Names stand for addresses; webhooks may go to these networks although they are private.
    fn new(names: &[(&str, &[&str])], allow_private: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/tidegate.db", folder.path().display());
        let store = Store::new(url.parse().unwrap());
        let jobs = Jobs::new(store.clone());
        let names: HashMap<String, Vec<IpAddr>> = names
            .iter()
            .map(|(name, ips)| {
                ((*name).to_owned(), ips.iter().map(|ip| ip.parse().unwrap()).collect())
            })
            .collect();
        let (names, asked) = (Arc::new(Mutex::new(names)), Arc::new(Mutex::new(0)));
        let (known, count) = (Arc::clone(&names), Arc::clone(&asked));
        let resolve: Resolve = Arc::new(move |host| {
            *count.lock() += 1;
            let found = known.lock().get(&host).cloned();
            Box::pin(async move { found.ok_or_else(|| std::io::Error::other("no such name")) })
        });
        let settings = WebhookSettings {
            allow_private: allow_private.iter().map(|text| text.parse().unwrap()).collect(),
            ..WebhookSettings::default()
        };
        let (metrics, clock) = (Arc::new(Metrics::new()), Arc::new(SystemWallClock));
        let sender = Sender::new(jobs.clone(), resolve, move || settings.clone(), clock, metrics);
        let (close, closing) = watch::channel(false);
        let tasks = Tasks::new();
        tasks.spawn(sender.run(closing));
        Self { jobs, store, tasks, names, asked, _close: close, _folder: folder }
    }

    /// Ends a job of which this URL is to be told; its id.
    async fn end_job(&self, url: &str, secret: Option<SigningSecret>) -> String {
        let webhook = NewWebhook { receiver: url.parse().unwrap(), secret };
        let new = NewJob {
            caller: CallerId::anonymous(),
            endpoint: "/v1/chat/completions",
            priority: Priority::LOWEST,
            expires_in_ms: 60_000,
            particulars: Particulars::default(),
            metadata: "{}".to_owned(),
            body: Bytes::from_static(b"{}"),
            webhook: Some(webhook),
        };
        let id = self.jobs.submit(new, &JobSettings::default(), 1).await.unwrap().job.id;
        let taken = self.jobs.take(&mut Turns::default(), 1, 1, "w", 60_000).await.unwrap();
        let body = Bytes::from_static(b"{}");
        let result = JobResult { status: 200, headers: Vec::new(), body };
        let end = End { state: JobState::Succeeded, result: Some(result), error: None };
        assert!(self.jobs.end(&taken[0].held, &end).await.unwrap());
        id
    }

    async fn delivery(&self, job: &str) -> Delivery {
        self.jobs.find(&CallerId::anonymous(), job).await.unwrap().unwrap().delivery.unwrap()
    }

    /// The webhook of a job once it is as wanted.
    async fn until(&self, job: &str, is_so: impl Fn(&Delivery) -> bool) -> Delivery {
        let wait = async {
            loop {
                let delivery = self.delivery(job).await;
                if is_so(&delivery) {
                    return delivery;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it becomes so")
    }

    /// Makes everything due, as if time had passed.
    async fn time_passes(&self) {
        let mut connection = self.store.writer().await.unwrap();
        let sql = "UPDATE webhook_deliveries SET run_after_ms = 0";
        sqlx::query(sql).execute(&mut *connection).await.unwrap();
    }
}

#[tokio::test]
async fn a_webhook_is_signed_and_repeated_under_the_same_id_until_it_is_taken() {
    let bench = Bench::new(&[("in.house", &["127.0.0.1"])], &["127.0.0.0/8"]);
    let answers = &["500 Oops", "301 Moved\r\nlocation: http://10.0.0.1/", "204 No Content"];
    let endpoint = Endpoint::new(&bench.tasks, answers).await;
    let url = format!("http://in.house:{}/hook?a=b", endpoint.address.port());
    let secret = SigningSecret::of(&[5; 32]);
    let job = bench.end_job(&url, Some(secret.clone())).await;

    let failed = bench.until(&job, |delivery| delivery.last_status == Some(500)).await;
    assert_eq!((&*failed.state, failed.attempts), ("queued", 1));
    bench.time_passes().await;
    let moved = bench.until(&job, |delivery| delivery.last_status == Some(301)).await;
    assert_eq!((&*moved.state, moved.attempts), ("queued", 2), "a redirect is no success");
    bench.time_passes().await;
    let delivered = bench.until(&job, |delivery| delivery.state == "succeeded").await;
    assert_eq!((delivered.attempts, delivered.last_status), (3, Some(204)));

    let got = endpoint.got();
    assert_eq!(got.len(), 3, "nobody else was asked");
    for got in &got {
        assert!(got.head.starts_with("POST /hook?a=b HTTP/1.1\r\nhost: in.house:"), "{}", got.head);
        assert_eq!(got.headers["webhook-id"], delivered.id.as_str());
        Webhook::new(secret.reveal()).unwrap().verify(got.body.as_bytes(), &got.headers).unwrap();
    }
}

#[tokio::test]
async fn names_that_stand_for_addresses_of_the_inside_are_not_connected_to() {
    let bench = Bench::new(
        &[
            ("rebound.example", &["127.0.0.1"]),
            ("mapped.example", &["::ffff:169.254.169.254"]),
            ("mixed.example", &["8.8.8.8", "10.0.0.1"]),
            ("empty.example", &[]),
        ],
        &[],
    );
    let endpoint = Endpoint::new(&bench.tasks, &["200 OK"]).await;
    let port = endpoint.address.port();
    for (host, why) in [
        ("rebound.example", "is 127.0.0.1"),
        ("mapped.example", "is ::ffff:169.254.169.254"),
        ("mixed.example", "is 10.0.0.1"),
        ("empty.example", "no address"),
        ("unknown.example", "cannot resolve"),
    ] {
        let job = bench.end_job(&format!("https://{host}:{port}/"), None).await;
        let failed = bench.until(&job, |delivery| delivery.last_error.is_some()).await;
        assert!(failed.last_error.unwrap().contains(why), "{host}");
        assert_eq!((failed.last_status, &*failed.state), (None, "queued"));
    }
    // What was accepted while the operator allowed it.
    let literal = format!("https://2130706433:{port}/");
    let job = bench.end_job(&literal, None).await;
    let failed = bench.until(&job, |delivery| delivery.last_error.is_some()).await;
    assert!(failed.last_error.unwrap().contains("webhooks.allow_private"));
    assert!(endpoint.got().is_empty(), "nobody was connected to");
}

/// The name is asked once, and what it stands for by then is what is connected to.
#[tokio::test]
async fn the_connection_is_made_to_the_address_that_was_checked() {
    let bench = Bench::new(&[("turning.example", &["127.0.0.1"])], &["127.0.0.1"]);
    let endpoint = Endpoint::new(&bench.tasks, &["503 Busy\r\nretry-after: 1", "200 OK"]).await;
    let url = format!("http://turning.example:{}/", endpoint.address.port());
    let job = bench.end_job(&url, None).await;
    bench.until(&job, |delivery| delivery.last_status == Some(503)).await;
    assert_eq!(*bench.asked.lock(), 1);
    bench.names.lock().insert("turning.example".to_owned(), vec!["10.0.0.1".parse().unwrap()]);
    bench.time_passes().await;
    let failed = bench.until(&job, |delivery| delivery.attempts == 2 && delivery.state == "queued");
    assert!(failed.await.last_error.unwrap().contains("is 10.0.0.1"));
    assert_eq!(endpoint.got().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_is_gone_gets_nothing_more() {
    let bench = Bench::new(&[], &["127.0.0.1"]);
    let endpoint = Endpoint::new(&bench.tasks, &["410 Gone"]).await;
    let url = format!("http://{}/", endpoint.address);
    let first = bench.end_job(&url, None).await;
    let gone = bench.until(&first, |delivery| delivery.state == "failed").await;
    assert_eq!((gone.attempts, gone.last_status), (1, Some(410)));
    let second = bench.end_job(&url, None).await;
    let given_up = bench.until(&second, |delivery| delivery.state == "failed").await;
    assert!(given_up.last_error.unwrap().contains("switched off"));
    assert_eq!(endpoint.got().len(), 1);
}
