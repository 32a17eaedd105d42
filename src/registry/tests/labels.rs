//! Tests of what labels stand for.

use super::*;

#[tokio::test]
async fn labels_move_by_compare_and_set_and_keep_their_history() {
    for place in places() {
        let node = Node::loaded(&place.store, &[]).await;
        node.push("1.0.0", "Hello").await.unwrap();
        node.push("1.1.0", "Good day").await.unwrap();
        let first = node.label("production", "1.0.0", None).await.unwrap();
        let second = node.label("production", "1.1.0", Some(first.changed)).await.unwrap();
        let error = node.label("production", "1.0.0", Some(first.changed)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the label `production` was changed meanwhile: its etag is \"{}\" now, and it stands \
                 for 1.1.0; look at it and try again",
                second.changed
            )
        );
        let error = node.label("production", "3.0.0", None).await.unwrap_err();
        assert_eq!(error.to_string(), "the prompt `greet` has no version 3.0.0");
        let error = node.label("Production", "1.0.0", None).await.unwrap_err();
        assert!(error.to_string().starts_with("label: "), "{error}");

        node.change("production", set("1.1.0", true), None, false).await.unwrap();
        let error = node.label("production", "1.0.0", None).await.unwrap_err();
        assert!(matches!(error, RegistryError::Protected { .. }), "{error}");
        let error = node.change("production", Wish::Delete, None, false).await.unwrap_err();
        assert!(matches!(error, RegistryError::Protected { .. }), "{error}");
        node.change("production", set("1.0.0", true), None, true).await.unwrap();
        node.change("production", Wish::Delete, None, true).await.unwrap();
        assert!(node.gets("production").contains("has no label `production`"));
        let gone = node.change("production", Wish::Delete, None, true).await.unwrap_err();
        assert!(matches!(gone, RegistryError::UnknownLabel { .. }), "{gone}");

        let history = node.registry.label_history("greet", "production").await.unwrap();
        let shown: Vec<_> = history
            .iter()
            .map(|one| (one.version.map(|v| v.to_string()), one.is_protected, one.is_forced))
            .collect();
        let stood = |version: &str| Some(version.to_owned());
        assert_eq!(
            shown,
            [
                (None, false, true),
                (stood("1.0.0"), true, true),
                (stood("1.1.0"), true, false),
                (stood("1.1.0"), false, false),
                (stood("1.0.0"), false, false),
            ]
        );
        let log = Audit::new(place.store.clone());
        let log = log.list(&AuditFilter::default(), None, 10).await.unwrap();
        assert_eq!(log.iter().filter(|row| row.action == "prompt.unlabel").count(), 1);
        let forced = json!({"version": "1.0.0", "protected": true, "forced": true});
        let forced = log.iter().find(|row| row.after == forced).unwrap();
        assert_eq!(forced.before, json!({"version": "1.1.0", "protected": true}));
    }
}

#[tokio::test]
async fn of_many_who_set_a_label_by_one_etag_one_wins() {
    for place in places() {
        let first = Node::loaded(&place.store, &[]).await;
        first.push("1.0.0", "Hello").await.unwrap();
        first.push("1.1.0", "Good day").await.unwrap();
        let seen = first.label("production", "1.0.0", None).await.unwrap().changed;
        let nodes = [
            Node::loaded(&place.again(), &[]).await,
            Node::loaded(&place.again(), &[]).await,
            Node::loaded(&place.again(), &[]).await,
        ];
        let [a, b, c] = nodes.each_ref().map(|node| node.label("production", "1.1.0", Some(seen)));
        let started = crate::clock::Instant::now();
        let (a, b, c) = tokio::join!(a, b, c);
        assert!(started.elapsed() < Duration::from_secs(4), "nobody holds what others wait for");
        let won = [a, b, c].iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1);
    }
}

#[tokio::test]
async fn a_finished_rollout_moves_the_labels_of_its_version_in_its_own_transaction() {
    for place in places() {
        let node = Node::loaded(&place.store, &[]).await;
        node.push("1.0.0", "Hello").await.unwrap();
        node.push("1.1.0", "Good day").await.unwrap();
        node.change("production", set("1.0.0", true), None, false).await.unwrap();
        node.label("canary", "1.0.0", None).await.unwrap();
        node.label("staging", "1.1.0", None).await.unwrap();
        let (from, to) = (Version::new(1, 0, 0), Version::new(1, 1, 0));
        let by = Actor { name: "rollout".to_owned(), ..Actor::default() };
        let mut connection = place.store.writer().await.unwrap();
        let kind = place.store.kind();
        let mut transaction = crate::store::begin(&mut connection, kind).await.unwrap();
        move_labels(&mut transaction, "greet", (from, to), &by, NOW).await.unwrap();
        transaction.rollback().await.unwrap();
        node.registry.on_changed(&mut connection).await;
        assert_eq!(node.gets("production"), "1.0.0 Hello", "nothing was committed");

        let mut transaction = crate::store::begin(&mut connection, kind).await.unwrap();
        let moved = move_labels(&mut transaction, "greet", (from, to), &by, NOW).await.unwrap();
        assert_eq!(moved, ["canary", "production"]);
        let again = move_label(&mut transaction, ("greet", "production"), (from, to), &by, NOW);
        assert!(!again.await.unwrap(), "it stands for another one by now");
        transaction.commit().await.unwrap();
        node.registry.on_changed(&mut connection).await;
        drop(connection);
        assert_eq!(node.gets("production"), "1.1.0 Good day");
        let history = node.registry.label_history("greet", "production").await.unwrap();
        assert_eq!(history[0].changed_by.as_deref(), Some("rollout"));
        assert!(history[0].is_protected && history[0].is_forced);
        assert!(done(&place.store).await.iter().any(|row| row.starts_with("rollout prompt.label")));
        let error = node.label("production", "1.0.0", None).await.unwrap_err();
        assert!(matches!(error, RegistryError::Protected { .. }), "it stays protected: {error}");
    }
}
