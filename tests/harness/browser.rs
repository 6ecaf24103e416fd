//! A headless Chromium, driven over WebDriver (<https://www.w3.org/TR/webdriver2/>) by Debian's chromedriver.
//!
//! Each [`Browser`] is a chromedriver, a Chromium and a home directory of its own. All of it goes when the `Browser` is
//! dropped, or when the process of the test ends in any other way.

use std::fmt::Debug;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::panic::Location;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::wait::LONG_PATIENCE;

/// Runs chromedriver in a process group of its own, with all it starts. The group is killed when the standard input of the shell is
/// closed, which the system does when the test's process ends. Standard output is chromedriver's alone, so that it ends with it.
const DRIVER: &str = "set -m; chromedriver --port=0 & exec >/dev/null; read -r _; kill -KILL -- -$!; wait";

/// As root there is no sandbox, and in a container little shared memory.
const ARGUMENTS: [&str; 7] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-extensions",
    "--window-size=1280,900",
];

/// How often a condition is looked at: each look is a request to the browser.
const GLANCE: Duration = Duration::from_millis(50);

/// The name that WebDriver gives to a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Functions that every script may use.
const PRELUDE: &str = r"
    const seen = element => element.checkVisibility({visibilityProperty: true, opacityProperty: true});
    const all = css => [...document.querySelectorAll(css)].filter(seen);
    const text = element => element.innerText.trim().replace(/\s+/g, ' ');
    const names = control => [...[...control.labels ?? []].map(text), control.ariaLabel ?? ''];
    const labelled = name => all('input, select, textarea').find(control => names(control).includes(name))
        ?? all('input, select, textarea').find(control => names(control).some(label => label.startsWith(name)));
    const button = (within, name) => all(within).flatMap(element => [...element.querySelectorAll('button')])
        .find(button => seen(button) && (text(button) + ' ').startsWith(name + ' '));
";

/// A page in a browser of its own.
pub struct Browser {
    session: String,
    client: Client,
    driver: Driver,
}

struct Driver {
    shell: Child,
    /// Closed to end it.
    input: Option<ChildStdin>,
    port: u16,
    /// Where the browser keeps its profile and everything else.
    _home: TempDir,
}

impl Driver {
    /// Chromedriver chooses a port, and ends if another process has it in one of the two versions of IP.
    fn start() -> Self {
        let started = (0..5).find_map(|_| Self::try_start());
        started.expect("chromedriver starts; tests/tools/chromium installs it")
    }

    fn try_start() -> Option<Self> {
        let home = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("bash");
        command.args(["-c", DRIVER]).env("HOME", home.path()).env("TMPDIR", home.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A Ctrl-C is for the test, whose end ends this.
        command.process_group(0);
        let mut shell = command.spawn().expect("bash");
        let input = shell.stdin.take();
        let mut lines = BufReader::new(shell.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.strip_suffix('.')?.rsplit_once("successfully on port ")?.1.parse().ok());
        let driver = Self { shell, input, port: port.unwrap_or_default(), _home: home };
        // It writes nothing more, but must be able to.
        std::thread::spawn(move || lines.count());
        port.is_some().then_some(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.shell.wait();
    }
}

impl Browser {
    /// Starts one with an empty page.
    pub async fn start() -> Self {
        let driver = Driver::start();
        // A session is there when Chromium is.
        let client = super::client_builder().timeout(LONG_PATIENCE).build().expect("a client");
        let mut browser = Self { session: format!("http://127.0.0.1:{}/session", driver.port), client, driver };
        let options = json!({"args": ARGUMENTS});
        let logs = json!({"browser": "ALL", "performance": "ALL"});
        let wanted = json!({"goog:chromeOptions": options, "goog:loggingPrefs": logs});
        let session = browser.must(Method::POST, "", json!({"capabilities": {"alwaysMatch": wanted}})).await;
        browser.session = format!("{}/{}", browser.session, session["sessionId"].as_str().expect("a session"));
        browser
    }

    /// Loads this URL, and waits until its scripts have run once.
    pub async fn open(&self, url: &str) {
        self.must(Method::POST, "/url", json!({"url": url})).await;
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.must(Method::POST, "/refresh", json!({})).await;
    }

    /// Runs the body of a function in the page, and returns what it returns. It can use [`PRELUDE`].
    pub async fn run(&self, script: &str) -> Value {
        self.run_with(script, &[]).await
    }

    /// The same with `arguments`.
    pub async fn run_with(&self, script: &str, arguments: &[&str]) -> Value {
        self.try_run(script, arguments).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    async fn try_run(&self, script: &str, arguments: &[&str]) -> Result<Value, Value> {
        let script = format!("{PRELUDE}\n{script}");
        self.ask(Method::POST, "/execute/sync", json!({"script": script, "args": arguments})).await
    }

    /// Text of the first element that fits and can be seen, or `""`.
    pub async fn text(&self, css: &str) -> String {
        let text = self.run_with("return all(arguments[0]).map(text)[0] ?? ''", &[css]).await;
        text.as_str().expect("text").to_owned()
    }

    /// Texts of all elements that fit and can be seen.
    pub async fn texts(&self, css: &str) -> Vec<String> {
        let texts = self.run_with("return all(arguments[0]).map(text)", &[css]).await;
        serde_json::from_value(texts).expect("texts")
    }

    /// Waits until this script returns `true`.
    #[track_caller]
    pub fn sees(&self, script: &str) -> impl Future<Output = ()> {
        self.until(format!("return Boolean({script})"), vec![], Self::is_true)
    }

    /// Waits until an element that can be seen holds this text.
    #[track_caller]
    pub fn reads(&self, css: &str, part: &str) -> impl Future<Output = ()> {
        let script = "return all(arguments[0]).some(element => text(element).includes(arguments[1]))".to_owned();
        self.until(script, vec![css.to_owned(), part.to_owned()], Self::is_true)
    }

    /// Clicks the first element that fits, when it can be.
    #[track_caller]
    pub fn click(&self, css: &str) -> impl Future<Output = ()> {
        self.until("return all(arguments[0])[0]".to_owned(), vec![css.to_owned()], Self::try_click)
    }

    /// Clicks the button with this name, or whose name begins with these words, when it can be clicked.
    #[track_caller]
    pub fn press_button(&self, within: &str, name: &str) -> impl Future<Output = ()> {
        let arguments = vec![within.to_owned(), name.to_owned()];
        self.until("return button(...arguments)".to_owned(), arguments, Self::try_click)
    }

    /// Types into the control with this label, in place of what it holds.
    #[track_caller]
    pub fn fill(&self, label: &str, value: &str) -> impl Future<Output = ()> {
        let value = value.to_owned();
        self.until("return labelled(arguments[0])".to_owned(), vec![label.to_owned()], move |browser, element| {
            let value = value.clone();
            async move {
                let Some(id) = element[ELEMENT].as_str() else { return false };
                let keys = json!({"text": value});
                browser.ask(Method::POST, &format!("/element/{id}/clear"), json!({})).await.is_ok()
                    && browser.ask(Method::POST, &format!("/element/{id}/value"), keys).await.is_ok()
            }
        })
    }

    /// Chooses an option of the control with this label by its text or its value.
    #[track_caller]
    pub fn choose(&self, label: &str, option: &str) -> impl Future<Output = ()> {
        let script = "const [label, wanted] = arguments;
            return [...labelled(label)?.options ?? []].find(option => [option.text, option.value].includes(wanted))";
        self.until(script.to_owned(), vec![label.to_owned(), option.to_owned()], Self::try_click)
    }

    async fn is_true(&self, value: Value) -> bool {
        value == true
    }

    /// The page may have replaced the element since it was found, or something may lie over it for a moment.
    async fn try_click(&self, element: Value) -> bool {
        let Some(id) = element[ELEMENT].as_str() else { return false };
        self.ask(Method::POST, &format!("/element/{id}/click"), json!({})).await.is_ok()
    }

    /// Presses and releases keys one after the other, whatever has the focus. [`key`] has the names.
    pub async fn type_keys(&self, keys: &str) {
        let actions: Vec<Value> =
            keys.chars().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key}))).collect();
        let device = json!({"type": "key", "id": "keyboard", "actions": actions});
        self.must(Method::POST, "/actions", json!({"actions": [device]})).await;
    }

    /// A command of the Chrome DevTools Protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.must(Method::POST, "/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// Errors and warnings on the console since it was last asked, also of what the security policy forbade. What is only a
    /// hint is left out.
    pub async fn console(&self) -> Vec<String> {
        let lines = self.must(Method::POST, "/se/log", json!({"type": "browser"})).await;
        let lines = lines.as_array().expect("lines").iter();
        let troubles = lines.filter(|line| line["level"] == "SEVERE" || line["level"] == "WARNING");
        troubles.map(|line| line["message"].to_string()).collect()
    }

    /// The requests since they were last asked for, as `Network.requestWillBeSent` has them.
    pub async fn requests(&self) -> Vec<Value> {
        let lines = self.must(Method::POST, "/se/log", json!({"type": "performance"})).await;
        let events = lines.as_array().expect("lines").iter().map(|line| {
            let event: Value = serde_json::from_str(line["message"].as_str().expect("text")).expect("JSON");
            event["message"].clone()
        });
        let sent = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|event| event["params"]["request"].clone()).collect()
    }

    /// Waits until `is_done` says so of what the script returns.
    #[track_caller]
    fn until<'a, D, F>(&'a self, script: String, arguments: Vec<String>, is_done: D) -> impl Future<Output = ()>
    where
        D: Fn(&'a Self, Value) -> F,
        F: Future<Output = bool>,
    {
        let place = Location::caller();
        async move {
            let begin = Instant::now();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            loop {
                // A page that is just being loaded can run no script.
                let value = self.try_run(&script, &arguments).await.unwrap_or_else(|error| error);
                if is_done(self, value).await {
                    return;
                }
                if begin.elapsed() > LONG_PATIENCE {
                    let (page, console) = (self.text("body").await, self.console().await);
                    panic!("{place}: not seen: {script} {arguments:?}\nthe page: {page}\nthe console: {console:#?}");
                }
                tokio::time::sleep(GLANCE).await;
            }
        }
    }

    async fn must(&self, method: Method, path: &str, body: Value) -> Value {
        self.ask(method, path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// # Errors
    /// What WebDriver says against it.
    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value, Value> {
        let request = self.client.request(method, format!("{}{path}", self.session)).json(&body);
        let response = request.send().await.expect("chromedriver answers");
        let is_success = response.status().is_success();
        let mut answer: Value = response.json().await.expect("JSON");
        if is_success { Ok(answer["value"].take()) } else { Err(answer["value"].take()) }
    }
}

/// Keys that are no characters.
pub mod key {
    pub const TAB: &str = "\u{e004}";
    pub const ENTER: &str = "\u{e007}";
    pub const ESCAPE: &str = "\u{e00c}";
    pub const SPACE: &str = " ";
}
