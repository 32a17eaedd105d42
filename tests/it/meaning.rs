//! Answers that are given to other words: not before labels have proven them, never to whom they do
//! not belong, and no longer when audits speak against it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::embed::{EmbedError, EmbedFuture, Embedded, Embedder, Embedding, Embeds};
use tidegate::meaning::{LessonFigures, Trial};
use tidegate::semantic::threshold::Mode;
use tidegate::units::MicroUsd;
use tokio::task::JoinSet;

use crate::rig::{Ask, Got, Rig};

mod failures;
mod poison;
mod served;

const ROUTES: &str = r#"
[embedders.small]
kind = "provider"
model = "priced/vectors"
dimensions = 64
[providers.priced]
dialect = "openai-chat"
base_url = "sim://priced/v1"
credentials = [{ none = true }]
models = [
  { id = "alpha", usd_per_million = { input = "1", output = "10" } },
  { id = "judge", usd_per_million = { input = "1", output = "10" } },
  { id = "vectors", kind = "embedding", usd_per_million = { input = "1" } },
]
[routes.faq]
targets = [{ model = "priced/alpha" }]
cache = { semantic = true, judge = "priced/judge" }
[routes.watched]
targets = [{ model = "priced/alpha" }]
cache = { semantic = true, judge = "priced/judge", shadow = true }
"#;

const TIMEOUT: Duration = Duration::from_secs(1);
/// Labels after which a clean record has proven itself, see `threshold::Settings`.
const ENOUGH: u32 = 600;

/// What the judge is to say of questions with these words in them.
const SAME: &str = "[[sim:on=judge,say=SAME]]";
const DIFFERENT: &str = "[[sim:on=judge,say=DIFFERENT]]";

/// Texts to vectors by the first number in them: those with the same one are near each other.
#[derive(Debug, Default)]
struct Numbers {
    state: AtomicU8,
    embedded: AtomicU64,
}

const WELL: u8 = 0;
const FAILING: u8 = 1;
const HANGING: u8 = 2;

impl Embeds for Numbers {
    fn embed(&self, texts: Vec<String>) -> EmbedFuture<'_> {
        Box::pin(async move {
            self.embedded.fetch_add(texts.len() as u64, Ordering::Relaxed);
            match self.state.load(Ordering::Relaxed) {
                FAILING => return Err(EmbedError::Failed { detail: "as told".to_owned() }),
                HANGING => std::future::pending().await,
                _ => {}
            }
            let vectors = texts.iter().map(|text| vector(text)).collect();
            Ok(Embedded { vectors, cost: MicroUsd(7) })
        })
    }

    fn dimensions(&self) -> usize {
        64
    }

    fn space(&self) -> &str {
        "numbers"
    }
}

fn vector(text: &str) -> Embedding {
    let digits = text.chars().skip_while(|c| !c.is_ascii_digit());
    let number: String = digits.take_while(char::is_ascii_digit).collect();
    let mut topic = StdRng::seed_from_u64(number.parse().unwrap_or(0));
    let mut noise = StdRng::seed_from_u64(
        text.bytes().fold(7, |sum, byte| sum * 31 % 65_521 + u64::from(byte)),
    );
    let values =
        (0..64).map(|_| topic.random_range(-1.0..1.0) + 0.1 * noise.random_range(-1.0..1.0));
    Embedding::towards(values.collect()).unwrap()
}

/// A gateway whose semantic cache learns.
struct Learner {
    rig: Rig,
    embedder: Arc<Numbers>,
    _tasks: JoinSet<()>,
}

// === impl Learner ===

impl Learner {
    fn new() -> Self {
        Self::with("")
    }

    /// With more in the configuration.
    fn with(more: &str) -> Self {
        let rig = Rig::instant(&format!("{ROUTES}{more}"));
        let embedder = Arc::new(Numbers::default());
        let small = Embedder::new("small", TIMEOUT, Arc::clone(&embedder) as Arc<dyn Embeds>);
        rig.gateway.set_embedders(BTreeMap::from([("small".to_owned(), small)]));
        let mut tasks = JoinSet::new();
        let lane = rig.gateway.lane(Arc::new(rig.sim.clone()));
        tasks.spawn(Arc::clone(&rig.gateway).learn(lane));
        Self { rig, embedder, _tasks: tasks }
    }

    /// One that has learnt to give answers.
    async fn proven() -> Self {
        let learner = Self::new();
        learner.pair(0, SAME).await;
        learner.teach();
        learner
    }

    /// Gives each domain as many good labels as prove it. That requests lead to such labels is
    /// shown once, by the first test; here it would only take its time.
    fn teach(&self) {
        let meanings = self.rig.gateway.meanings();
        for figures in meanings.figures() {
            let said = |text: &str| text.to_owned();
            let trial = Trial {
                domain: figures.domain,
                question: "".into(),
                kept: said("one"),
                fresh: said("two"),
                similarity: 0.97,
                is_audit: false,
            };
            (0..ENOUGH).for_each(|_| meanings.learn(&trial, true));
        }
        assert!(meanings.figures().iter().all(|figures| figures.mode != Mode::Shadow));
    }

    /// Asks the same in two ways, and waits until it was judged.
    async fn pair(&self, number: u32, verdict: &str) -> Got {
        let (first, second) = wordings(number, verdict);
        self.rig.ask(&Ask::chat("faq", &first).whole()).await;
        let got = self.rig.ask(&Ask::chat("faq", &second).whole()).await;
        self.settled().await;
        got
    }

    /// Waits until nothing is left to be judged.
    async fn settled(&self) {
        // The clock stands still until all there is to do is done.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn figures(&self) -> LessonFigures {
        self.rig.gateway.meanings().figures().into_iter().next().expect("a domain")
    }

    fn mode(&self) -> Mode {
        let figures = self.rig.gateway.meanings().figures();
        figures.first().map_or(Mode::Shadow, |figures| figures.mode)
    }

    fn looked(&self, result: &str) -> u64 {
        let line = format!("tidegate_cache_semantic_lookups_total{{result=\"{result}\"}} ");
        let text = self.rig.gateway.render_metrics();
        let found = text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok());
        found.unwrap_or(0)
    }
}

/// The same question twice, in other words.
fn wordings(number: u32, verdict: &str) -> (String, String) {
    let first = format!("How do I reset the password of account {number}? {verdict}");
    let second = format!("Hi, how can I reset the password of account {number}, please? {verdict}");
    (first, second)
}

fn cache(got: &Got) -> &str {
    assert_eq!(got.status, 200, "{got:#?}");
    got.header("x-tidegate-cache")
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_given_to_other_words_once_that_is_proven_and_not_before() {
    let learner = Learner::new();
    let mut asked = 0;
    while learner.mode() == Mode::Shadow {
        assert_eq!(cache(&learner.pair(asked, SAME).await), "miss", "{asked}");
        asked += 1;
    }
    let figures = learner.figures();
    let Mode::Serve { threshold, bound } = figures.mode else { panic!("{figures:?}") };
    println!("serves from {threshold} after {asked} labels, at most {bound:.4} of hits are wrong");
    assert!(bound <= 0.01 && asked >= 459, "{asked} labels, {bound}");
    assert_eq!(figures.counts.hits, 0);

    let (first, second) = wordings(9_999, SAME);
    let paid = learner.rig.ask(&Ask::chat("faq", &first).whole()).await;
    // One of thirty hits is audited.
    let asks = [Ask::chat("faq", &second).whole(), Ask::chat("faq", &second)];
    for ask in asks {
        let got = learner.rig.ask(&ask).await;
        assert_eq!(cache(&got), "semantic");
        let similarity: f64 = got.header("x-tidegate-cache-similarity").parse().unwrap();
        assert!((0.9..1.0).contains(&similarity), "{similarity}");
        assert_eq!(got.header("age"), "0");
        assert_eq!(got.header("x-tidegate-attempts"), "0");
        assert_eq!(got.header("x-tidegate-served-by"), "priced/alpha");
        let said = match got.body.starts_with('{') {
            true => got.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned(),
            false => got.text(),
        };
        assert_eq!(paid.json()["choices"][0]["message"]["content"], said.as_str());
    }
    let figures = learner.figures();
    assert_eq!(figures.counts.hits, 2);
    assert!(figures.counts.saved > MicroUsd(0) && figures.counts.judging > MicroUsd(0));
    assert!(figures.counts.embedding >= MicroUsd(7 * u64::from(asked)));
    assert_eq!(figures.domain.terms.route.as_str(), "faq");
    let rig = learner.rig;
    drop(learner._tasks);
    let journal = rig.journal().await;
    let given: Vec<_> =
        journal.iter().filter(|entry| entry.reuse.as_deref() == Some("semantic")).collect();
    assert_eq!(given.len(), 2);
    assert!(given.iter().all(|entry| entry.cost.0 == 0 && entry.saved.0 > 0), "{given:#?}");
}

#[tokio::test(start_paused = true)]
async fn what_only_looks_alike_is_refused_whatever_was_proven() {
    let learner = Learner::proven().await;
    let question = format!("How do I reset the password of account 7000 within 3 days? {SAME}");
    learner.rig.ask(&Ask::chat("faq", &question).whole()).await;
    let near = [
        question.replace("3 days", "5 days"),
        question.replace("3 days", "3 hours"),
        question.replace("do I reset", "do I not reset"),
        question.replace("password", "user name"),
        question.replace("How do I", "Why do I"),
        question.replace("account", "\"account\""),
        question.replace("within", "after"),
    ];
    for text in near {
        assert_eq!(
            cache(&learner.rig.ask(&Ask::chat("faq", &text).whole()).await),
            "miss",
            "{text}"
        );
    }
    assert_eq!(learner.figures().counts.hits, 0);
}

#[tokio::test(start_paused = true)]
async fn callers_have_their_say_and_other_requests_of_the_route_are_apart() {
    let learner = Learner::proven().await;
    let (first, second) = wordings(8_000, SAME);
    learner.rig.ask(&Ask::chat("faq", &first).whole()).await;
    let plain = || Ask::chat("faq", &second).whole();
    let others = [
        plain().with("x-tidegate-cache", "off"),
        plain().with("x-tidegate-cache", "exact").having("seed", 1.into()),
        plain().with("cache-control", "no-store"),
        plain().with("cache-control", "max-age=0").having("seed", 2.into()),
        plain().having("max_tokens", 99.into()),
        plain().having("temperature", 0.1.into()),
        plain().having("stop", "x".into()),
        Ask::chat("watched", &second).whole(),
    ];
    for ask in &others {
        assert_eq!(cache(&learner.rig.ask(ask).await), "miss", "{ask:?}");
    }
    let rig = Learner::proven().await;
    rig.rig.ask(&Ask::chat("faq", &first).whole()).await;
    let wishes = plain().with("x-tidegate-cache", "semantic");
    assert_eq!(cache(&rig.rig.ask(&wishes).await), "semantic");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_only_watched_learns_and_gives_nothing() {
    let learner = Learner::new();
    for number in 0..10 {
        let (first, second) = wordings(number, SAME);
        learner.rig.ask(&Ask::chat("watched", &first).whole()).await;
        let got = learner.rig.ask(&Ask::chat("watched", &second).whole()).await;
        assert_eq!(cache(&got), "miss");
        learner.settled().await;
        if number == 4 {
            learner.teach();
        }
    }
    let figures = learner.figures();
    assert!(matches!(figures.mode, Mode::Serve { .. }), "it would have: {figures:?}");
    assert_eq!(figures.counts.hits, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_purged_is_given_to_no_words() {
    let learner = Learner::proven().await;
    let (first, second) = wordings(8_000, SAME);
    learner.rig.ask(&Ask::chat("faq", &first).whole()).await;
    let purge = tidegate::cache::Purge { route: Some("faq".to_owned()), ..Default::default() };
    assert!(learner.rig.gateway.cache().purge(&purge) > 1);
    assert_eq!(learner.rig.gateway.meanings().fill().entries, 0);
    assert_eq!(learner.rig.gateway.meanings().fill().bytes, 0);
    assert_eq!(cache(&learner.rig.ask(&Ask::chat("faq", &second).whole()).await), "miss");
}

#[tokio::test(start_paused = true)]
async fn audits_end_the_giving_when_answers_turn_wrong() {
    let learner = Learner::proven().await;
    let (mut given, mut asked) = (0_u32, 10_000);
    // From now on all of them would be wrong.
    while matches!(learner.mode(), Mode::Serve { .. }) {
        given += u32::from(cache(&learner.pair(asked, DIFFERENT).await) == "semantic");
        asked += 1;
        assert!(given < 1_000, "still given");
    }
    let figures = learner.figures();
    println!("{given} wrong answers were given before audits ended it");
    assert_eq!((figures.alarms, figures.audited), (1, None));
    assert_eq!(figures.labels, 1, "everything before is forgotten");
    for number in 20_000..20_010 {
        assert_eq!(cache(&learner.pair(number, SAME).await), "miss");
    }
}
