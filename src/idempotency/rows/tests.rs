//! The statements against a real store. The same questions are put to every kind.

use super::*;
use crate::store::places::places;

const TTL: Duration = Duration::from_secs(3_600);

/// A claim of a row of its own.
fn claim(key: u8, body: &[u8]) -> Claim {
    let fingerprint = Fingerprint::of(body, []);
    let request_id = RequestId::new(format!("req_{key}"));
    Claim { id: RowId([key; 32]), caller: CallerId::new("ann"), fingerprint, request_id }
}

fn kept(body: Option<&'static [u8]>) -> Kept {
    let headers = vec![("content-type".to_owned(), "text/plain; x=\"é\"".to_owned())];
    Kept { status: 200, headers, body: body.map(Bytes::from_static) }
}

/// The same store as two processes see it.
fn two(store: &Store) -> [Rows; 2] {
    ["ours", "theirs"].map(|owner| Rows::new(store.clone(), Owner::new(owner)))
}

async fn ours(rows: &Rows, claim: &Claim) -> (Fence, bool) {
    let claimed = rows.claim(claim, TTL).await.unwrap();
    let Claimed::Ours { fence, taken_over } = claimed else { panic!("{claimed:?}") };
    (fence, taken_over)
}

/// Moves all times of a row back.
async fn age(rows: &Rows, id: RowId, by: Duration) {
    let sql = "UPDATE idempotency SET lease_until_ms = lease_until_ms - $1, \
               expires_at_ms = expires_at_ms - $1 WHERE id = $2";
    let mut connection = rows.store.writer().await.unwrap();
    let by = i64::try_from(by.as_millis()).unwrap();
    let aged = sqlx::query(sql)
        .bind(by)
        .bind(id.0.to_vec())
        .execute(&mut *connection as &mut AnyConnection)
        .await;
    assert_eq!(aged.unwrap().rows_affected(), 1);
}

/// From the claim to a replay, and away again.
async fn a_life(store: &Store) {
    let [here, there] = two(store);
    let ask = claim(1, b"{}");
    let (fence, taken_over) = ours(&here, &ask).await;
    assert!(!taken_over);
    for rows in [&here, &there] {
        assert_eq!(rows.claim(&ask, TTL).await.unwrap(), Claimed::Running { token: fence.token });
        assert_eq!(rows.claim(&claim(1, b"[]"), TTL).await.unwrap(), Claimed::Mismatch);
    }
    assert_eq!(here.renew(&[fence]).await.unwrap(), []);
    assert_eq!(there.renew(&[fence]).await.unwrap(), [fence], "it is the owner's alone");
    assert!(here.finish(fence, &kept(Some(b"\0\xff body")), TTL).await.unwrap());
    assert!(here.finish(fence, &kept(Some(b"\0\xff body")), TTL).await.unwrap(), "again");
    assert_eq!(here.renew(&[fence]).await.unwrap(), [fence], "what is done needs no lease");
    for rows in [&here, &there] {
        let done = Claimed::Done(kept(Some(b"\0\xff body")));
        assert_eq!(rows.claim(&ask, TTL).await.unwrap(), done);
        assert_eq!(rows.claim(&claim(1, b"[]"), TTL).await.unwrap(), Claimed::Mismatch);
    }
    // Long after its end it is as if it had never been, whatever is asked for then.
    age(&here, ask.id, TTL).await;
    let (_, taken_over) = ours(&there, &claim(1, b"[]")).await;
    assert!(!taken_over);
    // A body that is not kept.
    let ask = claim(2, b"{}");
    let (fence, _) = ours(&here, &ask).await;
    assert!(here.finish(fence, &kept(None), TTL).await.unwrap());
    assert_eq!(there.claim(&ask, TTL).await.unwrap(), Claimed::Done(kept(None)));
}

/// An owner that is not heard of loses its row, and cannot write it any more.
async fn a_death(store: &Store) {
    let [here, there] = two(store);
    let ask = claim(3, b"{}");
    let (dead, _) = ours(&here, &ask).await;
    age(&here, ask.id, Rows::LEASE).await;
    assert_eq!(there.claim(&claim(3, b"[]"), TTL).await.unwrap(), Claimed::Mismatch);
    let (fence, taken_over) = ours(&there, &ask).await;
    assert!(taken_over);
    assert_eq!(fence.token, dead.token + 1);
    assert_eq!(here.renew(&[dead]).await.unwrap(), [dead]);
    assert!(!here.finish(dead, &kept(Some(b"late")), TTL).await.unwrap());
    here.forget(dead).await.unwrap();
    assert_eq!(here.claim(&ask, TTL).await.unwrap(), Claimed::Running { token: fence.token });
    assert!(there.finish(fence, &kept(Some(b"in time")), TTL).await.unwrap());
    assert_eq!(here.claim(&ask, TTL).await.unwrap(), Claimed::Done(kept(Some(b"in time"))));
    // One that was slow, and whose row was forgotten and made anew by itself.
    let ask = claim(4, b"{}");
    let (dead, _) = ours(&here, &ask).await;
    age(&here, ask.id, Rows::LEASE).await;
    let (fence, _) = ours(&there, &ask).await;
    there.forget(fence).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (anew, taken_over) = ours(&here, &ask).await;
    assert!(!taken_over && anew.token > fence.token, "{anew:?} {fence:?}");
    assert!(!here.finish(dead, &kept(Some(b"late")), TTL).await.unwrap());
}

/// The statement that claims takes a row exactly where the pure decision says so.
async fn agreement(store: &Store) {
    let [here, there] = two(store);
    let mut key = 10;
    for done in [false, true] {
        for lease in [Duration::ZERO, Rows::LEASE] {
            for expired in [Duration::ZERO, 2 * TTL] {
                for body in [b"{}", b"[]"] {
                    key += 1;
                    let ask = claim(key, b"{}");
                    let (fence, _) = ours(&here, &ask).await;
                    if done {
                        assert!(here.finish(fence, &kept(None), TTL).await.unwrap());
                    }
                    age(&here, ask.id, lease + expired).await;
                    let asked = claim(key, body);
                    let mut connection = store.writer().await.unwrap();
                    let (row, now_ms) = there.look(&mut connection, ask.id).await.unwrap().unwrap();
                    let decision = decide(Some(&row), asked.fingerprint, now_ms);
                    let wanted = match decision {
                        Decision::Execute => Some(false),
                        Decision::TakeOver => Some(true),
                        Decision::Join | Decision::Replay | Decision::Mismatch => None,
                    };
                    let taken =
                        there.take(&mut connection, &asked, TTL).await.unwrap().map(|claimed| {
                            matches!(claimed, Claimed::Ours { taken_over: true, .. })
                        });
                    assert_eq!(taken, wanted, "{decision:?} of {row:?}");
                }
            }
        }
    }
}

/// Leases are renewed many at a time, each for itself.
async fn a_long_while(store: &Store) {
    let [here, there] = two(store);
    let mut fences = Vec::new();
    for key in 0..=u8::MAX {
        let ask = Claim { id: RowId([key, 99].repeat(16).try_into().unwrap()), ..claim(0, b"{}") };
        fences.push(ours(&here, &ask).await.0);
        age(&here, ask.id, Rows::LEASE).await;
    }
    let (taken, rest) = fences.split_first().unwrap();
    let ask = Claim { id: taken.id, ..claim(0, b"{}") };
    ours(&there, &ask).await;
    assert_eq!(here.renew(&fences).await.unwrap(), [*taken]);
    for fence in rest {
        let ask = Claim { id: fence.id, ..claim(0, b"{}") };
        let running = Claimed::Running { token: fence.token };
        assert_eq!(there.find(&ask).await.unwrap(), Some(running));
        here.forget(*fence).await.unwrap();
        assert_eq!(there.find(&ask).await.unwrap(), None);
    }
    assert_eq!(here.renew(&[]).await.unwrap(), []);
}

/// However many ask at once, one of them gets the row.
async fn a_crowd(store: &Store) {
    let ask = claim(40, b"{}");
    let mut asking = tokio::task::JoinSet::new();
    for node in 0..16 {
        let rows = Rows::new(store.clone(), Owner::new(format!("node {node}")));
        let ask = ask.clone();
        asking.spawn(async move { rows.claim(&ask, TTL).await.unwrap() });
    }
    let mut won = 0;
    while let Some(claimed) = asking.join_next().await {
        let claimed = claimed.unwrap();
        let is_ours = matches!(claimed, Claimed::Ours { .. });
        assert!(is_ours || matches!(claimed, Claimed::Running { .. }), "{claimed:?}");
        won += u32::from(is_ours);
    }
    assert_eq!(won, 1);
}

/// What has expired is deleted, and what is there is counted.
async fn a_sweep(store: &Store) {
    let [here, _] = two(store);
    here.sweep().await.unwrap();
    let before = here.crowds(0).await.unwrap();
    let count = |crowds: &[(CallerId, u64)]| crowds.first().map_or(0, |(_, count)| *count);
    for key in 50..60 {
        let ask = claim(key, b"{}");
        ours(&here, &ask).await;
        if key % 2 == 0 {
            age(&here, ask.id, TTL).await;
        }
    }
    assert_eq!(here.sweep().await.unwrap(), 5);
    let after = here.crowds(0).await.unwrap();
    assert_eq!(count(&after), count(&before) + 5);
    assert_eq!(after.first().map(|(caller, _)| caller.as_str()), Some("ann"));
    assert_eq!(here.crowds(1_000).await.unwrap(), []);
}

async fn everything(store: Store) {
    a_life(&store).await;
    a_death(&store).await;
    agreement(&store).await;
    a_long_while(&store).await;
    a_crowd(&store).await;
    a_sweep(&store).await;
}

#[tokio::test]
async fn keys_are_claimed_kept_and_taken_over_in_every_store() {
    for place in places() {
        everything(place.store.clone()).await;
    }
}
