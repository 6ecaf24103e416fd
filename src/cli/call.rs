//! `segment-relay call`: what became of a call, by its `messageId`, through the running relay.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde::Deserialize;

use super::dead_letters::table::{escape, escape_json};
use super::operate::{self, parse};
use super::output::print;

#[derive(Args)]
pub(super) struct Arguments {
    /// The messageId of the call
    #[arg(value_name = "ID")]
    message_id: String,
    /// Print the relay's JSON object
    #[arg(long)]
    json: bool,
    /// The running relay, instead of the address of RELAY_ADMIN_LISTEN, RELAY_LISTEN or PORT on this machine
    #[arg(long, value_name = "BASE")]
    url: Option<String>,
}

/// The relay's answer. An accepted call has the first two alone.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    message_id: String,
    outcome: String,
    user_id: Option<String>,
    stored_at: Option<String>,
    attempts: Option<u32>,
    status: Option<u16>,
    reason: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let path = format!("/calls/{}", percent_encoded(&arguments.message_id));
    operate::run(arguments.url.as_deref(), async |relay| {
        let answer = relay.request_text(Method::GET, &path).await?;
        let report: Report = parse(&answer)?;
        if arguments.json {
            print(escape_json(&answer))?
        } else {
            print(report.render())?
        }
        Ok(ExitCode::SUCCESS)
    })
}

impl Report {
    /// A line for each field that has a value, without what would control a terminal.
    fn render(&self) -> String {
        let (attempts, status) = (self.attempts.map(|n| n.to_string()), self.status.map(|n| n.to_string()));
        let fields = [
            ("message id", Some(&self.message_id)),
            ("outcome", Some(&self.outcome)),
            ("user id", self.user_id.as_ref()),
            ("stored at", self.stored_at.as_ref()),
            ("attempts", attempts.as_ref()),
            ("status", status.as_ref()),
            ("reason", self.reason.as_ref()),
        ];
        let mut text = String::new();
        for (name, value) in fields {
            if let Some(value) = value {
                // Writing into memory cannot fail.
                let _ = writeln!(text, "{name:<12}{}", escape(value));
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// The id as one segment of a path.
fn percent_encoded(id: &str) -> String {
    let mut encoded = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing into memory cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::{Report, parse, percent_encoded};

    #[test]
    fn each_field_with_a_value_is_a_line_that_controls_no_terminal() {
        let answer = r#"{"messageId":"m-1","outcome":"refused","userId":"c\u001b[2J","storedAt":"2026-11-22T06:28:00.000Z",
            "attempts":3,"status":400,"reason":"no such plan"}"#;
        let expected = "\
message id  m-1
outcome     refused
user id     c\\u{1b}[2J
stored at   2026-11-22T06:28:00.000Z
attempts    3
status      400
reason      no such plan";
        assert_eq!(parse::<Report>(answer).unwrap().render(), expected);
        let accepted: Report = parse(r#"{"messageId":"m-1","outcome":"accepted"}"#).unwrap();
        assert_eq!(accepted.render(), "message id  m-1\noutcome     accepted");
    }

    #[test]
    fn an_id_is_one_segment_of_the_path() {
        assert_eq!(percent_encoded("order 7/ü?#%"), "order%207%2F%C3%BC%3F%23%25");
        assert_eq!(percent_encoded("019ac4a6-5c1b_~."), "019ac4a6-5c1b_~.");
    }
}
