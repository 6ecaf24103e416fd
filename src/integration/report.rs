//! A result as JSON.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::service::SegmentIntegrationResult;

/// A result as JSON: `{"success":true}` or `{"success":false,"error":{"message":"...","code":"..."}}`.
///
/// ```
/// use segment_relay::{ErrorCode, Receipt, ResultReport, SegmentError, SegmentIntegrationResult};
///
/// let accepted: SegmentIntegrationResult = Ok(Receipt::accepted("message-1".to_owned()));
/// assert_eq!(serde_json::to_string(&ResultReport(&accepted))?, r#"{"success":true}"#);
///
/// let refused = Err(SegmentError::new(ErrorCode::Rejected, "traits are malformed"));
/// assert_eq!(
///     serde_json::to_string(&ResultReport(&refused))?,
///     r#"{"success":false,"error":{"message":"traits are malformed","code":"segment_rejected"}}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
pub struct ResultReport<'a>(pub &'a SegmentIntegrationResult);

impl Serialize for ResultReport<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct ErrorReport<'a> {
            message: &'a str,
            code: &'static str,
        }
        let mut report = serializer.serialize_struct("ResultReport", 2)?;
        report.serialize_field("success", &self.0.is_ok())?;
        if let Err(error) = self.0 {
            report.serialize_field("error", &ErrorReport { message: &error.message, code: error.code.as_str() })?;
        }
        report.end()
    }
}
