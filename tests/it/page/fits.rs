//! The page on a phone, in the dark, and for a reader of the screen.

use serde_json::json;

use crate::harness::{Browser, Durable, eventually};

use super::{has_rows, prefer_colours, refused_with, signed_in};

/// A relay with letters, some of a very long name and reason.
async fn with_long_texts() -> (Durable, crate::harness::Peer) {
    let (durable, segment) =
        refused_with("a-reason-without-any-space-that-goes-on-and-on-and-on-and-on-and-on-and-on").await;
    for user in ["c-1", "a-name-without-any-space-that-goes-on-and-on-and-on-and-on-and-on-and-on-and-on"] {
        assert!(durable.post(&json!({"userId": user, "traits": {}})).await.is_stored());
    }
    eventually(async || durable.dead_letters().await.len() == 2).await;
    (durable, segment)
}

#[tokio::test]
async fn nothing_is_wider_than_a_phone() {
    let (durable, _segment) = with_long_texts().await;
    let browser = signed_in(durable.relay()).await;
    let phone = json!({"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", phone).await;
    has_rows(&browser, "letters-table", 2).await;
    browser.sees("screen.width === 360").await;
    let wide = "return [document.documentElement.scrollWidth, all('body *').filter(element => {
        const {left, right} = element.getBoundingClientRect();
        return (left < 0 || right > 360.5) && !element.closest('table, svg, [tabindex=\"0\"]');
    }).map(element => element.outerHTML.slice(0, 120))]";
    let wide = browser.run(wide).await;
    assert!(wide[0].as_u64() <= Some(360), "{wide:#}");
    // Fingers are wider than a mouse's tip: WCAG 2.2, 2.5.8.
    let small = "return all('button, input, select').filter(control => {
        const {width, height} = control.getBoundingClientRect();
        return width < 24 || height < 24;
    }).map(control => control.outerHTML.slice(0, 120))";
    assert_eq!(browser.run(small).await, json!([]));
}

/// How bright the colour of the page's background is, from 0 to 255.
async fn brightness(browser: &Browser) -> u64 {
    let colour = "return Math.round(Math.max(...['html', 'body'].map(name =>
        getComputedStyle(document.querySelector(name)).backgroundColor.match(/[\\d.]+/g).map(Number))
        .filter(parts => parts.length < 4 || parts[3] > 0)
        .map(parts => (parts[0] + parts[1] + parts[2]) / 3), -1))";
    browser.run(colour).await.as_i64().and_then(|value| value.try_into().ok()).unwrap_or(255)
}

#[tokio::test]
async fn the_page_is_dark_where_the_system_is() {
    let durable = Durable::start().await;
    let browser = signed_in(durable.relay()).await;
    prefer_colours(&browser, "light").await;
    assert!(brightness(&browser).await > 200);
    prefer_colours(&browser, "dark").await;
    assert!(brightness(&browser).await < 60);
}

#[tokio::test]
async fn every_control_has_a_name_and_the_page_has_landmarks_and_headings() {
    let (durable, _segment) = with_long_texts().await;
    let browser = signed_in(durable.relay()).await;
    has_rows(&browser, "letters-table", 2).await;
    let tree = browser.devtools("Accessibility.getFullAXTree", json!({})).await;
    let nodes: Vec<_> = tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] == false).collect();
    let named = |role: &str| -> Vec<&str> {
        let of_role = nodes.iter().filter(|node| node["role"]["value"] == role);
        of_role.map(|node| node["name"]["value"].as_str().unwrap_or_default()).collect()
    };
    for role in ["button", "textbox", "searchbox", "spinbutton", "combobox", "link", "table", "image", "img", "dialog"]
    {
        assert!(named(role).iter().all(|name| !name.is_empty()), "{role}: {:?}", named(role));
    }
    assert!(!named("button").is_empty() && !named("combobox").is_empty() && !named("table").is_empty());
    assert_eq!(named("main").len(), 1);
    for heading in ["Segment", "Sources", "Parked customers", "Dead letters", "Search"] {
        assert!(named("heading").iter().any(|name| name.starts_with(heading)), "{heading}: {:?}", named("heading"));
    }
    // Two buttons of two rows differ for who hears their names alone.
    let mut replays = named("button");
    replays.retain(|name| name.starts_with("Replay") && !name.starts_with("Replay all"));
    replays.dedup();
    assert_eq!(replays.len(), 2, "{replays:?}");
    let live =
        browser.run("return ['#summary', '#connection', '#notice'].map(id => document.querySelector(id).role)").await;
    assert_eq!(live, json!(["status", "status", "alert"]));
    assert!(
        browser.run("return document.documentElement.lang").await.as_str().is_some_and(|lang| lang.starts_with("en"))
    );
}
