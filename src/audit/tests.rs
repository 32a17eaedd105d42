//! Tests of the audit log.

use serde_json::json;
use sqlx::Executor;

use super::*;
use crate::store::places::places;

const NOW: u64 = 1_700_000_000_000;

fn event(n: u64) -> Event {
    Event {
        action: "target.change",
        resource: format!("targets/sim/{n}"),
        before: None,
        after: Some(json!({ "drained": n, "until": null, "by": { "hand": null } })),
    }
}

#[tokio::test]
async fn rows_are_read_newest_first_and_never_change() {
    for place in places() {
        let audit = Audit::new(place.store.clone());
        let by = Actor {
            name: "admin".to_owned(),
            address: Some("10.0.0.7".to_owned()),
            request_id: Some("adm_1".to_owned()),
        };
        (0..5).for_each(|n| audit.note(&by, event(n), NOW + n));
        audit.note(&Actor::gateway(), event(9), NOW + 9);
        audit.flush().await.unwrap();
        let resources = |rows: &[AuditRecord]| -> Vec<_> {
            rows.iter().map(|row| row.resource.replace("targets/sim/", "")).collect()
        };
        let any = AuditFilter::default();
        let page = audit.list(&any, None, 4).await.unwrap();
        assert_eq!(resources(&page), ["9", "4", "3", "2"]);
        let rest = audit.list(&any, Some(page[3].place), 4).await.unwrap();
        assert_eq!(resources(&rest), ["1", "0"]);
        assert_eq!(
            (rest[0].at_ms, rest[0].after.clone()),
            (NOW + 1, json!({ "drained": 1, "by": {} }))
        );
        assert_eq!(
            (rest[0].before.clone(), rest[0].address.as_deref()),
            (Value::Null, Some("10.0.0.7"))
        );
        let some = AuditFilter {
            actor: Some("admin".to_owned()),
            since_ms: Some(NOW + 2),
            until_ms: Some(NOW + 4),
            ..any
        };
        assert_eq!(resources(&audit.list(&some, None, 9).await.unwrap()), ["3", "2"]);

        let mut writer = place.store.writer().await.unwrap();
        for statement in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"] {
            let error = writer.execute(statement).await.unwrap_err().to_string();
            assert!(error.contains("append-only"), "{statement}: {error}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_written_waits_and_what_is_too_much_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("data");
    std::fs::write(&in_the_way, "a file where the folder should be").unwrap();
    let url = format!("sqlite:{}/tidegate.db", in_the_way.display());
    let audit = Audit::new(Store::new(url.parse().unwrap()));
    for n in 0..MAX_WAITING as u64 + 3 {
        audit.note(&Actor::gateway(), event(n), NOW + n);
    }
    assert_eq!(audit.dropped(), 3);
    audit.flush().await.unwrap_err();
    std::fs::remove_file(&in_the_way).unwrap();
    audit.flush().await.unwrap();
    let rows = audit.list(&AuditFilter::default(), None, 2_000).await.unwrap();
    assert_eq!(rows.len(), MAX_WAITING);
}
