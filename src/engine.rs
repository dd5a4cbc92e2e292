//! What a loader's handles share: the recipe behind a name of the batch's type only, the pool, and the runs.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use crate::batch::assemble::Assemble;
use crate::error::Result;
use crate::failure::{OnFailure, Receipt};
use crate::job::{BatchJob, Course};
use crate::partial::{Outcome, Recipe};
use crate::plan::{PartOfEpoch, Plan};
use crate::report::Meters;
use crate::stage::Stage;
use crate::sync::{AtomicU64, Ordering};
use crate::workers::pace::Pace;
use crate::workers::pool::Pool;
use crate::workers::run::{Feed, Run, Settings, max_batches};
use crate::workers::tuner::Tuner;

/// What a loader's handles share. It names the batch's type only; the types of the stages are behind `Kitchen`.
pub(crate) struct Engine<B: Send + 'static> {
    pub(crate) kitchen: Box<dyn Kitchen<B>>,
    pub(crate) plan: Plan,
    pub(crate) on_failure: OnFailure,
    pub(crate) settings: Settings,
    // Present if the number of workers is left to the loader.
    pub(crate) tuner: Option<Mutex<Tuner>>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) last_receipt: Mutex<Option<Receipt>>,
    /// The run of a sequence with a barrier: there is one at a time.
    pub(crate) only_run: Mutex<Weak<RunHandle<B>>>,
    // Last: runs are cancelled by the handles that hold them, before the pool waits for its threads.
    pub(crate) pool: Pool,
}

/// Starts runs of a recipe.
pub(crate) trait Kitchen<B: Send + 'static>: Send + Sync {
    fn start(&self, course: Course, end: u64, engine: &Engine<B>) -> Arc<dyn Feed<Outcome<B>>>;
    fn barrier(&self) -> bool;
    fn on_epoch_start(&self, epoch: u64) -> Result<()>;
}

impl<P: Stage, A: Assemble<P>> Kitchen<A::Batch> for Arc<Recipe<P, A>> {
    fn start(&self, course: Course, end: u64, engine: &Engine<A::Batch>) -> Arc<dyn Feed<Outcome<A::Batch>>> {
        let job = BatchJob { recipe: Arc::clone(self), course };
        let (pace, bell) = (Arc::clone(&engine.pace), Arc::clone(engine.pool.bell()));
        Arc::new(Run::new(job, end, engine.plan.max_rows(), engine.settings.clone(), pace, bell))
    }

    fn barrier(&self) -> bool {
        self.gate.is_some()
    }

    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        let hook = || self.stage.source().on_epoch_start(epoch);
        match &self.gate {
            Some(gate) => gate.run_alone(hook),
            None => hook(),
        }
    }
}

impl<B: Send + 'static> Engine<B> {
    pub(crate) fn barrier(&self) -> bool {
        self.kitchen.barrier()
    }

    pub(crate) fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.kitchen.on_epoch_start(epoch)
    }

    /// Looks, after the consumer had to wait, whether another number of workers would be better.
    pub(crate) fn tune(&self) {
        // Somebody else's look is as good as this one.
        if let Some(Ok(mut tuner)) = self.tuner.as_ref().map(Mutex::try_lock)
            && let Some(num_workers) = tuner.decide(Instant::now(), self.meters.reading())
        {
            self.settings.num_workers.store(self.pool.resize(num_workers), Ordering::Relaxed);
        }
    }

    /// Starts a run over a part of an epoch and the `more` epochs after it, or as many of them as one run can number.
    /// Returns it with the number of its batches.
    pub(crate) fn start(&self, first: PartOfEpoch, more: u64) -> (Arc<dyn Feed<Outcome<B>>>, u64) {
        let whole = self.plan.part_of_epoch(0, 0, 0);
        let batches_per_epoch = whole.num_batches;
        let course = Course { first, whole };
        let left = max_batches(self.plan.max_rows()).saturating_sub(first.num_batches);
        let more = left.checked_div(batches_per_epoch).map_or(0, |most| more.min(most));
        let end = first.num_batches + more * batches_per_epoch;
        let run = self.kitchen.start(course, end, self);
        self.pool.add(Arc::clone(&run) as _);
        (run, end)
    }
}

/// A run and the workers' hold on it. Dropping the last reference cancels the run.
pub(crate) struct RunHandle<B: Send + 'static> {
    pub(crate) run: Arc<dyn Feed<Outcome<B>>>,
    pub(crate) engine: Arc<Engine<B>>,
    // The number of the run's batches.
    pub(crate) end: u64,
    // How many batches were taken, or `ABANDONED`.
    pub(crate) taken: AtomicU64,
}

/// No epoch goes on with this run.
pub(crate) const ABANDONED: u64 = u64::MAX;

impl<B: Send + 'static> RunHandle<B> {
    /// Ends the run: nothing more is taken from it, and no epoch goes on with it.
    pub(crate) fn abandon(&self) {
        self.taken.store(ABANDONED, Ordering::Release);
        self.run.cancel();
    }
}

impl<B: Send + 'static> fmt::Debug for RunHandle<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl<B: Send + 'static> Drop for RunHandle<B> {
    fn drop(&mut self) {
        self.run.cancel();
        self.engine.pool.remove(&(Arc::clone(&self.run) as _));
    }
}
