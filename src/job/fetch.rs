//! Rows whose samples are fetched first, by tasks, and computed by the workers afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{BatchJob, Loaded};
use crate::batch::assemble::Assemble;
use crate::error::{Error, ErrorKind, Result};
use crate::partial::{Partial, Recipe};
use crate::remote::policy::RequestPolicy;
use crate::rng::Visit;
use crate::stage::{Stage, Timer};
use crate::sync::Breaker;
use crate::trace;
use crate::workers::fetch::FetchJob;
use crate::workers::run::{Context, Job};

/// The job of a run whose samples are fetched.
pub(crate) struct RemoteJob<P: Stage, A: Assemble<P>> {
    pub(crate) batches: BatchJob<P, A>,
    pub(crate) policy: Arc<RequestPolicy>,
}

/// What came of fetching a row.
pub(crate) struct Fetched<I> {
    visit: Visit,
    // An error has its place already.
    input: Result<I>,
    // How often it was tried again.
    retries: u32,
}

impl<P: Stage, A: Assemble<P>> RemoteJob<P, A> {
    fn recipe(&self) -> &Recipe<P, A> {
        &self.batches.recipe
    }

    /// Asks for an input until it is there, or was asked for often enough.
    async fn ask(&self, visit: &Visit, retries: &mut u32, breaker: &Breaker) -> Result<P::Input> {
        let recipe = self.recipe();
        if *retries > 0 {
            tokio::time::sleep(recipe.retry.pause(*retries - 1, visit)).await;
        }
        loop {
            if let Some(limiter) = &self.policy.limiter {
                limiter.turn().await;
            }
            let answer = {
                let _pass = match &recipe.gate {
                    Some(gate) => Some(gate.pass_later().await),
                    None => None,
                };
                // Called within the future: what the user's function does before it has one may panic too.
                self.policy.send(async { recipe.stage.fetch(visit.index() as usize).await }).await
            };
            match answer {
                Err(error) if error.kind() != ErrorKind::Panic && self.may_retry(*retries, breaker) => {
                    tokio::time::sleep(recipe.retry.pause(*retries, visit)).await;
                    *retries += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Makes the sample of what was fetched, and says what memory it takes.
    fn load(&self, seq: u64, visit: &Visit, input: P::Input) -> Result<(P::Sample, u64)> {
        let recipe = self.recipe();
        #[allow(clippy::let_unit_value, reason = "a guard with the feature `tracing`")]
        let _span = trace::load(visit.epoch(), self.batches.place(seq).1.number);
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            let sample = recipe.stage.load(visit, input, &mut Timer::new(false))?;
            let bytes = recipe.assemble.size_bytes(&sample) as u64;
            Ok((sample, bytes))
        }));
        let loaded = loaded.unwrap_or_else(|payload| Err(Error::panicked(payload)));
        loaded.map_err(|error| recipe.locate(error, visit))
    }

    fn may_retry(&self, retries: u32, breaker: &Breaker) -> bool {
        retries < self.recipe().retry.num_retries() && !breaker.is_broken()
    }
}

impl<P: Stage, A: Assemble<P>> FetchJob for RemoteJob<P, A> {
    type Fetched = Fetched<P::Input>;

    async fn fetch(&self, seq: u64, row: usize, mut retries: u32, breaker: &Breaker) -> Fetched<P::Input> {
        let (epoch, plan) = self.batches.place(seq);
        let position = plan.first_position + row as u64 * plan.step;
        let (index, drawn) = self.batches.draw_one(epoch, position);
        let visit = self.recipe().visit(epoch, position, index);
        let input = match drawn {
            Ok(()) => {
                let input = self.ask(&visit, &mut retries, breaker).await;
                input.map_err(|error| self.recipe().locate(error, &visit))
            }
            Err(error) => Err(error),
        };
        Fetched { visit, input, retries }
    }

    fn is_light(&self) -> bool {
        self.recipe().stage.passes_through() && self.recipe().assemble.is_light()
    }

    fn writes_in_place(&self, fetched: &Fetched<P::Input>, context: Context<'_>) -> bool {
        // A row can be written once: what may be fetched again is computed apart.
        let recipe = self.recipe();
        recipe.fixed_layout.is_some()
            && (fetched.input.is_err() || !self.may_retry(fetched.retries, context.breaker))
            && (!context.weigh || self.batches.fixed_bytes(1).is_some())
    }

    fn write(&self, seq: u64, row: usize, partial: &Partial<P, A>, fetched: Fetched<P::Input>) -> u64 {
        let recipe = self.recipe();
        let Fetched { visit, input, .. } = fetched;
        let (body, input) = match (partial.body.get().and_then(|body| body.as_ref().ok()), input) {
            (Some(body), Ok(input)) => (body, input),
            // It could not be fetched, or there is no memory for the batch, which the row says for itself.
            (_, input) => {
                let sample = input.and_then(|input| self.load(seq, &visit, input));
                return self.place(seq, row, partial, Loaded { index: visit.index(), sample });
            }
        };
        #[allow(clippy::let_unit_value, reason = "a guard with the feature `tracing`")]
        let _span = trace::load(partial.epoch, partial.plan.number);
        partial.indices.claim(row..row + 1).row(0)[0] = visit.index();
        let mut chunk = body.rows.claim(row..row + 1);
        let mut timer = Timer::new(false);
        let written = catch_unwind(AssertUnwindSafe(|| {
            recipe.assemble.load_into(&recipe.stage, &visit, input, &mut chunk, 0, &mut timer)
        }));
        if let Err(error) = written.unwrap_or_else(|payload| Err(Error::panicked(payload))) {
            partial.fail(row, recipe.locate(error, &visit));
        }
        self.batches.fixed_bytes(partial.plan.num_rows).filter(|_| row == 0).unwrap_or(0)
    }

    fn compute(
        &self,
        seq: u64,
        fetched: Fetched<P::Input>,
        context: Context<'_>,
    ) -> std::result::Result<Loaded<P::Sample>, u32> {
        let Fetched { visit, input, retries } = fetched;
        let sample = match input {
            Ok(input) => match self.load(seq, &visit, input) {
                Err(error) if error.kind() != ErrorKind::Panic && self.may_retry(retries, context.breaker) => {
                    return Err(retries + 1);
                }
                sample => sample,
            },
            Err(error) => Err(error),
        };
        Ok(Loaded { index: visit.index(), sample })
    }
}

impl<P: Stage, A: Assemble<P>> Job for RemoteJob<P, A> {
    type Partial = <BatchJob<P, A> as Job>::Partial;
    type Loaded = <BatchJob<P, A> as Job>::Loaded;
    type Output = <BatchJob<P, A> as Job>::Output;

    fn num_rows(&self, seq: u64) -> usize {
        self.batches.num_rows(seq)
    }
    fn open(&self, seq: u64) -> Self::Partial {
        self.batches.open(seq)
    }
    fn timed_out(&self, seq: u64, row: usize, timeout: std::time::Duration) -> Self::Loaded {
        self.batches.timed_out(seq, row, timeout)
    }
    fn place(&self, seq: u64, row: usize, partial: &Self::Partial, loaded: Self::Loaded) -> u64 {
        Job::place(&self.batches, seq, row, partial, loaded)
    }
    fn close(&self, seq: u64, partial: Self::Partial) -> Self::Output {
        self.batches.close(seq, partial)
    }
    fn size_bytes(&self, seq: u64, row: usize) -> Option<u64> {
        self.batches.size_bytes(seq, row)
    }
    fn batch_bytes(&self, output: &Self::Output) -> Option<u64> {
        self.batches.batch_bytes(output)
    }
}
