//! What must never be given to other words: an error, half an answer, a refusal, a call, an answer
//! of the day, another tenant's.

use serde_json::json;
use tidegate::audit::Actor;
use tidegate::callers::{KeyChange, TermsChange};

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_not_kept_is_not_found_by_its_meaning_either() {
    let learner = Learner::proven().await;
    let before = learner.rig.gateway.meanings().fill().entries;
    let tool = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let cases = [
        "[[sim:on=alpha,cut_after=2]]",
        "[[sim:on=alpha,error_event=2]]",
        "[[sim:on=alpha,empty]]",
        "[[sim:on=alpha,no_terminal]]",
        "[[sim:on=alpha,say=I'm sorry, but I can't help with that.]]",
        "[[sim:on=alpha,say=It is Monday at the moment.]]",
        "What is the weather today? [[sim:on=alpha,say=Fine.]]",
    ];
    for (number, trouble) in (70_000..).zip(cases) {
        let (first, second) = wordings(number, trouble);
        let (first, second) = (Ask::chat("faq", &first), Ask::chat("faq", &second));
        let _ = learner.rig.ask(&first).await;
        let got = learner.rig.ask(&second).await;
        assert_eq!(got.header("x-tidegate-cache"), "miss", "{trouble}");
    }
    let (first, second) = wordings(80_000, "[[sim:on=alpha,call=f]]");
    for text in [first, second] {
        let ask = Ask::chat("faq", &text).whole().having("tools", tool.clone());
        assert_eq!(cache(&learner.rig.ask(&ask).await), "miss");
    }
    assert_eq!(learner.rig.gateway.meanings().fill().entries, before);
    assert_eq!(learner.figures().counts.hits, 0);
}

#[tokio::test]
async fn answers_never_pass_from_one_tenant_to_another() {
    let learner = Learner::new();
    let callers = &learner.rig.gateway.callers;
    callers.load().await.unwrap();
    let by = Actor::gateway();
    let mut keys = Vec::new();
    for name in ["red", "blue"] {
        let team = callers.create_team(name, &TermsChange::default(), &by, 0).await.unwrap().id;
        for place in ["one", "two"] {
            let change = KeyChange {
                name: Some(format!("{name} {place}")),
                team: Some(Some(team.clone())),
                ..KeyChange::default()
            };
            let (_, key) = callers.create_as(&change, &by, 0).await.unwrap();
            keys.push(format!("Bearer {}", key.reveal()));
        }
    }
    let [red, red_two, blue, blue_two] = &keys[..] else { panic!("four keys") };
    let ask = |key: &String, text: &str| Ask::chat("faq", text).whole().with("authorization", key);
    // Both teams have learnt to give answers.
    for key in [red, blue] {
        let (first, second) = wordings(0, SAME);
        learner.rig.ask(&ask(key, &first)).await;
        learner.rig.ask(&ask(key, &second)).await;
    }
    learner.teach();
    assert_eq!(learner.rig.gateway.meanings().figures().len(), 2);
    // What one of them has asked is given to its own keys, and to no other's.
    let (mut given, mut passed) = (0, 0);
    for number in 1_000..1_020 {
        let (first, second) = wordings(number, SAME);
        learner.rig.ask(&ask(red, &first)).await;
        passed += u32::from(cache(&learner.rig.ask(&ask(blue, &second)).await) != "miss");
        passed += u32::from(cache(&learner.rig.ask(&ask(blue_two, &first)).await) == "exact");
        given += u32::from(cache(&learner.rig.ask(&ask(red_two, &second)).await) == "semantic");
    }
    assert_eq!(passed, 0);
    assert!(given >= 15, "{given} of 20");
}
