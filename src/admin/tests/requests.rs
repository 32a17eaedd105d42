//! Tests of requests and usage.

use super::*;

#[tokio::test]
async fn requests_are_listed_by_page() {
    let admin = Admin::with((1..=5).map(entry).collect()).await;
    let mut seen = Vec::new();
    let mut path = "/requests?caller=key_web&limit=2".to_owned();
    loop {
        let page = admin.get(&path).await;
        assert_eq!(page.status, 200);
        let requests = page.body["data"].as_array().unwrap();
        seen.extend(requests.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/requests?caller=key_web&limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ["req_5", "req_4", "req_3", "req_2", "req_1"]);

    let since = "2023-11-15T12:00:03Z";
    let until = NOW + 4_000;
    let found = admin.get(&format!("/requests?since={since}&until={until}")).await;
    let expected = json!({
        "id": "req_3",
        "started_at": "2023-11-15T12:00:02.960Z",
        "ended_at": "2023-11-15T12:00:03.000Z",
        "caller": "key_web",
        "endpoint": "messages",
        "dialect": "anthropic",
        "streamed": true,
        "model": "smart",
        "prompt": "help@1.2.0", "rollout": null, "arm": null, "priority": 2,
        "route": "smart",
        "target": "openai/gpt-5",
        "provider": "openai",
        "served_model": "gpt-5",
        "outcome": "cut",
        "failure": "mid_stream",
        "error_code": null,
        "status": 200,
        "attempts": 1,
        "degradation": 0,
        "tokens": {
            "input": 10, "cached_input": 4, "cache_write": 3, "output": 20, "reasoning": 5,
            "total": 42, "estimated": true,
        },
        "cost_usd": "0.001250",
        "waste": {"input": 17, "output": 2, "cost_usd": "0.000090", "estimated": false},
        "saved_usd": "0.000400",
        "latency_ms": 40,
        "first_token_ms": 7,
        "overhead_us": 81,
        "tags": {"team": "shop"},
        "reuse": null,
    });
    assert_eq!(found.body, json!({ "data": [expected], "next_cursor": null }));
}

#[tokio::test]
async fn usage_is_added_up() {
    let admin = Admin::with((1..=4).map(entry).collect()).await;
    let found = admin.get("/usage?group_by=day,caller&outcome=complete").await;
    let expected = json!({
        "data": [{
            "group": {"day": "2023-11-15", "caller": "key_web"},
            "requests": 3,
            "outcomes": {"complete": 3, "spliced": 0, "failed": 0, "cut": 0, "client_gone": 0, "rejected": 0},
            "tokens": {
                "input": 30, "cached_input": 12, "cache_write": 9, "output": 60, "reasoning": 15,
                "total": 126,
            },
            "requests_with_estimated_tokens": 0,
            "cost_usd": "0.003750",
            "estimated_cost_usd": "0.000000",
            "waste": {"input": 51, "output": 6, "cost_usd": "0.000270", "estimated": true},
            "saved_usd": "0.001200",
            "estimated_share": 0.0672,
        }],
        "truncated": false,
    });
    assert_eq!(found.body, expected);
    let all = admin.get("/usage").await;
    assert_eq!(all.body["data"][0]["requests"], 4);
    assert_eq!(all.body["data"][0]["outcomes"]["cut"], 1);
}

#[tokio::test]
async fn usage_comes_as_a_table_for_spreadsheets() {
    let tagged = |n: u64, value: &str| Entry {
        tags: vec![("team".to_owned(), value.to_owned())],
        cost: MicroUsd(1_000_000 - n),
        ..entry(n)
    };
    let admin =
        Admin::with(vec![tagged(1, "=cmd|' /C calc'!A0"), tagged(2, "a \"b\", c"), entry(3)]).await;
    let request = request("GET", "/usage?group_by=tag:team,month").header("accept", "text/csv");
    let response = router(admin.state.clone()).oneshot(request.body(Body::empty()).unwrap()).await;
    let (head, body) = response.unwrap().into_parts();
    assert_eq!(head.headers["content-type"], "text/csv; charset=utf-8; header=present");
    assert_eq!(head.headers["x-tidegate-truncated"], "false");
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let expected = [
        "tag:team,month,requests,complete,spliced,failed,cut,client_gone,rejected,input_tokens,\
         cached_input_tokens,cache_write_tokens,output_tokens,reasoning_tokens,\
         requests_with_estimated_tokens,cost_usd,estimated_cost_usd,waste_input_tokens,\
         waste_output_tokens,waste_usd,saved_usd",
        "'=cmd|' /C calc'!A0,2023-11,1,1,0,0,0,0,0,10,4,3,20,5,0,0.999999,0.000000,17,2,0.000090,0.000400",
        "\"a \"\"b\"\", c\",2023-11,1,1,0,0,0,0,0,10,4,3,20,5,0,0.999998,0.000000,17,2,0.000090,0.000400",
        "shop,2023-11,1,0,0,0,1,0,0,10,4,3,20,5,1,0.001250,0.001250,17,2,0.000090,0.000400",
        "",
    ];
    assert_eq!(String::from_utf8_lossy(&body), expected.join("\r\n"));
    let few = admin.get("/usage?group_by=tag:team&limit=2&tag:team=shop&endpoint=messages").await;
    assert_eq!(
        (few.body["data"].as_array().unwrap().len(), &few.body["truncated"]),
        (1, &json!(false))
    );
    let few = admin.get("/usage?group_by=tag:team&limit=2").await;
    assert_eq!(
        (few.body["data"].as_array().unwrap().len(), &few.body["truncated"]),
        (2, &json!(true))
    );
    assert_eq!(admin.get("/requests?tag:team=shop").await.body["data"][0]["id"], "req_3");
}
