//! Can Segment be reached? Asked with a request that holds no call, so that nothing can arrive.

use std::time::SystemTime;

use super::batch::Batch;
use super::retry::{self, Answer, Verdict};
use super::transport::Transport;
use crate::config::SegmentSettings;
use crate::segment::SegmentError;

/// Sends an empty batch once. `Ok` says what was answered: anything that shows that Segment's API is there, a refusal of
/// the empty batch included.
///
/// # Errors
/// The outer error if HTTPS cannot be set up; the inner one if Segment is not there, or does not take our credentials.
pub async fn reach(settings: &SegmentSettings) -> anyhow::Result<Result<String, SegmentError>> {
    let transport = Transport::new(settings.clone())?;
    let answer = transport.attempt(&Batch::default(), 0).await;
    let said = match &answer {
        Answer::Status { status, .. } => format!("it answered {status}"),
        Answer::NotSent(_) | Answer::Lost(_) => String::new(),
    };
    Ok(match retry::judge(&answer, SystemTime::now()) {
        Verdict::Accepted | Verdict::Refused { .. } | Verdict::RateLimited { .. } | Verdict::Exhausted { .. } => {
            Ok(said)
        }
        Verdict::Passing { why, .. } | Verdict::AboutUs(why) => Err(why),
    })
}
