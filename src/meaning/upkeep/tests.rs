//! Tests of what nodes have in common over a real store of each kind.

#![expect(clippy::print_stdout, reason = "the figures are worth reading")]
#![expect(clippy::disallowed_methods, reason = "the tests' own threads")]

use sqlx::AssertSqlSafe;

use super::super::lessons::Label;
use super::super::tests::{HOUR, NOW_MS, at, domain, kept, meanings, owner, words};
use super::*;
use crate::cache::{Mark, Owner, Unkept};
use crate::ids::{RouteName, TeamId};
use crate::semantic::threshold::Mode;
use crate::store::places::places;

mod purging;

const ASK: &str = "What is a hash map?";

/// A node, whose turns the test takes.
struct Node {
    meanings: Meanings,
    rows: Rows,
    calibrations: Calibrations,
    read: Read,
    puts: mpsc::Receiver<Put>,
}

impl Node {
    fn at(store: Store) -> Self {
        let meanings = meanings();
        let puts = meanings.core.errands.to_do.lock().take().unwrap();
        let (rows, calibrations) = (Rows::new(store.clone()), Calibrations::new(store));
        Self { meanings, rows, calibrations, read: Read::default(), puts }
    }

    async fn turn(&mut self) -> Result<(), StoreError> {
        let Self { meanings, rows, calibrations, read, puts } = self;
        meanings.core.turn(rows, calibrations, read, puts).await
    }

    fn mark(&self) -> Mark {
        self.meanings.core.cache.mark()
    }

    fn keep(&self, owner: Owner, text: &str, since: Mark) -> Result<(), Unkept> {
        let (query, kept) = (words(owner.caller.as_str(), text), kept(owner, "It maps."));
        self.meanings.keep((query, "test-2"), &at(1.0), kept, since, Instant::now())
    }

    fn purge(&self, purge: &Purge) -> u64 {
        self.meanings.core.cache.purge(purge)
    }

    fn has(&self, caller: &str, text: &str) -> bool {
        let query = words(caller, text);
        let id = Entries::id_of(query.namespace, &query.text);
        self.meanings.core.entries.read().has(id, 0)
    }

    async fn rows(&self) -> usize {
        let (mut cursor, mut kept) = (Cursor::default(), 0);
        loop {
            let (changes, next) = self.rows.changes(cursor, 100).await.unwrap();
            if next == cursor {
                return kept;
            }
            kept += changes.iter().filter(|change| matches!(change, Change::Kept(..))).count();
            cursor = next;
        }
    }

    fn learn(&self, tenant: &str, labels: usize) {
        for _ in 0..labels {
            let label = Label { similarity: 0.95, same: true, is_audit: false };
            self.meanings.core.lessons.lock().learn(&domain(tenant), label);
        }
    }

    fn labels(&self) -> Vec<u64> {
        self.meanings.figures().iter().map(|figures| figures.labels).collect()
    }
}

#[test]
fn what_is_written_for_the_store_is_read_as_it_was_and_nothing_else_is() {
    let kept = kept(owner("ann"), "It\nmaps.");
    let bytes = written("What\nis é?", &kept).unwrap();
    assert_eq!(read(&bytes), Some(("What\nis é?".to_owned(), kept)));
    for cut in 0..bytes.len() {
        assert_eq!(read(&bytes[..cut]), None, "{cut}");
    }
    for evil in ["-1\n", "18446744073709551616\n", "18446744073709551615\nx", "\n", "9\nWhat"] {
        assert_eq!(read(evil.as_bytes()), None, "{evil}");
    }
}

#[tokio::test]
async fn a_node_that_starts_later_has_what_others_kept() {
    for place in places() {
        let mut here = Node::at(place.store.clone());
        here.keep(owner("ann"), ASK, here.mark()).unwrap();
        here.turn().await.unwrap();
        assert_eq!(here.meanings.writes()[0], ("written", 1));
        let mut there = Node::at(place.again());
        there.turn().await.unwrap();
        let nearest = there.meanings.core.entries.read().nearest(
            &words("ann", "What's a hash map?"),
            &at(0.9),
            Instant::now(),
            |_| true,
        );
        let super::super::Nearest::Agrees(found) = nearest else { panic!("{nearest:?}") };
        assert_eq!((found.kept, &*found.text), (kept(owner("ann"), "It maps."), ASK));
        assert!(!there.has("bob", ASK));
        // And it goes with the one who removes it.
        here.purge(&Purge::default());
        here.turn().await.unwrap();
        there.turn().await.unwrap();
        assert_eq!(
            there.meanings.fill(),
            super::super::Fill { entries: 0, bytes: 0, ..there.meanings.fill() }
        );
    }
}

#[tokio::test]
async fn nothing_is_given_past_its_time_on_any_node() {
    for place in places() {
        let mut here = Node::at(place.store.clone());
        let mut kept = kept(owner("ann"), "It maps.");
        kept.head.ttl = Duration::from_millis(1_500);
        let (query, since) = (words("ann", ASK), here.mark());
        here.meanings.keep((query, "test-2"), &at(1.0), kept, since, Instant::now()).unwrap();
        here.turn().await.unwrap();
        let mut there = Node::at(place.again());
        there.turn().await.unwrap();
        let entries = there.meanings.core.entries.read();
        let until =
            entries.ids_of(|_, until| until <= Instant::now() + Duration::from_millis(1_500));
        assert_eq!(until.len(), 1, "what has passed is not added");
        let found = entries.nearest(
            &words("ann", ASK),
            &at(1.0),
            Instant::now() + Duration::from_millis(1_500),
            |_| true,
        );
        assert!(matches!(found, super::super::Nearest::Nothing), "{found:?}");
    }
}

/// Takes turns until the store answers.
async fn recover(node: &mut Node) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..50 {
        ticks.tick().await;
        if node.turn().await.is_ok() {
            return;
        }
    }
    node.turn().await.unwrap();
}

#[tokio::test]
async fn more_than_can_wait_is_dropped_and_counted() {
    let here = Node::at(places().remove(0).store.clone());
    for n in 0..MOST_PUTS + 3 {
        here.keep(owner("ann"), &format!("What is number {n}?"), here.mark()).unwrap();
    }
    assert_eq!(here.meanings.writes(), [("written", 0), ("dropped", 3), ("failed", 0)]);
}

#[tokio::test]
async fn labels_of_nodes_come_together_and_a_node_that_was_away_catches_up() {
    for place in places() {
        let (mut one, mut other) = (Node::at(place.store.clone()), Node::at(place.again()));
        for _ in 0..10 {
            one.learn("key ann", 30);
            other.learn("key ann", 31);
            other.learn("key bob", 1);
            one.turn().await.unwrap();
            other.turn().await.unwrap();
        }
        for _ in 0..2 {
            one.turn().await.unwrap();
            other.turn().await.unwrap();
        }
        assert_eq!((one.labels(), other.labels()), (vec![610, 10], vec![610, 10]));
        // Neither has enough for itself.
        for node in [&one, &other] {
            let [ann, _] = node.meanings.figures().try_into().unwrap();
            assert!(matches!(ann.mode, Mode::Serve { .. }), "{ann:?}");
        }
        let mut late = Node::at(place.again());
        late.turn().await.unwrap();
        assert_eq!(late.labels(), [610, 10]);
        assert_eq!(late.meanings.figures()[0].mode, one.meanings.figures()[0].mode);
    }
}

#[tokio::test]
async fn nodes_that_write_at_once_lose_no_label() {
    for place in places() {
        let nodes = (0..4).map(|_| Node::at(place.again()));
        let tasks: Vec<_> = nodes
            .map(|mut node| {
                tokio::spawn(async move {
                    for _ in 0..15 {
                        node.learn("key ann", 3);
                        node.turn().await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    node
                })
            })
            .collect();
        let mut nodes = Vec::new();
        for task in tasks {
            nodes.push(task.await.unwrap());
        }
        for _ in 0..3 {
            for node in &mut nodes {
                node.turn().await.unwrap();
            }
        }
        for node in &nodes {
            assert_eq!(node.labels(), [180]);
            assert_eq!(node.meanings.figures()[0].counts.lost_labels, 0);
        }
    }
}

#[tokio::test]
async fn what_another_version_wrote_is_left_out_and_left_there() {
    for place in places() {
        let mut here = Node::at(place.store.clone());
        here.learn("key ann", 2);
        here.learn("key bob", 2);
        here.turn().await.unwrap();
        let id = domain("key ann").key().to_hex();
        let change = |column: &str, value: &str, id: &str| {
            format!(
                "UPDATE semantic_calibrations SET {column} = '{value}', version = 7 WHERE id = '{id}'"
            )
        };
        let run = async |sql: String| {
            let mut connection = place.store.writer().await.unwrap();
            let connection = &mut *connection as &mut sqlx::AnyConnection;
            sqlx::query(AssertSqlSafe(sql)).execute(connection).await.unwrap();
        };
        run(change("state", "{\"of\": \"tomorrow\"}", &id)).await;
        run(change("terms", "{}", &domain("key bob").key().to_hex())).await;
        let mut there = Node::at(place.again());
        there.turn().await.unwrap();
        assert!(there.labels().is_empty());
        there.learn("key ann", 1);
        for _ in 0..3 {
            there.turn().await.unwrap();
        }
        assert_eq!(there.labels(), [1]);
        let found = there.calibrations.find(&domain("key ann")).await.unwrap();
        assert!(matches!(found, Found::Unreadable), "{found:?}");
    }
}

#[tokio::test]
async fn a_store_that_was_emptied_is_filled_again() {
    for place in places() {
        let mut here = Node::at(place.store.clone());
        for _ in 0..4 {
            here.learn("key ann", 2);
            here.turn().await.unwrap();
        }
        let mut connection = place.store.writer().await.unwrap();
        let emptied = sqlx::query("DELETE FROM semantic_calibrations");
        emptied.execute(&mut *connection as &mut sqlx::AnyConnection).await.unwrap();
        drop(connection);
        here.learn("key ann", 1);
        here.turn().await.unwrap();
        here.turn().await.unwrap();
        let mut there = Node::at(place.again());
        there.turn().await.unwrap();
        assert_eq!((here.labels(), there.labels()), (vec![9], vec![9]));
    }
}

#[tokio::test]
async fn a_row_that_is_not_where_it_belongs_is_not_taken_over() {
    for place in places() {
        let mut here = Node::at(place.store.clone());
        let (ann, bob) = (words("ann", ASK), words("bob", ASK));
        let kept = kept(owner("ann"), "It maps.");
        let Put { entry, .. } = Put::of((&ann, "test-2"), &at(1.0), &kept);
        let rows = [
            Entry { namespace: bob.namespace.to_hex(), ..entry.clone() },
            Entry { id: EntryId::of(1), namespace: "bob".to_owned(), ..entry.clone() },
            Entry { id: EntryId::of(2), answer: b"99999\nx".to_vec(), ..entry },
        ];
        for row in &rows {
            here.rows.put(row, HOUR).await.unwrap();
        }
        here.turn().await.unwrap();
        assert_eq!(here.meanings.fill().entries, 0);
        // What cannot be read goes with every purge.
        here.purge(&Purge { caller: Some("eve".to_owned()), ..Purge::default() });
        here.turn().await.unwrap();
        assert_eq!(here.rows().await, 2);
    }
}

#[tokio::test]
async fn thousands_of_rows_are_loaded_in_seconds_and_not_read_over_and_over() {
    for place in places() {
        let mut here = Node::at(place.store.clone());
        for n in 0..5_000 {
            here.keep(owner("ann"), &format!("What is number {n}?"), here.mark()).unwrap();
            if n % 1_000 == 999 {
                here.turn().await.unwrap();
            }
        }
        let mut there = Node::at(place.again());
        let started = Instant::now();
        there.turn().await.unwrap();
        let took = started.elapsed();
        println!("{:?}: 5000 rows loaded in {took:?}", place.store.kind());
        assert_eq!(there.meanings.fill().entries, 5_000);
        assert!(took < Duration::from_secs(60), "{took:?}");
        let (read, moved_at) = (there.read.entries, there.read.moved_at);
        there.turn().await.unwrap();
        assert_eq!((there.read.entries, there.read.moved_at), (read, moved_at));
    }
}

#[tokio::test]
async fn sweeping_takes_out_what_is_past_its_time() {
    for place in places() {
        let here = Node::at(place.store.clone());
        let mut kept = kept(owner("ann"), "It maps.");
        kept.head.ttl = Duration::ZERO;
        assert_eq!(kept.head.made_at_ms, NOW_MS);
        let (query, since) = (words("ann", ASK), here.mark());
        here.meanings.keep((query, "test-2"), &at(1.0), kept, since, Instant::now()).unwrap();
        here.keep(owner("ann"), "What is a set?", here.mark()).unwrap();
        here.meanings.core.sweep(&here.rows, &here.calibrations).await;
        assert_eq!(here.meanings.fill().entries, 1);
        assert!(here.has("ann", "What is a set?"));
    }
}
