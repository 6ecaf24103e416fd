//! The file of sources at the start: what is wrong with it is told at once, and stops the program.

use std::fs;

use crate::harness::{Process, Relay, WRITE_KEY};

async fn serve(settings: &[(&str, &str)]) -> (Option<i32>, Vec<String>, Vec<String>) {
    let mut process = Process::start(&["serve"], settings);
    let code = process.exit_code().await;
    (code, process.stdout(), process.stderr())
}

#[tokio::test]
async fn a_wrong_file_of_sources_stops_the_start_with_a_line_for_each_problem() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sources.toml");
    let text = "\
[shopify]
verify   = 'shopfy'
secrets  = ['env:SHOP_SECRET', 's3cret']
windw    = '8d'

[stripe]
verify   = 'stripe'
secrets  = ['file:stripe-secret']
map_file = 'stripe.jq'
on_error = 'keep'
";
    fs::write(&file, text).unwrap();
    let settings = [("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_SOURCES", file.to_str().unwrap())];
    let (code, stdout, stderr) = serve(&settings).await;
    assert_eq!(code, Some(2), "{stderr:?}");
    let expected = [
        "sources.toml:2: shopify.verify: no such preset; is it shopify?",
        "sources.toml:3: shopify.secrets[0]: the variable SHOP_SECRET is not set",
        "sources.toml:3: shopify.secrets[1]: must be env:NAME or file:PATH: no secret may be in this file",
        "sources.toml:4: shopify.windw: no such key; is it window?",
        "sources.toml:8: stripe.secrets[0]: the file cannot be read (entity not found)",
        "sources.toml:9: stripe.map_file: the file cannot be read (entity not found)",
        "sources.toml:10: stripe.on_error: keep needs an outbox (RELAY_OUTBOX_URL), where the event is kept",
    ];
    assert_eq!(stderr, expected);
    assert!(stdout.iter().all(|line| !line.contains("s3cret")), "{stdout:?}");
}

#[tokio::test]
async fn a_missing_file_of_sources_stops_the_start() {
    let settings = [("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_SOURCES", "/nowhere/sources.toml")];
    let (code, _, stderr) = serve(&settings).await;
    assert_eq!(code, Some(2), "{stderr:?}");
    assert_eq!(stderr, ["RELAY_SOURCES: /nowhere/sources.toml: the file cannot be read (entity not found)"]);
}

#[tokio::test]
async fn secrets_of_sources_come_from_variables_and_from_files_beside_the_file_of_sources() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("secret", "a-secret-of-thirty-two-characters\n");
    write("shop.jq", "{userId: .id, traits: {}}\n");
    write(
        "sources.toml",
        "[shop]\nverify = 'shopify'\nsecrets = ['env:SHOP_SECRET', 'file:secret']\nmap_file = 'shop.jq'\n",
    );
    let file = directory.path().join("sources.toml");
    let variable = ("SHOP_SECRET", "another-secret-of-a-shop");
    let relay = Relay::start(&[("RELAY_SOURCES", file.to_str().unwrap()), variable]).await;
    assert_eq!(relay.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn the_admin_token_is_no_secret_of_a_source() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sources.toml");
    fs::write(&file, "[shop]\nverify = 'token'\nsecrets = ['env:SHOP_SECRET']\n").unwrap();
    let token = "a-token-of-operators-alone";
    let settings = [
        ("SEGMENT_WRITE_KEY", WRITE_KEY),
        ("RELAY_SOURCES", file.to_str().unwrap()),
        ("RELAY_ADMIN_TOKEN", token),
        ("SHOP_SECRET", token),
    ];
    let (code, _, stderr) = serve(&settings).await;
    assert_eq!(code, Some(2), "{stderr:?}");
    let expected = "sources.toml:3: shop.secrets: one is RELAY_ADMIN_TOKEN: who sends events may not read customers";
    assert_eq!(stderr, [expected]);
}
