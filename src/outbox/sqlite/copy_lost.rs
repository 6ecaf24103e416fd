//! What the writer does when a file is lost: if it is one beside the outbox's file, all calls are copied into that file.

use std::time::Duration;

use super::checkpoint::copy_whole;
use super::file::BUSY_TIMEOUT;
use super::lost::LostFiles;
use super::watch::{Loss, LossExtent};
use super::writer::Writer;

impl Writer {
    /// Notes the loss. From now on nothing is stored.
    pub(super) fn lose(&mut self, loss: Loss) {
        if loss.extent == LossExtent::Content {
            self.state.set_unreadable();
        }
        let lost = self.lost.insert(LostFiles::new(loss, self.stats.waiting));
        if !lost.loses_calls() {
            // Nothing more is stored, so the copy may need its space.
            self.reserve.release();
            self.copy_lost(BUSY_TIMEOUT);
        }
        self.end_lost(false);
        self.publish_stats();
    }

    /// Copies all calls into the outbox's file after a file beside it was lost. If a reader or a full disk hinders this, the
    /// next tick tries again.
    pub(super) fn copy_lost(&mut self, wait: Duration) {
        if let Some(lost) = &mut self.lost
            && !lost.loses_calls()
            && !lost.is_copied
        {
            if !self.watch.has_file() {
                lost.loss.extent = LossExtent::File;
                return;
            }
            lost.is_copied = copy_whole(&self.conn, wait);
            lost.log_copy(self.watch.reader());
        }
    }
}
