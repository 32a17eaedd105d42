//! The same pairs through a whole gateway, with the vectors of the real model: the threshold is
//! learnt on the pairs marked `tuned` and measured on those marked `held`, which no rule was made
//! for.
//!
//! Requests come in rounds. A round is a conversation of its own (its instructions are in no other
//! round, so nothing kept before it is found), in which the first wording of every pair is asked,
//! and then a shuffled stream: three of ten requests ask the same in other words, three are near
//! misses, the others have nothing to do with what was asked. Numbers that both texts of a pair
//! have are others in each round. The judge knows the labels.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Value, json};
use tidegate::embed::local::LocalEmbedder;
use tidegate::embed::{EmbedFuture, Embedded, Embedder, Embedding, Embeds};
use tidegate::meaning::LessonFigures;
use tidegate::units::MicroUsd;
use tidegate::upstream::{Transport, UpstreamRequest};
use tokio::task::JoinSet;

use super::*;
use crate::rig::{Ask, Got, Rig, read};
use crate::scripted::{Reply, scripted};
use crate::support::{eventually, sentence_model};

const CONFIG: &str = r#"
[embedders.small]
kind = "provider"
model = "chat/vectors"
dimensions = 384
[providers.other]
dialect = "openai-chat"
base_url = "sim://other/v1"
credentials = [{ none = true }]
models = [{ id = "judge" }]
[routes.faq]
targets = [{ model = "chat/alpha" }]
cache = { semantic = true, judge = "other/judge" }
"#;

/// Rounds in which the threshold must be learnt.
const ROUNDS_TO_LEARN: usize = 6;
/// Rounds in which it is measured.
const ROUNDS: usize = 5;
/// Requests after which it is waited for the judge, who would else leave some.
const AT_ONCE: usize = 100;

// === the model ===

/// The sentence model, each text once: what rounds have in common is not computed again.
#[derive(Debug)]
struct Remembering {
    model: LocalEmbedder,
    known: Mutex<HashMap<String, Embedding>>,
}

impl Remembering {
    fn open(folder: &std::path::Path) -> Arc<Self> {
        let model = LocalEmbedder::open(folder, 2).expect("a model");
        Arc::new(Self { model, known: Mutex::default() })
    }

    async fn of(&self, texts: &[&str]) -> Vec<Embedding> {
        let mut unknown: Vec<String> = {
            let known = self.known.lock();
            texts
                .iter()
                .filter(|text| !known.contains_key(**text))
                .map(|text| (*text).to_owned())
                .collect()
        };
        unknown.sort_unstable_by_key(|text| (text.len(), text.clone()));
        unknown.dedup();
        for some in unknown.chunks(32) {
            let found = self.model.embed(some.to_vec()).await.expect("vectors").vectors;
            self.known.lock().extend(some.iter().cloned().zip(found));
        }
        let known = self.known.lock();
        texts.iter().map(|text| known[*text].clone()).collect()
    }
}

impl Embeds for Remembering {
    fn embed(&self, texts: Vec<String>) -> EmbedFuture<'_> {
        Box::pin(async move {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            Ok(Embedded { vectors: self.of(&texts).await, cost: MicroUsd::default() })
        })
    }

    fn dimensions(&self) -> usize {
        self.model.dimensions()
    }

    fn space(&self) -> &str {
        self.model.space()
    }
}

// === what is true ===

/// Which texts ask the same.
#[derive(Debug, Default)]
struct Truth {
    /// By the number of a text, which is what its answer says.
    meanings: Vec<(usize, usize)>,
    texts: HashMap<String, usize>,
}

impl Truth {
    /// Takes in a text of this group and variant; its number.
    fn number(&mut self, text: &str, meaning: (usize, usize)) -> usize {
        if let Some(number) = self.texts.get(text) {
            assert_eq!(self.meanings[*number], meaning, "{text}");
            return *number;
        }
        self.meanings.push(meaning);
        self.texts.insert(text.to_owned(), self.meanings.len() - 1);
        self.meanings.len() - 1
    }

    fn text(&self, number: usize) -> &str {
        let mut texts = self.texts.iter();
        texts.find(|(_, found)| **found == number).map_or("", |(text, _)| text)
    }
}

/// The group of each text: those that are the same question, directly or by way of others.
fn groups(pairs: &[Pair]) -> HashMap<&'static str, usize> {
    let mut groups: HashMap<&str, usize> = HashMap::new();
    for text in pairs.iter().flat_map(|pair| [pair.first, pair.second]) {
        let next = groups.len();
        groups.entry(text).or_insert(next);
    }
    for pair in pairs.iter().filter(|pair| pair.same) {
        let (from, to) = (groups[pair.first], groups[pair.second]);
        groups.values_mut().filter(|group| **group == from).for_each(|group| *group = to);
    }
    groups
}

/// A pair as it is asked in a round: with other numbers, where both texts have the same.
struct Asked {
    first: String,
    second: String,
    is_changed: bool,
}

impl Asked {
    fn of(pair: &Pair, round: usize) -> Self {
        let numbers =
            |text: &'static str| text.split(' ').filter_map(number).collect::<BTreeSet<_>>();
        let found = numbers(pair.first);
        let is_changed = round > 0 && !found.is_empty() && found == numbers(pair.second);
        let [first, second] = [pair.first, pair.second].map(|text| match is_changed {
            true => text.split(' ').map(|word| other(word, round)).collect::<Vec<_>>().join(" "),
            false => text.to_owned(),
        });
        Self { first, second, is_changed }
    }
}

/// A number of two digits or more that stands alone, but for what ends a sentence.
fn number(word: &str) -> Option<u64> {
    let digits = word.trim_end_matches(['?', '.', ',', '!', '%']);
    let is_number = (2..6).contains(&digits.len()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| is_number)
}

fn other(word: &str, round: usize) -> String {
    match number(word) {
        Some(found) => {
            word.replace(&found.to_string(), &(found + 1_000 * round as u64).to_string())
        }
        None => word.to_owned(),
    }
}

/// The number of the text that an answer belongs to.
fn answered(answer: &str) -> usize {
    let number = answer.split(' ').find_map(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("{answer}"))
}

/// A provider whose one model says which text it was asked, and whose other one is a judge that
/// knows which texts ask the same. Counts what the judge found different.
fn provider(truth: &Arc<Mutex<Truth>>, different: &Arc<Mutex<u64>>) -> Arc<dyn Transport> {
    let (truth, different) = (Arc::clone(truth), Arc::clone(different));
    scripted(move |request: &UpstreamRequest| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let messages = body["messages"].as_array().unwrap();
        let text = messages.last().unwrap()["content"].as_str().unwrap();
        let truth = truth.lock();
        let said = if body["model"] == "judge" {
            let (_, material) = text.split_once('\n').unwrap();
            let (material, _) = material.split_once("\n</").unwrap();
            let material: Value = serde_json::from_str(material).unwrap();
            let meaning = |name: &str| truth.meanings[answered(material[name].as_str().unwrap())];
            let is_same = meaning("first") == meaning("second");
            *different.lock() += u64::from(!is_same);
            (if is_same { "SAME" } else { "DIFFERENT" }).to_owned()
        } else {
            format!("See number {} of the book.", truth.texts[text])
        };
        let body = json!({
            "id": "c", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [{
                "index": 0, "finish_reason": "stop",
                "message": { "role": "assistant", "content": said },
            }],
            "usage": { "prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37 },
        });
        Reply::status(200).chunk(body.to_string())
    })
}

// === the gateway ===

struct Desk {
    rig: Rig,
    router: Router,
    truth: Arc<Mutex<Truth>>,
    groups: HashMap<&'static str, usize>,
    model: Arc<Remembering>,
    /// Verdicts of the judge that two answers are different.
    different: Arc<Mutex<u64>>,
    /// Near misses that were asked so far.
    refused: BTreeSet<(&'static str, &'static str)>,
    random: StdRng,
    rounds: usize,
    _tasks: JoinSet<()>,
}

/// What came of requests.
#[derive(Debug, Default)]
struct Tally {
    /// Those of the streams, without those whose very words were known.
    requests: u64,
    /// Those of the streams that ask in other words what was asked, and those that look alike.
    same: u64,
    near: u64,
    hits: u64,
    wrong: Vec<String>,
    /// The pairs that were hits.
    pairs: BTreeSet<(String, String)>,
}

impl Desk {
    fn new(pairs: &[Pair], folder: &std::path::Path) -> Self {
        let rig = Rig::instant(CONFIG);
        let model = Remembering::open(folder);
        let embeds: Arc<dyn Embeds> = Arc::clone(&model) as _;
        let small = Embedder::new("small", Duration::from_secs(60), embeds);
        rig.gateway.set_embedders(BTreeMap::from([("small".to_owned(), small)]));
        let (truth, different) = (Arc::default(), Arc::default());
        let transport = provider(&truth, &different);
        let router = rig.over(Arc::clone(&transport));
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&rig.gateway).learn(rig.gateway.lane(transport)));
        let (groups, random) = (groups(pairs), StdRng::seed_from_u64(5));
        let (refused, rounds, _tasks) = (BTreeSet::new(), 0, tasks);
        Self { rig, router, truth, groups, model, different, refused, random, rounds, _tasks }
    }

    fn figures(&self) -> LessonFigures {
        self.rig.gateway.meanings().figures().into_iter().next().expect("a domain")
    }

    fn mode(&self) -> Option<Mode> {
        let figures = self.rig.gateway.meanings().figures();
        figures.first().map(|figures| figures.mode)
    }

    fn looked(&self, result: &str) -> u64 {
        let line = format!("tidegate_cache_semantic_lookups_total{{result=\"{result}\"}} ");
        let text = self.rig.gateway.render_metrics();
        text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
    }

    /// Waits until everything is judged that is to be judged.
    async fn settle(&self) {
        eventually(|| {
            let Some(figures) = self.rig.gateway.meanings().figures().into_iter().next() else {
                return true;
            };
            let judged = figures.counts.labelled + figures.counts.unjudged;
            judged == self.looked("compared") + self.looked("audited")
        })
        .await;
    }

    /// One round over these pairs, with texts that have nothing to do with them.
    async fn round(&mut self, pairs: &[&Pair], strangers: &[&'static str], tally: &mut Tally) {
        let round = self.rounds;
        self.rounds += 1;
        let same: Vec<&Pair> = pairs.iter().filter(|pair| pair.same).copied().collect();
        let near: Vec<&Pair> = pairs.iter().filter(|pair| !pair.same).copied().collect();
        // Round by round all of them.
        let near: Vec<&Pair> =
            near.iter().cycle().skip(round * same.len()).take(same.len()).copied().collect();
        self.refused.extend(near.iter().map(|pair| (pair.first, pair.second)));
        let chosen: Vec<Asked> =
            same.iter().chain(&near).map(|pair| self.take_in(pair, round)).collect();
        let mut firsts: Vec<&str> = chosen.iter().map(|asked| asked.first.as_str()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        let seconds = chosen.iter().map(|asked| asked.second.as_str());
        let mut stream: Vec<(&str, Option<bool>)> =
            seconds.zip(0..).map(|(text, n)| (text, Some(n < same.len()))).collect();
        let others = strangers.sample(&mut self.random, same.len() * 4 / 3);
        stream.extend(others.map(|text| (*text, None)));
        stream.shuffle(&mut self.random);
        for text in stream.iter().filter(|(_, is_same)| is_same.is_none()) {
            self.truth.lock().number(text.0, (self.groups[text.0], 0));
        }
        let all: Vec<&str> = firsts.iter().copied().chain(stream.iter().map(|it| it.0)).collect();
        self.model.of(&all).await;
        for (n, text) in firsts.iter().enumerate() {
            self.ask(round, text, tally).await;
            if n % AT_ONCE == 0 {
                self.settle().await;
            }
        }
        for (n, (text, is_same)) in stream.iter().enumerate() {
            let got = self.ask(round, text, tally).await;
            let counts = got.header("x-tidegate-cache") != "exact";
            tally.requests += u64::from(counts);
            tally.same += u64::from(counts && *is_same == Some(true));
            tally.near += u64::from(counts && *is_same == Some(false));
            tally.hits += u64::from(got.header("x-tidegate-cache") == "semantic");
            if n % AT_ONCE == 0 {
                self.settle().await;
            }
        }
        self.settle().await;
    }

    /// A pair as it is asked in this round, once it is known what it means.
    fn take_in(&self, pair: &Pair, round: usize) -> Asked {
        let asked = Asked::of(pair, round);
        let variant = if asked.is_changed { round } else { 0 };
        let mut truth = self.truth.lock();
        truth.number(&asked.first, (self.groups[pair.first], variant));
        truth.number(&asked.second, (self.groups[pair.second], variant));
        asked
    }

    async fn ask(&self, round: usize, text: &str, tally: &mut Tally) -> Got {
        let messages = json!([
            { "role": "system", "content": format!("You answer for shop {round}.") },
            { "role": "user", "content": text },
        ]);
        let ask = Ask::chat("faq", text).whole().having("messages", messages);
        let got = read(&self.router, &ask).await;
        assert_eq!(got.status, 200, "{got:#?}");
        let body = got.json();
        let from = answered(body["choices"][0]["message"]["content"].as_str().unwrap());
        let truth = self.truth.lock();
        let asked = truth.texts[text];
        match got.header("x-tidegate-cache") {
            "semantic" => {
                let kept = truth.text(from).to_owned();
                if truth.meanings[from] != truth.meanings[asked] {
                    tally.wrong.push(format!("{text:?} got the answer to {kept:?}"));
                }
                let pair =
                    if kept.as_str() < text { (kept, text.into()) } else { (text.into(), kept) };
                tally.pairs.insert(pair);
            }
            _ => assert_eq!(from, asked, "{text}"),
        }
        drop(truth);
        got
    }
}

/// Texts of these pairs, each once.
fn texts<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Vec<&'static str> {
    let texts: BTreeSet<_> = pairs.flat_map(|pair| [pair.first, pair.second]).collect();
    texts.into_iter().collect()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one course of events, printed as it goes")]
async fn a_whole_gateway_learns_on_some_pairs_and_holds_its_error_on_others() {
    let Some(folder) = sentence_model() else { return };
    let mut pairs = pairs();
    let mut desk = Desk::new(&pairs, &folder);
    // The column of the file is what the model says.
    let (one, other): (Vec<_>, Vec<_>) = pairs.iter().map(|pair| (pair.first, pair.second)).unzip();
    let (one, other) = (desk.model.of(&one).await, desk.model.of(&other).await);
    let mut furthest = 0.0_f64;
    for (pair, (one, other)) in pairs.iter_mut().zip(one.iter().zip(&other)) {
        let cosine = f64::from(one.cosine(other));
        furthest = furthest.max((cosine - pair.cosine).abs());
        assert!((cosine - pair.cosine).abs() < 0.01, "{} | {}: {cosine}", pair.first, pair.second);
        pair.cosine = cosine;
    }
    println!("{} cosines of the file, none off by more than {furthest:.5}", pairs.len());
    let (held, tuned): (Vec<&Pair>, Vec<&Pair>) = pairs.iter().partition(|pair| pair.held);
    let texts_of = |pairs: &[&Pair]| texts(pairs.iter().copied());
    let (of_held, of_tuned) = (texts_of(&held), texts_of(&tuned));

    let mut learning = Tally::default();
    let near_of_tuned = tuned.iter().filter(|pair| !pair.same).count();
    let same_of_tuned = tuned.len() - near_of_tuned;
    let is_serving = |desk: &Desk| matches!(desk.mode(), Some(Mode::Serve { .. }));
    while !is_serving(&desk) || desk.rounds * same_of_tuned < near_of_tuned {
        assert!(desk.rounds < ROUNDS_TO_LEARN, "it never comes to serve: {:?}", desk.figures());
        desk.round(&tuned, &of_held, &mut learning).await;
    }
    let figures = desk.figures();
    let Mode::Serve { threshold, bound } = figures.mode else { panic!("{figures:?}") };
    println!(
        "learnt on the tuned pairs in {} rounds: from {threshold} on, at most {:.2} % wrong by {} labels",
        desk.rounds,
        bound * 100.0,
        figures.labels
    );

    let mut tally = Tally::default();
    for _ in 0..ROUNDS {
        desk.round(&held, &of_tuned, &mut tally).await;
    }
    let figures = desk.figures();
    let Tally { requests, same, near, hits, wrong, pairs: served } = &tally;
    let bound = bounds::upper(wrong.len() as u64, *hits, 0.95);
    let rate = *hits as f64 / *requests as f64;
    let (cosine, share) = static_threshold(&held, 0.01, *near as f64 / *same as f64);
    let fixed = share * *same as f64 / *requests as f64;
    println!(
        "measured on the held pairs: {requests} requests, {same} in other words and {near} near \
         misses ({} of the file in all); {hits} hits ({:.1} %) of {} pairs, {} wrong, error per hit at most {:.2} % \
         (95 %, Clopper-Pearson; {:.2} % if each pair counts once); audited {:?}; best static \
         threshold {cosine:.4} {:.1} %, ratio {:.1}",
        desk.refused.len(),
        rate * 100.0,
        served.len(),
        wrong.len(),
        bound * 100.0,
        bounds::upper(0, served.len() as u64, 0.95) * 100.0,
        figures.audited,
        fixed * 100.0,
        rate / fixed
    );
    assert!(wrong.is_empty() && learning.wrong.is_empty(), "{wrong:#?} {:#?}", learning.wrong);
    let near_misses = pairs.iter().filter(|pair| !pair.same).count();
    assert_eq!((desk.refused.len(), *desk.different.lock()), (near_misses, 0), "all are refused");
    assert_eq!((figures.alarms, figures.counts.unjudged), (0, 0), "{figures:?}");
    assert!(bound <= 0.01, "{bound}");
    assert!(rate >= 3.0 * fixed, "{rate} against {fixed}");
}
