//! Usage, added up.

use super::*;

/// Groups with their numbers of requests.
async fn groups(journal: &Journal, filter: &RequestFilter, names: &str) -> String {
    let keys: Vec<_> = names.split(' ').map(|name| UsageKey::parse(name).unwrap()).collect();
    let sums = journal.usage(filter, &keys, 10).await.unwrap();
    let words = |sum: &UsageSum| {
        let group: Vec<_> = sum.group.iter().map(|name| name.as_deref().unwrap_or("-")).collect();
        format!("{} {}", group.join(" "), sum.requests)
    };
    let mut found: Vec<_> = sums.iter().map(words).collect();
    found.sort();
    found.join("; ")
}

#[tokio::test]
async fn usage_adds_up_by_the_keys_that_are_asked_for() {
    for place in places() {
        while_writing(journal_at(&place.store, NOON), async |journal| {
            for n in 0..3 {
                record(&journal, entry(n));
            }
            let next_day = Entry {
                started_at_ms: NOON + 86_400_000,
                outcome: Outcome::ClientGone,
                usage_estimated: true,
                ..entry(1)
            };
            record(&journal, next_day);
            journal.flush().await;

            let any = RequestFilter::default();
            let whole = UsageSum {
                group: Vec::new(),
                requests: 4,
                outcomes: [3, 0, 0, 0, 1, 0],
                usage: Usage {
                    input: 40,
                    cached_input: 16,
                    cache_write: 12,
                    output: 80,
                    reasoning: 20,
                },
                estimated: 1,
                cost: MicroUsd(5_000),
                estimated_cost: MicroUsd(1_250),
                waste: Waste { input: 68, output: 8, cost: MicroUsd(360), is_estimated: false },
                saved: MicroUsd(1_600),
            };
            assert_eq!(journal.usage(&any, &[], 10).await.unwrap(), [whole]);

            let keys = [UsageKey::Day, UsageKey::Caller];
            let found = journal.usage(&any, &keys, 10).await.unwrap();
            let mut found: Vec<_> = found
                .iter()
                .map(|sum| {
                    let group: Vec<_> =
                        sum.group.iter().map(|name| name.as_deref().unwrap()).collect();
                    format!("{}: {}", group.join(" "), sum.requests)
                })
                .collect();
            found.sort();
            let expected =
                ["2023-11-15 key_even: 2", "2023-11-15 key_odd: 1", "2023-11-16 key_odd: 1"];
            assert_eq!(found, expected);

            let none = RequestFilter { caller: Some("nobody".into()), ..any };
            assert_eq!(journal.usage(&none, &[UsageKey::Model], 10).await.unwrap(), []);
        })
        .await;
    }
}

#[tokio::test]
async fn usage_is_grouped_and_filtered_by_anything() {
    for place in places() {
        while_writing(journal_at(&place.store, NOON), async |journal| {
            let tag = |value: &str| ("it's \"odd\"".to_owned(), value.to_owned());
            record(&journal, Entry { tags: vec![tag("a,b")], ..entry(1) });
            record(
                &journal,
                Entry { tags: vec![tag("=1"), ("env".into(), "x".into())], ..entry(2) },
            );
            record(&journal, Entry { endpoint: EndpointKind::Messages, ..entry(3) });
            journal.flush().await;
            let groups =
                async |filter: &RequestFilter, names: &str| groups(&journal, filter, names).await;
            let any = RequestFilter::default();
            assert_eq!(
                groups(&any, "key provider model").await,
                "key_even openai gpt-5 1; key_odd openai gpt-5 2"
            );
            assert_eq!(
                groups(&any, "endpoint outcome").await,
                "chat complete 2; messages complete 1"
            );
            assert_eq!(
                groups(&any, "month day hour").await,
                "2023-11 2023-11-15 2023-11-15T12:00:00Z 3"
            );
            assert_eq!(groups(&any, "route target").await, "smart openai/gpt-5 3");
            let keys = [UsageKey::Tag("it's \"odd\"".to_owned())];
            let mut found: Vec<_> = journal.usage(&any, &keys, 10).await.unwrap();
            found.sort_by_key(|sum| sum.group.clone());
            let found: Vec<_> = found.iter().map(|sum| sum.group[0].as_deref()).collect();
            assert_eq!(found, [None, Some("=1"), Some("a,b")]);
            assert_eq!(journal.usage(&any, &keys, 2).await.unwrap().len(), 2, "bounded");

            let mut writer = place.store.writer().await.unwrap();
            sqlx::query(
                "INSERT INTO keys (id, name, hash, hint, version, created_at_ms, team)
                 VALUES ('key_odd', 'odd', $1, 'x', 1, 1, 'team_a')",
            )
            .bind(vec![1_u8])
            .execute(&mut *writer)
            .await
            .unwrap();
            drop(writer);
            assert_eq!(groups(&any, "team").await, "- 1; team_a 2");
            let of_team = RequestFilter { team: Some("team_a".into()), ..any.clone() };
            assert_eq!(groups(&of_team, "caller team").await, "key_odd team_a 2");

            let tagged = RequestFilter { tags: vec![tag("=1")], ..any.clone() };
            assert_eq!(groups(&tagged, "tag:env").await, "x 1");
            let chats = RequestFilter { endpoint: Some("chat".into()), ..any.clone() };
            assert_eq!(groups(&chats, "endpoint").await, "chat 2");
            let elsewhere = RequestFilter { provider: Some("groq".into()), ..any };
            assert_eq!(groups(&elsewhere, "endpoint").await, "");
        })
        .await;
    }
}

#[tokio::test]
async fn usage_is_told_apart_by_priority_also_where_there_is_none() {
    for place in places() {
        while_writing(journal_at(&place.store, NOON), async |journal| {
            record(&journal, Entry { priority: Some(Priority::HIGHEST), ..entry(1) });
            record(&journal, Entry { priority: Some(Priority::HIGHEST), ..entry(2) });
            record(&journal, Entry { priority: Some(Priority::LOWEST), ..entry(3) });
            record(&journal, Entry { priority: None, ..entry(4) });
            journal.flush().await;
            let any = RequestFilter::default();
            assert_eq!(groups(&journal, &any, "priority").await, "- 1; 0 2; 4 1");
            let lowest = RequestFilter { priority: Some(Priority::LOWEST), ..any };
            assert_eq!(groups(&journal, &lowest, "priority caller").await, "4 key_odd 1");
        })
        .await;
    }
}

#[tokio::test]
async fn requests_of_a_prompt_are_found_by_its_id_and_by_its_version() {
    for place in places() {
        while_writing(journal_at(&place.store, NOON), async |journal| {
            let prompts = [Some("help@1.2.0"), Some("help@1.10.0"), Some("help-desk@1.2.0"), None];
            for (n, prompt) in (0..).zip(prompts) {
                record(&journal, Entry { prompt: prompt.map(Into::into), ..entry(n) });
            }
            journal.flush().await;
            let of = |prompt: &str| RequestFilter {
                prompt: Some(prompt.to_owned()),
                ..RequestFilter::default()
            };
            for (asked, count) in
                [("help", 2), ("help@1.2.0", 1), ("hel", 0), ("help@1", 0), ("", 0)]
            {
                let found = journal.requests(&of(asked), None, 10).await.unwrap();
                assert_eq!(found.len(), count, "{asked}");
            }
            let any = RequestFilter::default();
            assert_eq!(
                groups(&journal, &any, "prompt").await,
                "- 1; help-desk@1.2.0 1; help@1.10.0 1; help@1.2.0 1"
            );
            assert_eq!(
                groups(&journal, &of("help"), "prompt").await,
                "help@1.10.0 1; help@1.2.0 1"
            );
        })
        .await;
    }
}
