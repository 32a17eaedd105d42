//! A stream that one node makes and others pass on as it comes.
//!
//! Whoever makes a stream appends it to a log that the nodes share, named after the claim: its
//! head, then its bytes, then its end. The log is for speed. What became of the request stands in
//! its row; where the log is away, full or silent, that is looked at.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode};
use http_body_util::BodyExt;

use super::execution::{Execution, Head};
use crate::cluster::{Appended, Relay};
use crate::idempotency::RowId;
use crate::journal::Reuse;

/// Between two appends. What comes meanwhile goes into one.
const APPENDED_EVERY: Duration = Duration::from_millis(20);
/// What entries begin with.
const DATA: u8 = b'd';
const END: u8 = b'e';

/// What an entry says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Bytes of the body.
    Data(Bytes),
    /// That the body is whole.
    End,
}

/// The name of a claim's log.
pub(super) fn log_of(id: RowId, token: i64) -> String {
    format!("idempotency:{id}:{token}")
}

/// Appends a reply, from its head on, to a log; ends with the reply, or where the log takes no
/// more.
pub(super) async fn tell(relay: &Relay, log: &str, execution: &Arc<Execution>) {
    let mut follower = execution.follow();
    let Ok(head) = follower.head().await else { return };
    let mut entry = head_entry(&head);
    for seq in 0.. {
        match relay.append(log, seq, entry).await {
            Ok(Appended::Added | Appended::Known) => {}
            Ok(Appended::Gone | Appended::Full) | Err(_) => return,
        }
        tokio::time::sleep(APPENDED_EVERY).await;
        entry = match follower.frame().await.and_then(|frame| frame.ok()?.into_data().ok()) {
            Some(piece) => {
                let mut entry = BytesMut::with_capacity(piece.len() + 1);
                entry.put_u8(DATA);
                entry.extend_from_slice(&piece);
                entry.freeze()
            }
            None => {
                // Whether or not it is noted: the row says it, too.
                let _ = relay.append(log, seq + 1, Bytes::from_static(&[END])).await;
                return;
            }
        };
    }
}

fn head_entry(head: &Head) -> Bytes {
    serde_json::to_vec(&(head.status.as_u16(), head.kept_headers())).unwrap_or_default().into()
}

/// Reads the first entry of a log.
pub(super) fn read_head(entry: &[u8]) -> Option<Head> {
    let (status, headers): (u16, Vec<(String, String)>) = serde_json::from_slice(entry).ok()?;
    Some(head_of(status, &headers, Reuse::Coalesced))
}

/// A head that was made elsewhere, or earlier.
pub(super) fn head_of(status: u16, headers: &[(String, String)], reuse: Reuse) -> Head {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            map.append(name, value);
        }
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    Head { status, headers: map, reuse: Some(reuse) }
}

/// Reads any other entry.
pub(super) fn read(entry: &Bytes) -> Option<Told> {
    match entry.first() {
        Some(&DATA) => Some(Told::Data(entry.slice(1..))),
        Some(&END) => Some(Told::End),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut head = head_of(200, &[("x-a".to_owned(), "b".to_owned())], Reuse::Replayed);
        head.headers.insert("x-ratelimit-limit-requests", "1".parse().unwrap());
        let read_again = read_head(&head_entry(&head)).unwrap();
        assert_eq!((read_again.status, read_again.reuse), (head.status, Some(Reuse::Coalesced)));
        assert_eq!(read_again.headers.len(), 1, "limits are of the moment");
        assert_eq!(read_again.headers["x-a"], "b");
        assert_eq!(
            read(&Bytes::from_static(b"dabc")),
            Some(Told::Data(Bytes::from_static(b"abc")))
        );
        assert_eq!(read(&Bytes::from_static(b"e")), Some(Told::End));
        assert_eq!(read(&Bytes::new()), None);
        assert_eq!(read(&Bytes::from_static(b"?")), None);
        assert!(read_head(b"?").is_none());
    }
}
