//! The loader: joins the plan, the stages, the assembly and the workers.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::batch::Spares;
use crate::batch::assemble::{Assemble, AugmentedBatch, Collated, Stacked};
use crate::collate::Collate;
use crate::engine::{Engine, Supply};
use crate::epoch::{Epoch, Epochs};
use crate::error::{BoxError, Error, Result};
use crate::failure::{OnFailure, Receipt, Retry};
use crate::gate::Gate;
use crate::partial::Recipe;
use crate::plan::{Plan, State, Tail, World};
#[cfg(feature = "async")]
use crate::remote::AsyncSequence;
use crate::report::{Meters, Report};
use crate::requests::Requests;
use crate::rng::VisitRng;
use crate::sampler::{InOrder, Sampler, Shuffle};
use crate::sequence::Sequence;
use crate::stage::{Augment, Map, Root, Stage, Transformed, TryMap};
#[cfg(feature = "async")]
use crate::stage::{Fetched, Remote};
use crate::sync::{AtomicUsize, Ordering};
use crate::transform::Transform;
use crate::workers::pace::Pace;
use crate::workers::pool::Pool;
use crate::workers::run::Settings;
use crate::workers::tuner::Tuner;

/// The most that may be in flight at once: the bound on memory, and what keeps workers from running ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// Twice the number of workers, at least 4 batches; widened while that helps, to 1,024 batches or 8 MiB of them at
    /// most. Where the size of a batch is not known beforehand, to four times the number of workers, at least 16. Of a
    /// [remote](Loader::remote) loader it begins with as many batches as hold twice the requests that may be in flight, at
    /// most 1,024, whatever they weigh; where their size is not known, it is widened to eight times as many.
    Auto,
    /// This many batches, at least 1.
    Batches(usize),
    /// This many bytes of samples, queued, in work and parked together; or the batch that is due, where that alone is
    /// larger. Exact for samples of a fixed layout and for sequences that know
    /// [`size_bytes`](Sequence::size_bytes); where a size is only known after loading, the largest seen so far stands
    /// for it, and the bound is exceeded by at most one sample a worker. At most 1,024 batches are in flight. Samples
    /// are claimed one at a time then, which costs some speed when they are tiny.
    ///
    /// Of a [remote](Loader::remote) loader it is one sample for each request in flight, and what was fetched for a
    /// transform does not count until that has made a sample of it: at most two for each request that may be in flight.
    ///
    /// A batch that a [`Collate`] makes counts by its own size once it is made
    /// ([`batch_bytes`](Collate::batch_bytes)): one that is padded may be many times larger than its samples. That is not
    /// known before, so the bound is exceeded by what the batches in work at that moment grow by, and no other sample is
    /// let in until there is room again. A batch that a closure makes counts as its samples do, whatever it is.
    Bytes(u64),
}

/// The largest window in batches.
const MAX_WINDOW: usize = 1 << 16;
const MAX_AUTO_WINDOW: usize = 1024;
const MAX_AUTO_WINDOW_BYTES: usize = 8 << 20;
const MAX_BYTES_WINDOW: usize = 1024;
const MAX_WORKERS: usize = 4096;
const MAX_AUTO_WORKERS: usize = 64;
const DEFAULT_BATCH_SIZE: u64 = 32;

/// Describes a loader. Made by [`Loader::builder`].
#[derive(Debug)]
pub struct LoaderBuilder<P, A = Stacked> {
    stage: P,
    assemble: A,
    len: usize,
    options: Options,
}

struct Options {
    sampler: Option<Box<dyn Sampler>>,
    shuffle: Option<u64>,
    seed: Option<u64>,
    batch_size: Option<u64>,
    // Whether the samples are batches: one for each rank.
    ready: bool,
    tail: Tail,
    world: World,
    num_workers: Option<usize>,
    window: Window,
    timeout: Option<Duration>,
    on_failure: OnFailure,
    retry: Retry,
    requests: Requests,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("sampler", &self.sampler.as_ref().map(|sampler| sampler.describe()))
            .field("shuffle", &self.shuffle)
            .field("seed", &self.seed)
            .field("batch_size", &self.batch_size)
            .field("ready", &self.ready)
            .field("tail", &self.tail)
            .field("world", &self.world)
            .field("num_workers", &self.num_workers)
            .field("window", &self.window)
            .field("timeout", &self.timeout)
            .field("on_failure", &self.on_failure)
            .field("retry", &self.retry)
            .field("requests", &self.requests)
            .finish()
    }
}

/// Feeds a training loop: every sample of a sequence exactly once per epoch, loaded by a pool of workers, delivered in
/// order, the same for any number of workers.
///
/// The workers live as long as the loader and what it handed out. Dropping the last of these returns when the running
/// `get` calls have (see [`timeout`](LoaderBuilder::timeout) for those that never do).
///
/// # Examples
///
/// ```
/// use procession::Loader;
///
/// let loader = Loader::builder((0..10_u32).collect::<Vec<_>>())
///     .map(|number| number * number)
///     .batch_size(4)
///     .shuffle(7)
///     .workers(2)
///     .build()?;
/// for epoch in loader.epochs(0..2) {
///     let mut sum = 0;
///     for batch in epoch {
///         sum += batch?.sum();
///     }
///     assert_eq!(sum, (0..10_u32).map(|number| number * number).sum::<u32>());
/// }
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Loader<B: Send + 'static> {
    engine: Arc<Engine<B>>,
}

impl<B: Send + 'static> Clone for Loader<B> {
    /// Another handle on the same loader and its workers.
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine) }
    }
}

impl<B: Send + 'static> fmt::Debug for Loader<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("plan", &self.engine.plan)
            .field("num_workers", &self.num_workers())
            .finish_non_exhaustive()
    }
}

impl Loader<()> {
    /// Begins the description of a loader for a sequence.
    pub fn builder<S: Sequence + 'static>(sequence: S) -> LoaderBuilder<Root<S>> {
        LoaderBuilder::new(sequence.len(), Root(sequence))
    }

    /// Begins the description of a loader for an asynchronous sequence: many requests are in flight at once, and what
    /// they bring goes on to the workers, in any order; batches come in the plan's order all the same.
    ///
    /// [`concurrency`](LoaderBuilder::concurrency) sets how many; [`timeout`](LoaderBuilder::timeout) and
    /// [`retry`](LoaderBuilder::retry) what becomes of those that are not answered, and
    /// [`rate_limit`](LoaderBuilder::rate_limit) how many are sent in a second. Where samples are stacked as they come,
    /// without transforms, there is nothing to compute and by default there are no workers.
    ///
    /// The requests run on a thread and a tokio runtime of the loader's own, unless
    /// [`runtime`](LoaderBuilder::runtime) names another. Batches are taken by a loop or, in asynchronous code, by
    /// [`Epoch::stream`](crate::Epoch::stream).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use procession::{Loader, Retry, async_from_fn};
    ///
    /// let service = async_from_fn(100, |index| async move {
    ///     tokio::time::sleep(Duration::from_millis(2)).await;
    ///     Ok::<_, std::io::Error>(vec![index as u8; 10])
    /// });
    /// let loader = Loader::remote(service)
    ///     .concurrency(32)
    ///     .timeout(Duration::from_secs(5))
    ///     .retry(Retry::times(4))
    ///     .map(|bytes| bytes.iter().map(|&byte| f32::from(byte)).sum::<f32>())   // on the workers
    ///     .batch_size(10)
    ///     .shuffle(7)
    ///     .build()?;
    /// for batch in loader.epoch(0) {
    ///     assert_eq!(batch?.len(), 10);
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[cfg(feature = "async")]
    pub fn remote<S: AsyncSequence + 'static>(sequence: S) -> LoaderBuilder<Remote<S>> {
        LoaderBuilder::new(sequence.len(), Remote(sequence))
    }
}

impl<B: Send + 'static> Loader<B> {
    /// The epochs of a range, one after the other; `0..` goes on for ever. The first batches of an epoch load while
    /// the last ones of the epoch before are consumed. Leaving an epoch early discards what was loaded ahead, and the
    /// next one starts clean.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::Loader;
    ///
    /// let loader = Loader::builder(vec![1_u8, 2, 3]).batch_size(2).build()?;
    /// let numbers: Vec<_> = loader.epochs(5..7).map(|epoch| epoch.number()).collect();
    /// assert_eq!(numbers, [5, 6]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn epochs(&self, range: impl RangeBounds<u64>) -> Epochs<B> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            // Nothing comes after the last epoch, and a range that starts there is empty as its end lies before.
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        // Inclusive, so that every epoch can be named; an empty range has no last epoch.
        let last = match range.end_bound() {
            Bound::Included(&last) => Some(last),
            Bound::Excluded(&end) => end.checked_sub(1),
            Bound::Unbounded => Some(u64::MAX),
        };
        Epochs::new(Arc::clone(&self.engine), start, last.filter(|&last| start <= last))
    }

    /// One epoch.
    pub fn epoch(&self, epoch: u64) -> Epoch<B> {
        self.epochs(epoch..=epoch).next().expect("a range of one epoch has one")
    }

    /// The order as a pure function.
    pub fn plan(&self) -> &Plan {
        &self.engine.plan
    }

    /// The state before the first batch of an epoch.
    pub fn state(&self, epoch: u64) -> State {
        let plan = &self.engine.plan;
        plan.state(&plan.part_of_epoch(epoch, 0, 0), 0)
    }

    /// The number of batches in an epoch.
    pub fn num_batches(&self) -> u64 {
        self.engine.plan.num_batches()
    }

    /// The number of workers, now: where it is left to the loader it may change while batches are taken.
    pub fn num_workers(&self) -> usize {
        self.engine.settings.num_workers.load(Ordering::Relaxed)
    }

    /// Where the time went since the loader was built.
    pub fn report(&self) -> Report {
        self.engine.meters.report(self.num_workers(), self.engine.kitchen.requests())
    }

    /// The account of the epoch that ended last, completely or not.
    pub fn last_receipt(&self) -> Option<Receipt> {
        self.engine.last_receipt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<P> LoaderBuilder<P, Stacked> {
    fn new(len: usize, stage: P) -> Self {
        let options = Options {
            sampler: None,
            shuffle: None,
            seed: None,
            batch_size: None,
            ready: false,
            tail: Tail::Keep,
            world: World::default(),
            num_workers: None,
            window: Window::Auto,
            timeout: None,
            on_failure: OnFailure::Stop,
            retry: Retry::default(),
            requests: Requests::default(),
        };
        Self { stage, assemble: Stacked, len, options }
    }
}

#[cfg(feature = "async")]
impl<T: Send + 'static, P: Stage<Input = Fetched<T>>, A> LoaderBuilder<P, A> {
    /// Sets how many requests may be in flight at once: 1 to 65,536, and 64 by default. As many samples that were fetched
    /// may wait for a worker, before no more are asked for.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.options.requests.concurrency = Some(concurrency);
        self
    }

    /// Limits how many requests are sent in a second, over all epochs of the loader, those that are tried again included.
    /// They go at even distances. Unlimited by default.
    pub fn rate_limit(mut self, per_second: f64) -> Self {
        self.options.requests.per_second = Some(per_second);
        self
    }

    /// Sets the tokio runtime that requests run on: one with timers, such as clients that are bound to a runtime need.
    /// By default it is one of the loader's own, on a thread of its own.
    ///
    /// A loop over batches within the runtime's own tasks is possible where it has several threads. On a current-thread
    /// runtime it would hold up its requests, so it is an error of kind [`Argument`](crate::ErrorKind::Argument), and
    /// batches are taken by [`Epoch::stream`](crate::Epoch::stream). A runtime that is shut down before the epoch is over
    /// ends it with an error of kind [`Interrupted`](crate::ErrorKind::Interrupted).
    pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.options.requests.runtime = Some(runtime);
        self
    }
}

impl<P: Stage> LoaderBuilder<P, Stacked> {
    /// Applies a function to every sample, on the workers. It must be pure; what is random goes to
    /// [`augment`](Self::augment), and what can fail to [`try_map`](Self::try_map).
    pub fn map<T: Send + 'static>(
        self,
        f: impl Fn(P::Sample) -> T + Send + Sync + 'static,
    ) -> LoaderBuilder<impl Stage<Sample = T, Input = P::Input>, Stacked> {
        self.stage(|stage| Map(stage, f))
    }

    /// Applies a function that may fail to every sample, on the workers. Its error becomes the cause of the sample's.
    pub fn try_map<T: Send + 'static, E: Into<BoxError> + 'static>(
        self,
        f: impl Fn(P::Sample) -> Result<T, E> + Send + Sync + 'static,
    ) -> LoaderBuilder<impl Stage<Sample = T, Input = P::Input>, Stacked> {
        self.stage(|stage| TryMap(stage, f))
    }

    /// Applies a function of a sample and of the visit's random stream, on the workers. The stream follows from seed,
    /// epoch, position and the number of this augmentation alone: the same for any number of workers, and after a
    /// resume.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::Loader;
    ///
    /// let numbers = |workers| {
    ///     let loader = Loader::builder(vec![0.0_f32; 8])
    ///         .augment(|zero, rng| zero + rng.uniform_f32())
    ///         .batch_size(8)
    ///         .workers(workers)
    ///         .build()?;
    ///     loader.epoch(0).next().unwrap()
    /// };
    /// assert_eq!(*numbers(0)?, *numbers(4)?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn augment<T: Send + 'static>(
        self,
        f: impl Fn(P::Sample, &mut VisitRng) -> T + Send + Sync + 'static,
    ) -> LoaderBuilder<impl Stage<Sample = T, Input = P::Input>, Stacked> {
        self.stage(|stage| Augment(stage, f))
    }

    /// Applies a [`Transform`] to every sample, on the workers; where it knows its layout, straight into the batch. It
    /// has a random stream as an augmentation has.
    pub fn transform<T: Transform<P::Sample>>(
        self,
        transform: T,
    ) -> LoaderBuilder<impl Stage<Sample = T::Output, Input = P::Input>, Stacked> {
        self.stage(|stage| Transformed(stage, transform))
    }

    /// Makes batches by a function of the samples instead of stacking them: for types of one's own, or shapes that no
    /// [`Collate`] makes ([`collate_with`](Self::collate_with)). It runs on the workers. Where a rank has no part in the
    /// last batch, the samples are none.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::Loader;
    ///
    /// let words = ["a", "few", "words"].map(str::to_owned).to_vec();
    /// let loader = Loader::builder(words).collate(|words| Ok(words.join(" "))).batch_size(3).build()?;
    /// assert_eq!(*loader.epoch(0).next().unwrap()?, "a few words");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn collate<B, F>(self, f: F) -> LoaderBuilder<P, Collated<F, P::Sample, B>>
    where
        F: Fn(Vec<P::Sample>) -> Result<B> + Send + Sync + 'static,
        B: Send + 'static,
    {
        LoaderBuilder { stage: self.stage, assemble: Collated::new(f), len: self.len, options: self.options }
    }

    /// Makes batches by a [`Collate`] instead of stacking the samples: padded, ragged or packed ones, see
    /// [`collate`](mod@crate::collate). It runs on the workers. It also tells the memory that a sample takes, for a window in
    /// bytes ([`Window::Bytes`]), unless [`measure`](Self::measure) does, and that of a batch.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::{Loader, collate};
    ///
    /// let sentences: Vec<Vec<u32>> = vec![vec![5, 6, 7], vec![8]];
    /// let loader = Loader::builder(sentences).collate_with(collate::pad(0)).batch_size(2).build()?;
    /// assert_eq!(loader.epoch(0).next().unwrap()?.values, ndarray::array![[5, 6, 7], [8, 0, 0]]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[allow(clippy::type_complexity, reason = "the type is what it says")]
    pub fn collate_with<C: Collate<P::Sample>>(
        self,
        collate: C,
    ) -> LoaderBuilder<
        P,
        Collated<impl Fn(Vec<P::Sample>) -> Result<C::Batch> + Send + Sync + 'static, P::Sample, C::Batch>,
    > {
        let assemble =
            Collated::new(move |samples| collate.collate(samples)).measured(C::size_bytes).weighed(C::batch_bytes);
        LoaderBuilder { stage: self.stage, assemble, len: self.len, options: self.options }
    }

    /// Takes the sequence's samples for ready batches, as Keras's `Sequence` yields them: an index is a batch, and
    /// the batch size has no effect.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::{Loader, from_fn};
    ///
    /// let batches = from_fn(3, |index| vec![index; 2]);
    /// let loader = Loader::builder(batches).ready_batches().build()?;
    /// let all: Vec<_> = loader.epoch(0).map(|batch| batch.map(|batch| batch.into_inner())).collect::<Result<_, _>>()?;
    /// assert_eq!(all, [[0, 0], [1, 1], [2, 2]]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[allow(clippy::type_complexity, reason = "the type is what it says")]
    pub fn ready_batches(
        self,
    ) -> LoaderBuilder<P, Collated<fn(Vec<P::Sample>) -> Result<P::Sample>, P::Sample, P::Sample>> {
        let mut options = self.options;
        options.ready = true;
        let only: fn(Vec<P::Sample>) -> Result<P::Sample> =
            |mut samples| samples.pop().ok_or_else(|| Error::argument("no batch"));
        let assemble = Collated::new(only).needs_samples();
        LoaderBuilder { stage: self.stage, assemble, len: self.len, options }
    }

    fn stage<Q: Stage>(self, f: impl FnOnce(P) -> Q) -> LoaderBuilder<Q, Stacked> {
        LoaderBuilder { stage: f(self.stage), assemble: self.assemble, len: self.len, options: self.options }
    }
}

impl<P, F, S, B> LoaderBuilder<P, Collated<F, S, B>> {
    /// Tells the memory that a sample takes, in bytes, for a window in bytes ([`Window::Bytes`]). By default it is the
    /// size of the type, without what it points to.
    pub fn measure(mut self, f: fn(&S) -> usize) -> Self {
        self.assemble = self.assemble.measured(f);
        self
    }
}

impl<P, A> LoaderBuilder<P, A> {
    /// Sets the number of samples in a batch, over all ranks together: 1 to 2^24. 32 by default.
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.options.batch_size = Some(batch_size as u64);
        self
    }

    /// Shuffles the whole sequence afresh every epoch, by a seed that is also that of the random streams unless
    /// [`seed`](Self::seed) sets another. In order by default.
    pub fn shuffle(mut self, seed: u64) -> Self {
        (self.options.shuffle, self.options.sampler) = (Some(seed), None);
        self
    }

    /// Sets the sampler: the order of indices, in every epoch. Takes the place of [`shuffle`](Self::shuffle).
    pub fn sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.options.sampler = Some(Box::new(sampler));
        self
    }

    /// Sets the seed of the visits' random streams. By default that of [`shuffle`](Self::shuffle), or else 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = Some(seed);
        self
    }

    /// Sets what happens to the last, smaller batch. It is kept by default.
    pub fn tail(mut self, tail: Tail) -> Self {
        self.options.tail = tail;
        self
    }

    /// Sets which of how many processes this is. A single one by default.
    pub fn world(mut self, world: World) -> Self {
        self.options.world = world;
        self
    }

    /// Sets the number of workers, at most 4,096. By default it is left to the loader: one for each processor that this
    /// process may use, and more, up to 64, while batches are waited for and that makes them come faster. With 0 samples are
    /// loaded in the thread that asks for batches, when it asks: the same output, for debugging.
    pub fn workers(mut self, num_workers: usize) -> Self {
        self.options.num_workers = Some(num_workers);
        self
    }

    /// Sets how much may be in flight at once. [`Window::Auto`] by default.
    pub fn window(mut self, window: Window) -> Self {
        self.options.window = window;
        self
    }

    /// Sets how long a sample may take, retries included. Of a [remote](Loader::remote) loader it is how long each request
    /// may take, 60 seconds by default; one that takes longer is given up, and tried again if there are
    /// [retries](Self::retry) left. If it is set, transforms may take as long again. A sample that takes longer is an error of kind
    /// [`Timeout`](crate::ErrorKind::Timeout) at its place in the order, and another worker takes over. The stuck
    /// thread ends when its `get` returns; dropping the loader does not wait for it. Without a time-out (the default)
    /// a sample that never returns holds up its epoch and the loader's drop for ever.
    ///
    /// What a sequence does in its `get` counts, such as the end of the file of a
    /// disk cache (`cached_on_disk`), which is synced with the last sample that is loaded into it.
    ///
    /// Samples are then loaded one at a time and put in their rows afterwards, which costs an allocation each where
    /// they are arrays. Has no effect without workers, so that one can look at a sample in a debugger.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Sets what happens when a sample cannot be loaded. The epoch stops by default.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.options.on_failure = on_failure;
        self
    }

    /// Sets how often and when a sample that gave an error is tried again, before it counts as failed. Never by
    /// default.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.options.retry = retry;
        self
    }
}

impl<P: Stage, A: Assemble<P>> LoaderBuilder<P, A> {
    /// Changes every batch once it is made, by a function of the batch and of a random stream of its own, on the workers:
    /// for what mixes samples, such as mixup and cutmix.
    ///
    /// The stream follows from seed, epoch and the position of the batch's first row, so that it is the same for any
    /// number of workers and after a resume. With several ranks each changes its own part of the batch. Rows that are
    /// padding ([`Tail::Pad`]) are among those that are changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::Loader;
    ///
    /// // Each batch is scaled by a number of its own.
    /// let loader = Loader::builder(vec![1.0_f32; 8])
    ///     .batch_size(4)
    ///     .augment_batch(|batch, rng| *batch *= 1.0 + rng.uniform_f32())
    ///     .build()?;
    /// let batches = loader.epoch(0).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(batches[0][0], batches[0][3]);
    /// assert_ne!(batches[0][0], batches[1][0]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn augment_batch<F>(self, f: F) -> LoaderBuilder<P, AugmentedBatch<A, F>>
    where
        F: Fn(&mut A::Batch, &mut VisitRng) + Send + Sync + 'static,
    {
        let purpose = self.stage.num_streams() + self.assemble.num_streams();
        let assemble = AugmentedBatch::new(self.assemble, f, purpose);
        LoaderBuilder { stage: self.stage, assemble, len: self.len, options: self.options }
    }

    /// How many batches have room for all requests that may be in flight, and for as many samples that are computed or
    /// wait for that.
    #[cfg(feature = "async")]
    fn window_for(requests: &Requests, is_remote: bool, plan: &Plan) -> usize {
        let rows = 2 * requests.concurrency().min(MAX_WINDOW);
        if is_remote { (rows.div_ceil(plan.max_rows().max(1)) + 2).min(MAX_AUTO_WINDOW) } else { 0 }
    }

    #[cfg(not(feature = "async"))]
    fn window_for(_: &Requests, _: bool, _: &Plan) -> usize {
        0
    }

    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// If an option has a value that it must not have, the sampler gives indices that the sequence does not have, or
    /// the system has no thread to give.
    pub fn build(self) -> Result<Loader<A::Batch>>
    where
        P::Input: Supply,
    {
        let Self { stage, assemble, len, options } = self;
        let len = len as u64;
        let sampler: Arc<dyn Sampler> = match (options.sampler, options.shuffle) {
            (Some(sampler), _) => Arc::from(sampler),
            (None, Some(seed)) => Arc::new(Shuffle::new(len, seed)),
            (None, None) => Arc::new(InOrder::new(len)),
        };
        if sampler.bound() > len {
            let (sampler, bound) = (sampler.describe(), sampler.bound());
            let message = format!("the sampler {sampler} gives indices up to {}, expected below {len}", bound - 1);
            return Err(Error::argument(message));
        }
        let ranks = u64::from(options.world.size());
        if options.ready && options.tail == Tail::Keep && !sampler.len().is_multiple_of(ranks) {
            let message = format!(
                "{} ready batches cannot be shared evenly by {ranks} ranks, expected the tail to be dropped or padded",
                sampler.len()
            );
            return Err(Error::argument(message));
        }
        let batch_size = match (options.ready, options.batch_size) {
            (false, batch_size) => batch_size.unwrap_or(DEFAULT_BATCH_SIZE),
            (true, None) => ranks,
            (true, Some(batch_size)) => {
                return Err(Error::argument(format!("batch size {batch_size} for ready batches, expected none")));
            }
        };
        let plan = Plan::from_shared(sampler, batch_size)?
            .tail(options.tail)
            .world(options.world)
            .seed(options.seed.or(options.shuffle).unwrap_or(0));
        if let OnFailure::Skip(budget) = &options.on_failure {
            budget.check()?;
        }
        #[cfg(feature = "async")]
        let requests = Requests { timeout: options.timeout, ..options.requests };
        #[cfg(not(feature = "async"))]
        let requests = options.requests;
        if options.timeout == Some(Duration::ZERO) {
            return Err(Error::argument("a time-out of zero, expected a longer one"));
        }
        let is_remote = <P::Input as Supply>::IS_REMOTE;
        // What is fetched and only stacked needs no workers.
        let needs_workers = !(is_remote && stage.passes_through() && assemble.is_light());
        let num_workers = options.num_workers.unwrap_or_else(|| if needs_workers { num_cpus::get() } else { 0 });
        if num_workers > MAX_WORKERS {
            return Err(Error::argument(format!("{num_workers} workers, expected at most {MAX_WORKERS}")));
        }
        let fixed_layout = assemble.fixed_layout(&stage);
        let (window, max_window, window_bytes) = match options.window {
            Window::Auto => {
                let window = (2 * num_workers).max(4).max(Self::window_for(&requests, is_remote, &plan));
                let row_bytes = fixed_layout.as_ref().and_then(|layout| assemble.row_bytes(layout));
                let most = match row_bytes.map(|row_bytes| row_bytes.saturating_mul(plan.max_rows())) {
                    Some(batch_bytes) => (MAX_AUTO_WINDOW_BYTES / batch_bytes.max(1)).min(MAX_AUTO_WINDOW),
                    None => (4 * num_workers).max(16),
                };
                // All requests may be behind one that takes its time.
                let unknown = is_remote && row_bytes.is_none();
                let most = if unknown { most.max((8 * window).min(MAX_AUTO_WINDOW)) } else { most };
                (window, most.max(window), None)
            }
            Window::Batches(0) => return Err(Error::argument("a window of 0 batches, expected at least 1")),
            Window::Batches(batches) if batches > MAX_WINDOW => {
                return Err(Error::argument(format!("a window of {batches} batches, expected at most {MAX_WINDOW}")));
            }
            Window::Batches(batches) => (batches, batches, None),
            Window::Bytes(bytes) => (MAX_BYTES_WINDOW, MAX_BYTES_WINDOW, Some(bytes)),
        };
        let settings = Settings {
            window,
            max_window,
            window_bytes,
            timeout: options.timeout,
            num_workers: Arc::new(AtomicUsize::new(num_workers)),
        };
        let now = Instant::now();
        let tuner =
            (options.num_workers.is_none() && needs_workers).then(|| Tuner::new(num_workers, MAX_AUTO_WORKERS, now));
        // Memory of dropped batches that the next ones can use: as many as can be under way at once. What waits here is not
        // counted where bytes are bounded. That is right if all batches have one size: none is allocated while another one
        // waits, so there are never more than were in flight at once, and those that the consumer holds.
        let num_spares = max_window + 2;
        let one_size = fixed_layout.as_ref().is_some_and(|layout| assemble.row_bytes(layout).is_some());
        let keeps_data = A::REUSES_BATCHES && (window_bytes.is_none() || one_size);
        let gate = stage.source().barrier().then(Gate::new);
        let recipe = Arc::new(Recipe {
            stage,
            assemble,
            plan: plan.clone(),
            len,
            on_failure: options.on_failure,
            retry: options.retry,
            spares: Arc::new(Spares::new(num_spares, keeps_data)),
            fixed_layout,
            gate,
        });
        let kitchen = P::Input::kitchen(recipe, requests)?;
        let meters = Arc::new(Meters::new());
        let pool = Pool::start(num_workers, options.timeout, Arc::clone(&meters))?;
        Ok(Loader {
            engine: Arc::new(Engine {
                kitchen,
                plan,
                on_failure: options.on_failure,
                settings,
                tuner: tuner.map(Mutex::new),
                meters,
                pace: Arc::new(Pace::new()),
                last_receipt: Mutex::new(None),
                only_run: Mutex::new(Weak::new()),
                pool,
            }),
        })
    }
}
