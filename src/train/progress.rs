//! Progress bars.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::callback::{Callback, Flow, Moment};
use crate::Result;

/// A bar for each epoch of a training, on standard error, with the mean loss, the speed and the part of the time spent
/// waiting for data. It is gone when the epoch is over, and silent if standard error is not a terminal.
#[derive(Debug, Default)]
pub struct Progress {
    num_epochs: Option<u64>,
    /// The bar of the epoch at hand.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Bars that number the epochs from 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says of how many epochs each is one.
    #[must_use]
    pub fn epochs(mut self, num_epochs: u64) -> Self {
        self.num_epochs = Some(num_epochs);
        self
    }

    fn begin(&self, moment: &Moment<'_>) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix} [{wide_bar}] {pos}/{len}  {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(Some(moment.num_batches()), ProgressDrawTarget::stderr());
        let of = self.num_epochs.map(|num_epochs| format!("/{num_epochs}")).unwrap_or_default();
        bar.with_style(style).with_prefix(format!("epoch {}{of}", moment.epoch() + 1))
    }
}

impl Callback for Progress {
    fn on_step(&mut self, moment: &mut Moment<'_>) -> Result<Flow> {
        if self.bar.is_none() {
            self.bar = Some(self.begin(moment));
        }
        if let Some(bar) = self.bar.as_ref().filter(|bar| !bar.is_hidden()) {
            bar.set_position(moment.num_batches() - moment.num_batches_left());
            bar.set_message(format!(
                "loss {:.4}  {:.0} samples/s  data wait {:.1} %",
                moment.mean_loss(),
                moment.samples_per_second(),
                100.0 * moment.waited().as_secs_f64() / moment.elapsed().as_secs_f64()
            ));
        }
        Ok(Flow::Continue)
    }

    fn on_epoch(&mut self, _moment: &mut Moment<'_>) -> Result<Flow> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        Ok(Flow::Continue)
    }
}

/// An epoch that was left leaves no bar.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
