//! MoQ viewers.

use super::{observer::Observer, plan::Target, viewers::Failed};

/// Watches until the server ends it.
pub(super) async fn watch(target: &Target, _observer: &mut Observer) -> Result<(), Failed> {
    Err(Failed::Refused(format!("{}: MoQ viewers are not there yet", target.url.scheme())))
}
