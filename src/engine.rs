//! What a loader's handles share: the recipe behind a name of the batch's type only, the pool, and the runs.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use crate::batch::assemble::Assemble;
#[cfg(feature = "async")]
use crate::error::Error;
use crate::error::Result;
use crate::failure::{OnFailure, Receipt};
#[cfg(feature = "async")]
use crate::job::fetch::RemoteJob;
use crate::job::{BatchJob, Course};
use crate::partial::{Outcome, Recipe};
use crate::plan::{PartOfEpoch, Plan};
#[cfg(feature = "async")]
use crate::remote::{policy::RequestPolicy, runtime::Runtime};
use crate::report::{Meters, RequestMeter};
use crate::requests::Requests;
#[cfg(feature = "async")]
use crate::stage::Fetched;
use crate::stage::Stage;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
#[cfg(feature = "async")]
use crate::workers::fetch::FetchRun;
use crate::workers::pace::Pace;
use crate::workers::pool::Pool;
use crate::workers::run::{Drive, Feed, Job, Run, Settings, max_batches};
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
    /// The account of the requests, if there are any.
    fn requests(&self) -> Option<&RequestMeter> {
        None
    }
}

/// A recipe whose samples the workers load.
struct LocalKitchen<P: Stage, A: Assemble<P>>(Arc<Recipe<P, A>>);

impl<P: Stage<Input = ()>, A: Assemble<P>> Kitchen<A::Batch> for LocalKitchen<P, A> {
    fn start(&self, course: Course, end: u64, engine: &Engine<A::Batch>) -> Arc<dyn Feed<Outcome<A::Batch>>> {
        Arc::new(engine.run(BatchJob { recipe: Arc::clone(&self.0), course }, end))
    }
    fn barrier(&self) -> bool {
        self.0.gate.is_some()
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.0.on_epoch_start(epoch)
    }
}

/// A recipe whose samples are fetched.
#[cfg(feature = "async")]
struct RemoteKitchen<P: Stage, A: Assemble<P>> {
    // First: what is left of requests goes with its thread, and the sequence after it, where the loader is dropped.
    runtime: Runtime,
    recipe: Arc<Recipe<P, A>>,
    policy: Arc<RequestPolicy>,
}

#[cfg(feature = "async")]
impl<P: Stage, A: Assemble<P>> Kitchen<A::Batch> for RemoteKitchen<P, A> {
    fn start(&self, course: Course, end: u64, engine: &Engine<A::Batch>) -> Arc<dyn Feed<Outcome<A::Batch>>> {
        let batches = BatchJob { recipe: Arc::clone(&self.recipe), course };
        let run = engine.run(RemoteJob { batches, policy: Arc::clone(&self.policy) }, end);
        FetchRun::start(run, self.policy.concurrency, self.runtime.place().clone(), &engine.meters)
    }
    fn barrier(&self) -> bool {
        self.recipe.gate.is_some()
    }
    fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        self.recipe.on_epoch_start(epoch)
    }
    fn requests(&self) -> Option<&RequestMeter> {
        Some(&self.policy.meter)
    }
}

/// What the first stage needs besides a visit, and how it comes by it. Not to be implemented outside this crate.
pub trait Supply: Send + Sized + 'static {
    /// Whether it is fetched.
    const IS_REMOTE: bool;

    #[doc(hidden)]
    #[allow(private_interfaces, reason = "the trait is public for being a bound, and sealed by these types")]
    fn kitchen<P: Stage<Input = Self>, A: Assemble<P>>(
        recipe: Arc<Recipe<P, A>>,
        requests: Requests,
    ) -> Result<Box<dyn Kitchen<A::Batch>>>;
}

impl Supply for () {
    const IS_REMOTE: bool = false;

    #[allow(private_interfaces, reason = "the trait is public for being a bound, and sealed by these types")]
    fn kitchen<P: Stage<Input = Self>, A: Assemble<P>>(
        recipe: Arc<Recipe<P, A>>,
        _: Requests,
    ) -> Result<Box<dyn Kitchen<A::Batch>>> {
        Ok(Box::new(LocalKitchen(recipe)))
    }
}

#[cfg(feature = "async")]
impl<T: Send + 'static> Supply for Fetched<T> {
    const IS_REMOTE: bool = true;

    #[allow(private_interfaces, reason = "the trait is public for being a bound, and sealed by these types")]
    fn kitchen<P: Stage<Input = Self>, A: Assemble<P>>(
        recipe: Arc<Recipe<P, A>>,
        requests: Requests,
    ) -> Result<Box<dyn Kitchen<A::Batch>>> {
        let (policy, runtime) = requests.prepare()?;
        if recipe.gate.is_some() && !runtime.is_own() {
            let message = "a sequence with a barrier on a runtime of the caller's, expected the loader's own: the hook \
                           waits for requests to end";
            return Err(Error::argument(message));
        }
        Ok(Box::new(RemoteKitchen { runtime, recipe, policy: Arc::new(policy) }))
    }
}

impl<B: Send + 'static> Engine<B> {
    fn run<J: Job>(&self, job: J, end: u64) -> Run<J> {
        let (pace, bell) = (Arc::clone(&self.pace), Arc::clone(self.pool.bell()));
        Run::new(job, end, self.plan.max_rows(), self.settings.clone(), pace, bell)
    }

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
    pub(crate) fn start(self: &Arc<Self>, first: PartOfEpoch, more: u64) -> Arc<RunHandle<B>> {
        let whole = self.plan.part_of_epoch(0, 0, 0);
        let batches_per_epoch = whole.num_batches;
        let course = Course { first, whole };
        let left = max_batches(self.plan.max_rows()).saturating_sub(first.num_batches);
        let more = left.checked_div(batches_per_epoch).map_or(0, |most| more.min(most));
        let end = first.num_batches + more * batches_per_epoch;
        let run = self.kitchen.start(course, end, self);
        let drive: Arc<dyn Drive> = Arc::clone(&run) as _;
        self.pool.add(Arc::clone(&drive));
        let (taken, abandoned) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(RunHandle { run, drive, engine: Arc::clone(self), end, taken, abandoned })
    }
}

/// A run and the workers' hold on it. Dropping the last reference cancels the run.
pub(crate) struct RunHandle<B: Send + 'static> {
    run: Arc<dyn Feed<Outcome<B>>>,
    // The same run, as the workers see it.
    drive: Arc<dyn Drive>,
    engine: Arc<Engine<B>>,
    // The number of the run's batches.
    end: u64,
    // How many batches were taken. Only the one epoch that takes from the run at a time writes to it.
    taken: AtomicU64,
    // No epoch goes on with this run.
    abandoned: AtomicBool,
}

impl<B: Send + 'static> RunHandle<B> {
    pub(crate) fn run(&self) -> &dyn Feed<Outcome<B>> {
        &*self.run
    }

    pub(crate) fn drive(&self) -> &Arc<dyn Drive> {
        &self.drive
    }

    /// Notes that so many batches were taken.
    pub(crate) fn record_taken(&self, taken: u64) {
        self.taken.store(taken, Ordering::Release);
    }

    /// Whether an epoch of so many batches can be the next one of this run, of which so many were to be taken.
    pub(crate) fn goes_on(&self, taken: u64, num_batches: u64) -> bool {
        !self.is_abandoned() && self.taken.load(Ordering::Acquire) == taken && self.end >= taken + num_batches
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Ends the run: nothing more is taken from it, and no epoch goes on with it.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
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
        self.engine.pool.remove(&self.drive);
    }
}
